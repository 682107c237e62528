// What the chosen step looks like: sample, spectrum, event scores; and the legends of all panels.

import { setLegend } from "../shared/dom.js";
import { reasonLegend, scoreDots, scoreLegend } from "../shared/reasons.js";
import { decadeRange } from "../shared/scales.js";
import { sampleLines, seriesAxes, seriesRange } from "../shared/series.js";

const mark = (page, plot) => plot.vertical(plot.sharp(page.k + 0.5), page.theme.text, { dash: [3, 3] });

export const drawSeries = (page) => {
  const { rec, theme: t, step, channel: m } = page;
  const plot = page.plots.series;
  const { N, M, fan } = rec;
  plot.layer(`${page.stamp} ${m}`, () => {
    const range = seriesRange(fan?.length ? fan : rec.x0.subarray((rec.count - 1) * N * M), M, m);
    seriesAxes(plot, t, rec, m, range, fan);
  });
  sampleLines(plot, t, rec, m, rec, step * N * M);
};

export const drawSpectrum = (page) => {
  const { rec, theme: t, step, channel: m } = page;
  const plot = page.plots.spectrum;
  const { n, M, real } = rec;
  plot.layer(`${page.stamp} ${m}`, () => {
    let lo = Infinity;
    let hi = 0;
    for (let k = 0; k < n; k++) {
      const v = rec.spectrum[((rec.count - 1) * n + k) * M + m];
      if (v > 1e-9) lo = Math.min(lo, v);
      hi = Math.max(hi, v);
    }
    plot.axes(
      t,
      { domain: [0, n], title: "frequency k (cycles per window)" },
      {
        domain: decadeRange(Math.max(lo, hi * 1e-4, 1e-9) / 2, Math.max(hi, 4)),
        log: true,
        title: "|Xₖ| (standard deviations)",
      },
    );
    if (real) plot.line(n, (k) => real[k * M + m], t.faint, { width: 2.5, start: 0.5 });
  });
  plot.line(n, (k) => rec.spectrum[(step * n + k) * M + m], t.noisy, { width: 1, start: 0.5 });
  // Imported networks may have tokens of another kind: there the amplitude of x0 is not known here.
  if (n === Math.floor(rec.N / 2) + 1) {
    const clean = rec.amplitude(rec.x0, step, m);
    plot.line(n, (k) => clean[k], t.colors[1], { width: 1.8, start: 0.5 });
  }
  mark(page, plot);
};

// One range for the whole run, so that dots move and the axis stands still.
const scoreRange = (page) => {
  const { rec } = page;
  if (page.scoreStamp === page.stamp) return page.scoreRange;
  let lo = Infinity;
  let hi = 0;
  for (let i = rec.n; i < rec.count * rec.n; i += 3) {
    const v = rec.e[i];
    if (v > 0 && v < 1e30) {
      lo = Math.min(lo, v);
      hi = Math.max(hi, v);
    }
  }
  page.scoreRange = hi ? decadeRange(Math.max(lo, hi * 1e-8), hi) : [0.01, 1];
  page.scoreStamp = page.stamp;
  return page.scoreRange;
};

export const drawScores = (page) => {
  const { rec, theme: t, step } = page;
  const plot = page.plots.scores;
  const { n } = rec;
  const tau = rec.at("tau", step);
  plot.layer(`${page.stamp}`, () =>
    plot.axes(
      t,
      { domain: [0, n], title: "frequency k" },
      { domain: scoreRange(page), log: true, title: "eₖ" },
    ),
  );
  const at = step * n;
  plot.dots(
    scoreDots(
      t,
      n,
      (k) => rec.e[at + k],
      (k) => rec.reasons[at + k],
    ),
  );
  plot.clipped(() => {
    if (tau > 0 && tau < 1e30) plot.horizontal(plot.y(tau), t.colors[1], { dash: [5, 4] });
  });
  mark(page, plot);
};

export const legends = (page) => {
  const { theme: t, mode, shade, rec } = page;
  const put = (panel, items) => setLegend(page.plots[panel].section, items);
  const state = [
    ["noisy state", t.noisy],
    ["denoised estimate", t.colors[1]],
  ];
  const quantity = [
    ["low", t.reused, "box"],
    ["high (log scale)", t.colors[0], "box"],
  ];
  const layers = [
    ["if it had been reused", t.colors[1], "box"],
    ["as the step used it", t.colors[0], "box"],
  ];
  const decisions = reasonLegend(t);
  put("map", shade === "why" ? [...decisions, ["policy changed", t.text, "dash"]] : quantity);
  put("would", decisions);
  put("series", [["real series", t.faint], ...state]);
  put("spectrum", [["real data, median", t.faint], ...state, ["chosen k", t.text, "dash"]]);
  put("layers", rec.kept ? layers : []);
  put("scores", scoreLegend(t));
  put("trace", [
    ["eₖ", t.colors[0]],
    ["computed", t.colors[3], "box"],
    ["τ in force", t.colors[1], "dash"],
    ...(mode === "whatif" ? [["τ asked for", t.colors[2]]] : []),
  ]);
  put("shares", [
    ["recorded, batch", t.colors[0]],
    ...(mode === "whatif" ? [["predicted", t.colors[1]]] : []),
  ]);
};
