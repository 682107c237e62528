// Panels of the live view beside the map: sample, spectrum, event scores, event intensity, band energy;
// legends.

import { setLegend } from "../shared/dom.js";
import { reasonLegend, scoreDots, scoreLegend } from "../shared/reasons.js";
import { decadeRange } from "../shared/scales.js";
import { sampleLines, seriesAxes, seriesRange } from "../shared/series.js";
import { HANDLES } from "./handles.js";

const BAND_COLORS = [0, 5, 3, 4, 1, 2, 6, 8];
const RECENT_STEPS = 40;
// Pictures after which an axis may become shorter.
const HOLD_RENDERS = 90;

const bandColor = (theme, i) => theme.colors[BAND_COLORS[i % BAND_COLORS.length]];
const positive = (v) => (v > 0 ? v : Number.NaN);

export const legends = (lab) => {
  const { theme: t, store } = lab;
  const { edges } = store.hello;
  const put = (panel, items) => setLegend(lab.plots[panel].section, items);
  const state = [
    ["noisy state", t.noisy],
    ["denoised estimate", t.colors[1]],
  ];
  put("series", [["real series", t.faint], ...state]);
  put("spectrum", [["real data, median", t.faint], ...state]);
  put("map", [...reasonLegend(t), ["policy changed", t.text, "dash"]]);
  put("error", [["denoised estimate of this sample", t.colors[1]]]);
  put("scores", scoreLegend(t));
  put("intensity", [
    ["this sample", t.colors[0]],
    ["mean of the batch", t.noisy],
  ]);
  const bands = edges.slice(0, -1).map((first, i) => {
    const last = edges[i + 1] - 1;
    return [`${i ? "" : "k "}${first === last ? first : `${first}–${last}`}`, bandColor(t, i)];
  });
  put("energy", bands);
};

export const drawSeries = (lab) => {
  const { store, theme: t, channel: m } = lab;
  const { hello, fan, latest } = store;
  const plot = lab.plots.series;
  plot.layer(`${lab.shown} ${m}`, () => seriesAxes(plot, t, hello, m, seriesRange(fan, hello.M, m), fan));
  if (latest.x0) sampleLines(plot, t, hello, m, latest);
};

export const drawSpectrum = (lab) => {
  const { store, theme: t, channel: m } = lab;
  const { hello, real, latest } = store;
  const plot = lab.plots.spectrum;
  const { n, M } = hello;
  let lo = Infinity;
  let hi = 0;
  for (let k = 0; k < n; k++) {
    const v = real[k * M + m];
    if (v > 1e-9) lo = Math.min(lo, v);
    hi = Math.max(hi, v);
  }
  plot.axes(
    t,
    { domain: [0, n], title: "frequency k (cycles per window)" },
    {
      domain: decadeRange(Math.max(lo, hi * 1e-5, 1e-9) / 2, Math.max(hi, 4)),
      log: true,
      title: "|Xₖ| (standard deviations)",
    },
  );
  if (lab.handles.active("k_low"))
    plot.clipped((c) => {
      c.fillStyle = t.colors[0];
      c.globalAlpha = 0.12;
      const right = plot.x(lab.handles.value("k_low") + 1);
      c.fillRect(plot.left, plot.top, right - plot.left, plot.bottom - plot.top);
    });
  plot.line(n, (k) => real[k * M + m], t.faint, { width: 2.5, start: 0.5 });
  if (!latest.x0) return;
  plot.line(n, (k) => latest.spectrum[k * M + m], t.noisy, { width: 1, start: 0.5 });
  plot.line(n, (k) => latest.x0_spectrum[k * M + m], t.colors[1], { width: 1.8, start: 0.5 });
};

// Decades around the values and the thresholds. It stands still during a drag, or the handle would run away.
const span = (lab, name, values, thresholds) => {
  let lo = Infinity;
  let hi = 0;
  const see = (v) => {
    if (!(v > 0) || !Number.isFinite(v)) return;
    if (v < lo) lo = v;
    if (v > hi) hi = v;
  };
  values(see);
  thresholds.forEach(see);
  if (!hi) [lo, hi] = [1e-3, 1];
  const old = lab.range[name];
  if (old && lab.handles.held) return old.domain;
  const [a, b] = decadeRange(Math.max(lo, hi * 1e-8) / 1.5, hi * 1.5);
  const fits = old && a >= old.domain[0] && b <= old.domain[1];
  if (!fits || lab.renders - old.since > HOLD_RENDERS)
    lab.range[name] = { domain: [a, b], since: lab.renders };
  return lab.range[name].domain;
};

export const drawScores = (lab) => {
  const { store, theme: t, handles } = lab;
  const { hello, count, scores, reasons } = store;
  const plot = lab.plots.scores;
  const { n } = hello;
  const on = handles.active("tau");
  const force = count ? store.cell("tau", count - 1) : Number.NaN;
  const recent = (see) => {
    for (let i = Math.max(0, count - RECENT_STEPS) * n; i < count * n; i++) see(scores[i]);
  };
  const domain = span(lab, "scores", recent, on ? [handles.value("tau"), force] : []);
  plot.axes(t, { domain: [0, n], title: "frequency k" }, { domain, log: true, title: "eₖ" });
  if (!count) {
    plot.note(t, on || hello.run ? "drag τ: tokens above the line are recomputed" : "");
    return;
  }
  const at = (count - 1) * n;
  plot.dots(
    scoreDots(
      t,
      n,
      (k) => scores[at + k],
      (k) => reasons[at + k],
    ),
  );
  plot.clipped(() => {
    if (on && Number.isFinite(force)) plot.horizontal(plot.y(force), t.colors[1], { dash: [5, 4] });
  });
};

export const drawIntensity = (lab) => {
  const { store, theme: t, handles } = lab;
  const { hello, count } = store;
  const plot = lab.plots.intensity;
  const r = (i) => positive(store.cell("r", i));
  const mean = (i) => positive(store.cell("r_mean", i));
  const levels = HANDLES.filter(({ panel, field }) => panel === "intensity" && handles.active(field));
  const all = (see) => {
    for (let i = 0; i < count; i++) {
      see(r(i));
      see(mean(i));
    }
  };
  const domain = span(
    lab,
    "intensity",
    all,
    levels.map(({ field }) => handles.value(field)),
  );
  plot.axes(
    t,
    { domain: [0, hello.steps], title: "step" },
    { domain, log: true, title: "r = |C − C_prev|² / |C_prev|²" },
  );
  plot.clipped(() => {
    for (const { field, color } of levels) {
      const value = handles.value(field);
      if (value > 0) plot.horizontal(plot.y(value), t.colors[color], { width: 2 });
    }
  });
  plot.line(count, mean, t.noisy, { width: 1, start: 0.5 });
  plot.line(count, r, t.colors[0], { width: 1.6, start: 0.5 });
};

export const drawError = (lab) => {
  const { store, theme: t } = lab;
  const { hello, errors } = store;
  const plot = lab.plots.error;
  const domain = span(lab, "error", (see) => errors.forEach(see), []);
  plot.axes(t, { domain: [0, hello.steps], title: "step" }, { domain, log: true, title: "relative L2" });
  if (errors.length) plot.line(errors.length, (i) => positive(errors[i]), t.colors[1], { start: 0.5 });
  else
    plot.note(t, hello.run ? "known once the uncached run is made" : "of the denoised estimate at each step");
};

export const drawEnergy = (lab) => {
  const { store, theme: t } = lab;
  const { hello, count, bands, bandCount } = store;
  const plot = lab.plots.energy;
  const all = (see) => {
    for (let i = 0; i < count * bandCount; i++) see(bands[i]);
  };
  const domain = span(lab, "energy", all, []);
  plot.axes(
    t,
    { domain: [0, hello.steps], title: "step" },
    { domain, log: true, title: "mean |Xₖ|² (variances)" },
  );
  if (!count) return;
  for (let b = 0; b < bandCount; b++)
    plot.line(count, (i) => positive(bands[i * bandCount + b]), bandColor(t, b), { start: 0.5 });
};
