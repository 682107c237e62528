// What several lessons use: ranges, reference lines, heat maps, the series of a data set.

import { short } from "../shared/text.js";

// Texts of the controls whose slider moves over something else than what is shown.
export const LABELS = { t: (v) => (v / 1000).toFixed(3), tau: (v) => short(10 ** (v / 100)) };

// Range of all finite values, with a margin.
export const extent = (...lists) => {
  let lo = Infinity;
  let hi = -Infinity;
  for (const list of lists)
    for (const v of list)
      if (Number.isFinite(v)) {
        lo = Math.min(lo, v);
        hi = Math.max(hi, v);
      }
  if (!(hi > lo)) {
    lo -= 1;
    hi += 1;
  }
  const pad = (hi - lo) * 0.08;
  return [lo - pad, hi + pad];
};

// A threshold, and a place that can be dragged; thicker while their tile is pointed at.
export const level = (plot, y, color) =>
  plot.horizontal(plot.y(y), color, { width: plot.lit === color ? 3 : 1.5, dash: [5, 4] });

export const upright = (plot, x, color) =>
  plot.vertical(plot.x(x), color, { width: plot.lit === color ? 3.5 : 1.5 });

// A map of value(column, row) in packed colors color(value), drawn once for a `key`.
export const heat = (lesson, plot, columns, rows, { key, name, value, color }) => {
  const { panel } = plot.section.dataset;
  if (lesson.sheets[panel]?.key !== key) {
    const sheet = document.createElement("canvas");
    sheet.width = columns;
    sheet.height = rows;
    const context = sheet.getContext("2d");
    const image = context.createImageData(columns, rows);
    const words = new Uint32Array(image.data.buffer);
    for (let c = 0; c < columns; c++)
      for (let k = 0; k < rows; k++) words[(rows - 1 - k) * columns + c] = color(value(c, k));
    context.putImageData(image, 0, 0);
    lesson.sheets[panel] = { key, sheet };
  }
  plot.cells(lesson.sheets[panel].sheet, name, columns, rows, value);
};

// One channel of one real series, standardized.
export const seriesOf = (d, s) =>
  Float64Array.from(
    { length: d.N },
    (_, i) => (d.fan[(s.series * d.N + i) * d.M + s.channel] - d.mean[s.channel]) / d.std[s.channel],
  );

export const seriesControls = (d) => [
  { name: "series", label: "Series", low: 0, high: d.F - 1, start: 0, text: (v) => `${v + 1} of ${d.F}` },
  ...(d.M > 1
    ? [{ name: "channel", label: "Channel", low: 0, high: d.M - 1, start: 0, text: (v) => d.channels[v] }]
    : []),
];

// Axis of a series in time.
export const timeAxis = (d) => ({ domain: [0, (d.N - 1) * d.time.step], title: d.time.title });

export const percentOf = (share) => `${(100 * share).toFixed(1)} %`;
