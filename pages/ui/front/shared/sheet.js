// All plots of a board on one sheet, with their titles and legends: as a bitmap or as SVG.

import { escaped, SvgContext, tag } from "./svg.js";

export const shownPlots = (board) =>
  Object.values(board.plots).filter((plot) => plot.width && !plot.section.hidden);

export const pageColor = (board) =>
  getComputedStyle(board.lab).getPropertyValue("--st-background-color").trim() || "#fff";

// Draws every shown plot once more, into `context(plot, index)`. `marks` are what lines, dots, bars and cells
// show.
export const recorded = (board, context) => {
  const plots = shownPlots(board);
  const contexts = plots.map((plot) => plot.ctx);
  const restart = (plot, ctx, recording) => Object.assign(plot, { ctx, recording, layerKey: null });
  plots.forEach((plot, i) => {
    restart(plot, context(plot, i), []);
  });
  board.slow = 0;
  try {
    board.draw();
    return plots.map((plot) => ({ plot, ctx: plot.ctx, marks: plot.recording }));
  } finally {
    plots.forEach((plot, i) => {
      restart(plot, contexts[i], null);
    });
    board.draw();
  }
};

// Where each plot's row begins on the sheet. Rows of the page without a plot are left out.
const sheetRows = (boxes) => {
  const starts = new Map();
  let height = 30;
  for (const row of [...new Set(boxes.map((box) => Math.round(box.top)))].sort((a, b) => a - b)) {
    starts.set(row, height);
    height += Math.max(...boxes.filter((box) => Math.round(box.top) === row).map((box) => box.height)) + 8;
  }
  return { starts, height };
};

// The sheet's size, and a function that draws it on the context `c`; `put(plot, x, y)` draws a plot itself.
const composed = (board, c, plots, put) => {
  const origin = board.lab.getBoundingClientRect();
  const boxes = plots.map((plot) => plot.section.getBoundingClientRect());
  const { starts, height } = sheetRows(boxes);
  const { width } = origin;
  let top = 0;
  const text = (words, box, font) => {
    c.font = `${font} ${board.theme.font}`;
    c.fillStyle = board.theme.text;
    c.textAlign = "left";
    c.textBaseline = "middle";
    c.fillText(words, box.left - origin.left, box.top - top + box.height / 2);
  };
  const legend = (item) => {
    const key = item.querySelector("i");
    const box = key.getBoundingClientRect();
    const words = item.getBoundingClientRect();
    c.fillStyle = key.style.getPropertyValue("--c");
    c.fillRect(box.left - origin.left, box.top - top, box.width, box.height);
    text(item.textContent, { left: box.right + 5, top: words.top, height: words.height }, "12px");
  };
  const draw = () => {
    c.fillStyle = pageColor(board);
    c.fillRect(0, 0, width, height);
    text(board.caption(), { left: origin.left + 8, top: 6, height: 18 }, "12px");
    plots.forEach((plot, i) => {
      const title = plot.section.querySelector("h3");
      const place = title.getBoundingClientRect();
      top = boxes[i].top - starts.get(Math.round(boxes[i].top));
      text(title.textContent, { left: place.left, top: place.top, height: 18 }, "600 13px");
      for (const item of plot.section.querySelectorAll(".legend span")) legend(item);
      const box = plot.canvas.getBoundingClientRect();
      put(plot, box.left - origin.left, box.top - top);
    });
  };
  return { width, height, draw };
};

// A canvas of the sheet's size, and a function that draws the plots on it as they are now.
export const sheetOf = (board) => {
  const sheet = document.createElement("canvas");
  const c = sheet.getContext("2d");
  const plots = shownPlots(board);
  const { ratio } = plots[0];
  const put = (plot, x, y) => c.drawImage(plot.canvas, x, y, plot.width, plot.height);
  const { width, height, draw } = composed(board, c, plots, put);
  sheet.width = width * ratio;
  sheet.height = height * ratio;
  c.scale(ratio, ratio);
  return { sheet, draw };
};

export const pngOf = (board) => {
  const { sheet, draw } = sheetOf(board);
  draw();
  return new Promise((done) => sheet.toBlob(done, "image/png"));
};

export const svgOf = (board) => {
  const c = new SvgContext("sheet");
  const drawn = new Map(
    recorded(board, (_, i) => new SvgContext(`plot${i}`)).map(({ plot, ctx }) => [plot, ctx]),
  );
  const put = (plot, x, y) => {
    const place = `translate(${x.toFixed(2)} ${y.toFixed(2)})`;
    c.parts.push(
      tag("g", { id: plot.section.dataset.panel, transform: place }, drawn.get(plot).parts.join("")),
    );
  };
  const sheet = composed(board, c, [...drawn.keys()], put);
  sheet.draw();
  const [width, height] = [Math.ceil(sheet.width), Math.ceil(sheet.height)];
  const attributes = {
    xmlns: "http://www.w3.org/2000/svg",
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
  };
  return tag("svg", attributes, tag("title", {}, escaped(board.caption())) + c.parts.join(""));
};
