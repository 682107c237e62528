// Maps of step by frequency: recorded decisions or a quantity, predicted decisions, and the crosshair over
// them.

import { CODES, reasonColors } from "../shared/reasons.js";
import { clamp } from "../shared/scales.js";
import { packed, ramp } from "../shared/theme.js";

// What the map can show, by the name that the address uses.
export const SHADES = {
  why: "Decisions",
  e: "Event score over threshold",
  drift: "Drift dₖ of the network’s input since it was last computed",
  age: "Age of the features",
  spectrum: "Amplitude |Xₖ| of the noisy state",
  reuse: "|C_kept − C_fresh| / |C_fresh|, if it had been reused",
};
const RAMP = 255;

// A cell's value by index into the arrays and step, for each quantity of `SHADES`.
const READERS = {
  e: (rec) => (i, s) => rec.e[i] / rec.at("tau", s),
  drift: (rec) => (i) => rec.drift[i],
  age: (rec) => (i) => rec.age[i],
  spectrum: (rec, channel) => (i) => rec.spectrum[i * rec.M + channel],
  reuse: (rec) => {
    const { names } = rec.inside;
    const C = names.indexOf("C");
    return (i, s) => rec.kept[(s * names.length + C) * rec.n + i - s * rec.n];
  },
};

// A bitmap with n rows and as many columns as there are pixels. Where steps share one, the largest value
// shows.
const bitmap = (page, name, value, color) => {
  const plot = page.plots[name];
  const { count, n, total } = page.rec;
  const columns = Math.max(1, Math.min(total, Math.floor((plot.right - plot.left) * plot.ratio)));
  const key = `${name} ${columns} ${page.shade} ${page.stamp}`;
  if (page.images[name]?.key === key) return page.images[name].sheet;
  const values = new Float32Array(columns * n).fill(-1);
  for (let s = 0; s < count; s++) {
    const at = Math.floor((s * columns) / total) * n;
    for (let k = 0; k < n; k++) values[at + k] = Math.max(values[at + k], value(s * n + k, s));
  }
  const sheet = document.createElement("canvas");
  sheet.width = columns;
  sheet.height = n;
  const context = sheet.getContext("2d");
  const image = context.createImageData(columns, n);
  const words = new Uint32Array(image.data.buffer);
  for (let c = 0; c < columns; c++)
    for (let k = 0; k < n; k++)
      if (values[c * n + k] >= 0) words[(n - 1 - k) * columns + c] = color(values[c * n + k]);
  context.putImageData(image, 0, 0);
  page.images[name] = { key, sheet };
  return sheet;
};

// Packed colors of the decisions' codes, and from low to high.
const tints = (page) => {
  const { theme } = page;
  page.tints ??= {
    codes: reasonColors(theme).map(packed),
    ramp: ramp(theme.reused, theme.colors[0], RAMP),
  };
  return page.tints;
};

// Logarithms of a low and a high quantile of the positive values.
const logRange = (rec, read) => {
  const values = [];
  for (let i = 0; i < rec.count * rec.n; i += 7) {
    const v = read(i, Math.floor(i / rec.n));
    if (v > 0 && Number.isFinite(v)) values.push(v);
  }
  values.sort((a, b) => a - b);
  const quantile = (q, other) => Math.log(values[Math.floor(values.length * q)] || other);
  return [quantile(0.02, 1e-6), quantile(0.995, 1)];
};

// The bitmap of a map, the name of what it shows, and a cell's value.
const picture = (page, name) => {
  const { rec, shade } = page;
  const { codes, ramp: colors } = tints(page);
  if (name === "would" || shade === "why") {
    const { reasons } = name === "would" ? page.would : rec;
    const reason = (i) => reasons[i];
    return [bitmap(page, name, reason, (code) => codes[code]), CODES, reason];
  }
  const read = READERS[shade](rec, page.channel);
  const [lo, hi] = logRange(rec, read);
  const level = (i, s) => {
    const v = read(i, s);
    return v > 0 ? clamp((Math.log(v) - lo) / (hi - lo || 1), 0, 1) : 0;
  };
  return [bitmap(page, name, level, (v) => colors[Math.round(v * RAMP)]), SHADES[shade], read];
};

// The step, and on a map the frequency, that the other panels show.
export const crosshair = (page, plot, y) => {
  const { dark, text } = page.theme;
  const c = plot.ctx;
  const x = plot.sharp(page.step + 0.5);
  for (const [color, width] of [
    [dark ? "#000" : "#fff", 3],
    [text, 1],
  ]) {
    plot.vertical(x, color, { width });
    if (y !== undefined) plot.horizontal(Math.round(y) + 0.5, color, { width });
  }
  if (y === undefined) return;
  c.lineWidth = 2;
  c.beginPath();
  c.arc(x, y, 5, 0, 6.3);
  c.stroke();
};

export const drawMap = (page, name) => {
  const plot = page.plots[name];
  const { rec, shade, theme: t } = page;
  const { n, total } = rec;
  const axes = () =>
    plot.axes(t, { domain: [0, total], title: "step" }, { domain: [0, n], title: "frequency k" });
  if (name === "would" && !page.would) {
    axes();
    return;
  }
  plot.layer(`${page.stamp} ${shade} ${page.channel}`, () => {
    axes();
    const [sheet, what, value] = picture(page, name);
    plot.cells(sheet, what, rec.count, n, (s, k) => value(s * n + k, s));
    if (name === "would") return;
    plot.section.querySelector("h3").textContent =
      `${SHADES[shade]}: step × frequency. Drag, or use the arrow keys.`;
    for (const [first] of rec.policies.slice(1)) plot.vertical(plot.sharp(first), t.text, { dash: [2, 3] });
  });
  crosshair(page, plot, plot.y(page.k + 0.5));
};
