// The Save menu of a board: its picture (PNG, SVG), a standalone page (HTML) and the data behind it (CSV,
// Parquet). A board has plots, lab, theme and draw(), and says its title(), caption() and file().

import { base64, download } from "./files.js";
import { canFilm, FILM_S, filmOf } from "./film.js";
import { pageColor, pngOf, shownPlots, svgOf } from "./sheet.js";
import { escaped, tag } from "./svg.js";
import { csvOf, tableOf } from "./table.js";

const STYLE = (back, text) =>
  `body{margin:24px auto;max-width:1500px;padding:0 16px;background:${back};color:${text}}
body{font:15px/1.5 sans-serif}svg{max-width:100%;height:auto}
th{text-align:left;font-weight:400;padding-right:24px}
td{font-weight:600}a{color:inherit}`;

// The tiles that are shown, as rows of a table.
const tileRows = (board) =>
  [...board.lab.querySelectorAll(".tiles > div, .why dl > div")]
    .filter((box) => box.offsetParent)
    .map((box) => {
      const value = box.querySelector("dd").innerText.replace(/\s+/g, " ");
      const name = tag("th", {}, escaped(box.querySelector("dt").textContent));
      return tag("tr", {}, name + tag("td", {}, escaped(value)));
    });

const htmlOf = (board) => {
  const data = base64(new TextEncoder().encode(csvOf(tableOf(board))));
  const csv = { download: `${board.file()}.csv`, href: `data:text/csv;base64,${data}` };
  const links = [tag("a", csv, "The data behind the image (CSV)")];
  // The address of a page opened from a disk would tell where it lies.
  if (location.protocol !== "file:") links.push(tag("a", { href: location.href }, "This view in the lab"));
  const body = [
    tag("h1", {}, escaped(board.title())),
    tag("p", {}, escaped(board.caption())),
    board.words ? tag("p", {}, escaped(board.words())) : "",
    svgOf(board),
    tag("table", {}, tileRows(board).join("")),
    tag("p", {}, links.join(" · ")),
  ];
  const title = tag("title", {}, escaped(board.caption()));
  const style = tag("style", {}, STYLE(pageColor(board), board.theme.text));
  const head = tag("head", {}, `<meta charset="utf-8">${title}${style}`);
  return `<!doctype html>${tag("html", { lang: "en" }, head + tag("body", {}, body.join("")))}`;
};

// The server writes Parquet: the courier of the page takes the table there and brings the file back.
const askForParquet = (board) =>
  window.dispatchEvent(
    new CustomEvent("e2crf-parquet", { detail: { file: board.file(), csv: csvOf(tableOf(board)) } }),
  );

const FORMATS = {
  png: { label: "PNG", help: "Image at the resolution of this screen", make: pngOf },
  svg: {
    label: "SVG",
    help: "Image that can be scaled and edited",
    make: (board) => new Blob([svgOf(board)], { type: "image/svg+xml" }),
  },
  html: {
    label: "HTML",
    help: "Standalone page with image, numbers and data",
    make: (board) => new Blob([htmlOf(board)], { type: "text/html" }),
  },
  webm: {
    label: "WebM",
    help: `Film of the whole run; making it takes ${FILM_S} seconds`,
    film: true,
  },
  csv: {
    label: "CSV",
    help: "The data behind the image",
    make: (board) => new Blob([csvOf(tableOf(board))], { type: "text/csv" }),
  },
  parquet: {
    label: "Parquet",
    help: "The data as a table for pandas and similar tools",
    ask: askForParquet,
  },
};

const button = ({ label, help }, save) => {
  const node = document.createElement("button");
  node.type = "button";
  node.textContent = label;
  node.title = help;
  node.addEventListener("click", (event) => {
    event.stopPropagation();
    save();
  });
  return node;
};

// Makes a film while the menu's head tells how far it is; a click on the head ends it.
const saveFilm = async (board, head) => {
  let going = true;
  const stop = (event) => {
    event.preventDefault();
    going = false;
  };
  head.addEventListener("click", stop);
  try {
    const film = await filmOf(board, (share) => {
      head.textContent = `Filming ${Math.round(100 * share)} % (stop)`;
      return going;
    });
    if (film) download(`${board.file()}.webm`, film);
  } finally {
    head.removeEventListener("click", stop);
    head.textContent = "Save";
  }
};

export const saveMenu = (board) => {
  const menu = document.createElement("details");
  const list = document.createElement("div");
  const head = document.createElement("summary");
  const close = () => {
    menu.open = false;
    head.focus();
  };
  menu.className = "save";
  head.textContent = "Save";
  head.title = "Save this view as an image, a page or data";
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", "Save this view as");
  for (const [kind, format] of Object.entries(FORMATS)) {
    if (format.film && !("frames" in board && canFilm())) continue;
    const save = async () => {
      if (!shownPlots(board).length || head.textContent !== "Save") return;
      if (format.film) {
        close();
        await saveFilm(board, head);
        return;
      }
      if (format.ask) format.ask(board);
      else download(`${board.file()}.${kind}`, await format.make(board));
      close();
    };
    const item = button(format, save);
    item.dataset.kind = kind;
    list.append(item);
  }
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
  menu.append(head, list);
  return menu;
};
