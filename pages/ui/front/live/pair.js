// What an answer looks like: the sample over its twin, the error of each band, and the decisions of the whole run.

import { element, setLegend } from "../shared/dom.js";
import { CODES, reasonColors, reasonLegend } from "../shared/reasons.js";
import { decadeRange } from "../shared/scales.js";
import { seriesAxes, seriesRange } from "../shared/series.js";
import { packed } from "../shared/theme.js";

export const pairLegends = ({ theme: t, plots }) => {
  setLegend(plots.series.section, [
    ["cached", t.colors[0]],
    ["uncached twin", t.text],
    ["gap", t.colors[1], "box"],
    ["real series", t.faint],
  ]);
  setLegend(plots.bands.section, [
    ["in data units", t.colors[0], "box"],
    ["relative to each frequency's own strength", t.colors[1], "box"],
  ]);
  setLegend(plots.map.section, reasonLegend(t));
};

export const drawPair = (board) => {
  const { theme: t, hello, fan, answer, channel: m } = board;
  const plot = board.plots.series;
  // The twin stays while the hand moves, and so does the axis that is fitted to it.
  const twin = answer?.arrays.twin;
  const key = `${board.shown} ${m} ${twin?.join()}`;
  plot.layer(key, () => seriesAxes(plot, t, hello, m, seriesRange(twin ?? fan, hello.M, m), fan));
  if (!answer) return;
  const { series } = answer.arrays;
  const { N, M, time } = hello;
  const at = (values) => (i) => values[i * M + m];
  plot.clipped((c) => {
    c.fillStyle = t.colors[1];
    c.globalAlpha = 0.4;
    c.beginPath();
    for (let i = 0; i < N; i++) c.lineTo(plot.x(i * time.step), plot.y(at(series)(i)));
    for (let i = N - 1; i >= 0; i--) c.lineTo(plot.x(i * time.step), plot.y(at(twin)(i)));
    c.fill();
  });
  plot.line(N, at(twin), t.text, { width: 1.2, step: time.step, name: "uncached twin" });
  plot.line(N, at(series), t.colors[0], { width: 1.8, step: time.step, name: "cached" });
};

// The middle of each band's column, a little to the left and right for the two kinds of error.
const KINDS = [
  [3, 0.36, 0],
  [2, 0.64, 1],
];

export const drawBands = (board) => {
  const { theme: t, answer } = board;
  const plot = board.plots.bands;
  const bands = answer?.head.bands ?? [];
  const values = bands.flatMap((band) => KINDS.map(([at]) => band[at][0])).filter((v) => v > 0);
  const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0.01, 1];
  const old = board.spans.bands ?? [Infinity, 0];
  board.spans.bands = decadeRange(Math.max(1e-5, Math.min(low, old[0])), Math.max(high, old[1]));
  const names = bands.map(([a, b]) => (b - a === 1 ? `${a}` : `${a}–${b - 1}`));
  const x = { domain: [0, Math.max(1, bands.length)], names, title: "frequency k" };
  plot.axes(t, x, { domain: board.spans.bands, log: true, title: "relative error" });
  const dots = [];
  bands.forEach((band, i) => {
    for (const [at, shift, color] of KINDS) {
      const [value, least, most] = band[at];
      const px = plot.x(i + shift);
      if (answer.head.settled && most > least)
        plot.clipped(() => {
          plot.straight([px, plot.y(least), px, plot.y(most)], t.colors[color], { width: 1.6 });
        });
      const name = at === 3 ? "in data units" : "relative to its strength";
      dots.push([i + shift, value, t.colors[color], name, color ? 3 : 4.2, value]);
    }
  });
  plot.dots(dots);
};

// Frequencies upward, steps to the right; the bitmap is made once for an answer and a theme.
const sheetOf = (answer, theme) => {
  const { steps, n } = answer.head;
  const { reasons } = answer.arrays;
  const sheet = element("canvas");
  Object.assign(sheet, { width: steps, height: n });
  const ctx = sheet.getContext("2d");
  const image = ctx.createImageData(steps, n);
  const words = new Uint32Array(image.data.buffer);
  const tints = reasonColors(theme).map(packed);
  for (let s = 0; s < steps; s++)
    for (let k = 0; k < n; k++) words[(n - 1 - k) * steps + s] = tints[reasons[s * n + k]];
  ctx.putImageData(image, 0, 0);
  return sheet;
};

export const drawWholeMap = (board) => {
  const { theme: t, answer, hello } = board;
  const plot = board.plots.map;
  const steps = answer?.head.steps ?? hello.steps;
  const { n } = answer?.head ?? hello;
  plot.axes(t, { domain: [0, steps], title: "step" }, { domain: [0, n], title: "frequency k" });
  if (!answer) return;
  if (board.sheetOf !== answer || board.sheetTheme !== t)
    Object.assign(board, { sheet: sheetOf(answer, t), sheetOf: answer, sheetTheme: t });
  plot.cells(board.sheet, CODES, steps, n, (s, k) => answer.arrays.reasons[s * n + k]);
};
