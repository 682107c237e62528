// What is shown, to take away: the picture (PNG, SVG), a page of its own (HTML) and the numbers behind it (CSV, Parquet).

const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

// The part of a canvas context that the plots use, writing SVG. Coordinates are CSS pixels: scaling is left out.
class SvgContext {
  constructor(name) {
    this.name = name; this.parts = []; this.stack = []; this.clips = 0; this.path = ""; this.dash = []; this.clipped = "";
    Object.assign(this, { fillStyle: "#000", strokeStyle: "#000", lineWidth: 1, globalAlpha: 1, font: "11px sans-serif", textAlign: "left", textBaseline: "alphabetic", lineJoin: "miter" });
  }

  setTransform() {}
  clearRect() { this.parts = []; }
  save() { const { strokeStyle, fillStyle, lineWidth, globalAlpha, font, clipped, dash } = this; this.stack.push({ strokeStyle, fillStyle, lineWidth, globalAlpha, font, clipped, dash }); }
  restore() { Object.assign(this, this.stack.pop()); }
  setLineDash(dash) { this.dash = dash; }
  beginPath() { this.path = ""; }
  moveTo(x, y) { this.path += `M${this.at(x)} ${this.at(y)}`; }
  lineTo(x, y) { this.path += `L${this.at(x)} ${this.at(y)}`; }
  rect(x, y, w, h) { this.path += `M${this.at(x)} ${this.at(y)}h${this.at(w)}v${this.at(h)}h${this.at(-w)}z`; }
  // Plots draw whole circles only.
  arc(x, y, r) { this.path += `M${this.at(x - r)} ${this.at(y)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`; }
  at(v) { return +(+v).toFixed(2); }

  clip() {
    const id = `${this.name}-clip${++this.clips}`;
    this.parts.push(`<clipPath id="${id}"><path d="${this.path}"/></clipPath>`);
    this.clipped = id;
  }

  around(kind) {
    return (kind ? ` class="${kind}"` : "") + (this.globalAlpha < 1 ? ` opacity="${this.globalAlpha}"` : "") + (this.clipped ? ` clip-path="url(#${this.clipped})"` : "");
  }

  stroke() {
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash.join(" ")}"` : "";
    if (this.path) this.parts.push(`<path d="${this.path}" fill="none" stroke="${escaped(this.strokeStyle)}" stroke-width="${this.lineWidth}" stroke-linejoin="${this.lineJoin}"${dash}${this.around(this.kind)}/>`);
  }

  fill() { this.parts.push(`<path d="${this.path}" fill="${escaped(this.fillStyle)}"${this.around(this.kind)}/>`); }
  fillRect(x, y, w, h) { this.parts.push(`<rect x="${this.at(x)}" y="${this.at(y)}" width="${this.at(Math.max(0, w))}" height="${this.at(Math.max(0, h))}" fill="${escaped(this.fillStyle)}"${this.around(this.kind)}/>`); }
  drawImage(source, x, y, w, h) { this.parts.push(`<image href="${source.toDataURL()}" x="${this.at(x)}" y="${this.at(y)}" width="${this.at(w)}" height="${this.at(h)}" preserveAspectRatio="none" style="image-rendering:pixelated"${this.around("cells")}/>`); }

  fillText(text, x, y) {
    const anchor = { right: "end", center: "middle" }[this.textAlign] || "start";
    const line = { top: "text-before-edge", middle: "central", bottom: "text-after-edge" }[this.textBaseline] || "auto";
    this.parts.push(`<text x="${this.at(x)}" y="${this.at(y)}" text-anchor="${anchor}" dominant-baseline="${line}" fill="${escaped(this.fillStyle)}" style="font:${escaped(this.font).replace(/&quot;/g, "'")}">${escaped(text)}</text>`);
  }
}

const shownPlots = (board) => Object.values(board.plots).filter((p) => p.width && !p.section.hidden);

// Every shown plot drawn once more into `context(plot)`; `recording` collects what lines, dots, bars and cells show.
const recorded = (board, context) => {
  const plots = shownPlots(board), own = plots.map((p) => p.ctx);
  plots.forEach((p, i) => { p.ctx = context(p, i); p.recording = []; p.layerKey = null; });
  board.slow = 0;
  try { board.draw(); return plots.map((p) => ({ plot: p, ctx: p.ctx, marks: p.recording })); }
  finally { plots.forEach((p, i) => { p.ctx = own[i]; p.recording = null; p.layerKey = null; }); board.draw(); }
};

// Title and legend of each plot, in the rows and columns in which the page shows them, on a context of either kind.
const furnished = (board, c, plots, put) => {
  const origin = board.lab.getBoundingClientRect(), boxes = plots.map((p) => p.section.getBoundingClientRect()), starts = new Map();
  let height = 30;
  // Rows without a plot are left out, so each row that has one gets a place of its own.
  for (const row of [...new Set(boxes.map((b) => Math.round(b.top)))].sort((a, b) => a - b)) {
    starts.set(row, height);
    height += Math.max(...boxes.filter((b) => Math.round(b.top) === row).map((b) => b.height)) + 8;
  }
  const width = origin.width;
  return { width, height, draw: () => {
    let top = 0;
    const text = (words, box, font) => { c.font = `${font} ${board.theme.font}`; c.fillStyle = board.theme.text; c.textAlign = "left"; c.textBaseline = "middle"; c.fillText(words, box.left - origin.left, box.top - top + box.height / 2); };
    c.fillStyle = getComputedStyle(board.lab).getPropertyValue("--st-background-color").trim() || "#fff"; c.fillRect(0, 0, width, height);
    text(board.caption(), { left: origin.left + 8, top: 6, height: 18 }, "12px");
    for (const [i, p] of plots.entries()) {
      const title = p.section.querySelector("h3");
      top = boxes[i].top - starts.get(Math.round(boxes[i].top));
      text(title.textContent, { left: title.getBoundingClientRect().left, top: title.getBoundingClientRect().top, height: 18 }, "600 13px");
      for (const item of p.section.querySelectorAll(".legend span")) {
        const key = item.querySelector("i"), box = key.getBoundingClientRect(), words = item.getBoundingClientRect();
        c.fillStyle = key.style.getPropertyValue("--c"); c.fillRect(box.left - origin.left, box.top - top, box.width, box.height);
        text(item.textContent, { left: box.right + 5, top: words.top, height: words.height }, "12px");
      }
      const box = p.canvas.getBoundingClientRect();
      put(p, box.left - origin.left, box.top - top);
    }
  } };
};

const pngOf = (board) => {
  const sheet = document.createElement("canvas"), c = sheet.getContext("2d"), plots = shownPlots(board), { ratio } = plots[0];
  const { width, height, draw } = furnished(board, c, plots, (p, x, y) => c.drawImage(p.canvas, x, y, p.width, p.height));
  sheet.width = width * ratio; sheet.height = height * ratio;
  c.scale(ratio, ratio);
  draw();
  return new Promise((done) => sheet.toBlob(done, "image/png"));
};

const svgOf = (board) => {
  const c = new SvgContext("sheet"), made = recorded(board, (p, i) => new SvgContext(`plot${i}`));
  const { width, height, draw } = furnished(board, c, made.map(({ plot }) => plot), (p, x, y) => {
    const { ctx } = made.find(({ plot }) => plot === p);
    c.parts.push(`<g id="${escaped(p.section.dataset.panel)}" transform="translate(${x.toFixed(2)} ${y.toFixed(2)})">${ctx.parts.join("")}</g>`);
  });
  draw();
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${Math.ceil(width)}" height="${Math.ceil(height)}" viewBox="0 0 ${Math.ceil(width)} ${Math.ceil(height)}"><title>${escaped(board.caption())}</title>${c.parts.join("")}</svg>`;
};

// The numbers behind the picture: one row for each point of a line, dot, bar, or cell of a map.
const COLUMNS_TAKEN = ["panel", "series", "x", "k", "value"];
const tableOf = (board) => {
  const columns = { panel: [], series: [], x: [], k: [], value: [] };
  for (const { plot, marks } of recorded(board, (p) => new SvgContext("data"))) {
    const names = new Map(), seen = new Map();
    for (const item of plot.section.querySelectorAll(".legend span")) {
      const color = item.querySelector("i").style.getPropertyValue("--c").trim();
      if (!names.has(color)) names.set(color, item.textContent);
    }
    for (const { name, color, x, k, value, line } of marks) {
      const panel = `${plot.section.dataset.panel} by ${plot.titles.x || "quantity"}${k ? ` and ${plot.titles.y}` : ""}`;
      let series = name || names.get(String(color).trim()) || "";
      if (line) { const n = (seen.get(series) || 0) + 1; seen.set(series, n); if (n > 1) series += ` ${n}`; }
      if (!k) series = series ? `${series}: ${plot.titles.y}` : plot.titles.y;
      for (let i = 0; i < value.length; i++) {
        columns.panel.push(panel); columns.series.push(series); columns.x.push(x[i]); columns.k.push(k ? k[i] : NaN); columns.value.push(value[i]);
      }
    }
  }
  return columns;
};

const csvOf = (columns) => {
  const quoted = (v) => (typeof v === "number" ? (Number.isFinite(v) ? String(v) : "") : `"${String(v).replace(/"/g, '""')}"`);
  const lines = [COLUMNS_TAKEN.join(",")];
  for (let i = 0; i < columns.x.length; i++) lines.push(COLUMNS_TAKEN.map((name) => quoted(columns[name][i])).join(","));
  return lines.join("\n") + "\n";
};

// Apache Parquet, plain and uncompressed: texts as UTF-8, numbers as doubles, NaN where there is none. The footer and
// page headers are Thrift's compact protocol: a field is (difference of ids, type), whole numbers are zigzag varints.
const parquetOf = (columns) => {
  const utf8 = new TextEncoder(), rows = columns.x.length, chunks = [utf8.encode("PAR1")], metas = [];
  let size = 4;
  const varint = (out, n) => { while (n > 127) { out.push(n % 128 + 128); n = Math.floor(n / 128); } out.push(n); };
  const struct = (...fields) => {
    const out = [];
    let last = 0;
    for (const [id, kind, value] of fields) { out.push((id - last) * 16 + kind); last = id; encode(out, kind, value); }
    return [...out, 0];
  };
  const encode = (out, kind, value) => {
    if (kind === 5 || kind === 6) varint(out, value * 2);
    else if (kind === 8) { const bytes = utf8.encode(value); varint(out, bytes.length); out.push(...bytes); }
    else if (kind === 9) { const [of, items] = value; out.push(items.length * 16 + of); for (const item of items) encode(out, of, item); }
    else out.push(...value);
  };
  const add = (bytes) => { chunks.push(bytes); size += bytes.length; };
  for (const name of COLUMNS_TAKEN) {
    const text = name === "panel" || name === "series", values = columns[name];
    let body;
    if (text) {
      const known = new Map();
      const parts = values.map((v) => { if (!known.has(v)) known.set(v, utf8.encode(v)); return known.get(v); });
      body = new Uint8Array(parts.reduce((n, p) => n + 4 + p.length, 0));
      const view = new DataView(body.buffer);
      let at = 0;
      for (const p of parts) { view.setUint32(at, p.length, true); body.set(p, at + 4); at += 4 + p.length; }
    } else body = new Uint8Array(Float64Array.from(values).buffer);
    const start = size, kind = text ? 6 : 5;
    add(Uint8Array.from(struct([1, 5, 0], [2, 5, body.length], [3, 5, body.length], [5, 12, struct([1, 5, rows], [2, 5, 0], [3, 5, 3], [4, 5, 3])])));
    add(body);
    const meta = struct([1, 5, kind], [2, 9, [5, [0]]], [3, 9, [8, [name]]], [4, 5, 0], [5, 6, rows], [6, 6, size - start], [7, 6, size - start], [9, 6, start]);
    metas.push({ kind, name, chunk: struct([2, 6, start], [3, 12, meta]) });
  }
  const schema = [struct([4, 8, "schema"], [5, 5, metas.length]), ...metas.map(({ kind, name }) => (kind === 6 ? struct([1, 5, kind], [3, 5, 0], [4, 8, name], [6, 5, 0]) : struct([1, 5, kind], [3, 5, 0], [4, 8, name])))];
  const group = struct([1, 9, [12, metas.map(({ chunk }) => chunk)]], [2, 6, size - 4], [3, 6, rows]);
  const footer = Uint8Array.from(struct([1, 5, 1], [2, 9, [12, schema]], [3, 6, rows], [4, 9, [12, [group]]], [6, 8, "E2-CRF Lab"]));
  const tail = new Uint8Array(8);
  new DataView(tail.buffer).setUint32(0, footer.length, true); tail.set(utf8.encode("PAR1"), 4);
  return new Blob([...chunks, footer, tail]);
};

const htmlOf = (board) => {
  const style = getComputedStyle(board.lab), back = style.getPropertyValue("--st-background-color").trim() || "#fff", said = [...board.lab.querySelectorAll(".tiles > div, .why dl > div")].filter((box) => box.offsetParent);
  const rows = said.map((box) => `<tr><th>${escaped(box.querySelector("dt").textContent)}</th><td>${escaped(box.querySelector("dd").innerText.replace(/\s+/g, " "))}</td></tr>`).join("");
  const words = board.words ? `<p>${escaped(board.words())}</p>` : "";
  const data = new TextEncoder().encode(csvOf(tableOf(board)));
  let bytes = "";
  for (let i = 0; i < data.length; i += 8192) bytes += String.fromCharCode(...data.subarray(i, i + 8192));
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escaped(board.caption())}</title><style>body{margin:24px auto;max-width:1500px;padding:0 16px;font:15px/1.5 sans-serif;background:${back};color:${board.theme.text}}svg{max-width:100%;height:auto}th{text-align:left;font-weight:400;padding-right:24px}td{font-weight:600}a{color:inherit}</style></head><body><h1>${escaped(board.title())}</h1><p>${escaped(board.caption())}</p>${words}${svgOf(board)}<table>${rows}</table><p><a download="${escaped(board.file())}.csv" href="data:text/csv;base64,${btoa(bytes)}">The numbers behind the picture (CSV)</a> · <a href="${escaped(location.href)}">This view in the lab</a></p></body></html>`;
};

const TAKEN = {
  png: ["PNG", "Picture, as sharp as this screen", (board) => pngOf(board)],
  svg: ["SVG", "Picture that can be scaled and edited", (board) => new Blob([svgOf(board)], { type: "image/svg+xml" })],
  html: ["HTML", "A page of its own: picture, figures and data", (board) => new Blob([htmlOf(board)], { type: "text/html" })],
  csv: ["CSV", "The numbers behind what is shown", (board) => new Blob([csvOf(tableOf(board))], { type: "text/csv" })],
  parquet: ["Parquet", "The numbers, for pandas and the like", (board) => parquetOf(tableOf(board))],
};

// The menu of a board. A board has plots, lab, theme, draw(), and says its title(), caption() and file().
const takeAwayMenu = (board) => {
  const menu = document.createElement("details"), list = document.createElement("div"), head = document.createElement("summary");
  menu.className = "take"; head.textContent = "Save"; head.title = "Take what is shown away: picture, page or numbers";
  list.setAttribute("role", "group"); list.setAttribute("aria-label", "Save what is shown as");
  for (const [kind, [label, help, make]] of Object.entries(TAKEN)) {
    const button = document.createElement("button");
    button.type = "button"; button.textContent = label; button.title = help;
    button.addEventListener("click", async (event) => {
      event.stopPropagation();
      if (!shownPlots(board).length) return;
      const blob = await make(board), link = document.createElement("a");
      link.download = `${board.file()}.${kind}`; link.href = URL.createObjectURL(blob); link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
      menu.open = false; head.focus();
    });
    list.append(button);
  }
  menu.addEventListener("keydown", (event) => { if (event.key === "Escape") { menu.open = false; head.focus(); } });
  menu.addEventListener("focusout", (event) => { if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false; });
  menu.append(head, list);
  return menu;
};
