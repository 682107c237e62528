// Curves over all steps: the event score of the chosen frequency, and the share of tokens computed so far.

import { REASONS } from "../shared/reasons.js";
import { decadeRange } from "../shared/scales.js";
import { crosshair } from "./maps.js";

// Scores and thresholds without a bound, and scores of zero, have no place on the axis.
const drawable = (v) => (v > 0 && v < 1e30 ? v : Number.NaN);

const scoreRange = (page) => {
  const { rec, k, policy } = page;
  let lo = Infinity;
  let hi = 0;
  const see = (v) => {
    if (!(drawable(v) > 0)) return;
    lo = Math.min(lo, v);
    hi = Math.max(hi, v);
  };
  for (let i = 1; i < rec.count; i++) {
    see(rec.e[i * rec.n + k]);
    see(rec.at("tau", i));
  }
  if (page.mode === "whatif" && policy) see(policy.tau);
  if (!hi) return decadeRange(0.1 / 1.3, 1.3);
  return decadeRange(Math.max(lo, hi * 1e-6) / 1.3, hi * 1.3);
};

const computedDots = ({ rec, k, theme }) => {
  const dots = [];
  for (let i = 1; i < rec.count; i++) {
    const why = rec.reasons[i * rec.n + k];
    const v = rec.e[i * rec.n + k];
    if (why && v > 0) dots.push([i + 0.5, v, theme.colors[why - 1], `computed: ${REASONS[why]}`, 2.2]);
  }
  return dots;
};

export const drawTrace = (page) => {
  const { rec, theme: t, k, mode, policy } = page;
  const plot = page.plots.trace;
  const { n, count } = rec;
  plot.layer(`${page.stamp} ${k} ${mode}`, () => {
    plot.section.querySelector("h3").textContent = `Event score of k = ${k} over the run`;
    plot.axes(
      t,
      { domain: [0, rec.total], title: "step" },
      { domain: scoreRange(page), log: true, title: "eₖ" },
    );
    plot.line(count, (i) => drawable(rec.e[i * n + k]), t.colors[0], { width: 1.2, start: 0.5 });
    plot.dots(computedDots(page));
    plot.ctx.setLineDash([5, 4]);
    const force = { width: 1.4, start: 0.5, name: "τ in force" };
    plot.line(count, (i) => drawable(rec.at("tau", i)), t.colors[1], force);
    plot.ctx.setLineDash([]);
    if (mode === "whatif" && policy?.trigger === rec.trigger && policy.tau !== rec.whatif.policy.tau)
      plot.line(2, () => policy.tau, t.colors[2], { width: 2, step: rec.total });
  });
  crosshair(page, plot);
};

// Means of the values so far.
const runningMean = (count, value) => {
  let sum = 0;
  return Float64Array.from({ length: count }, (_, i) => {
    sum += value(i);
    return sum / (i + 1);
  });
};

export const drawShares = (page) => {
  const { rec, theme: t } = page;
  const plot = page.plots.shares;
  const { count } = rec;
  plot.layer(`${page.stamp} ${page.mode}`, () => {
    const recorded = runningMean(count, (i) => rec.at("share", i));
    const predicted =
      page.mode === "whatif" && page.would ? runningMean(count, (i) => page.would.shares[i]) : null;
    let hi = 0;
    for (let i = Math.floor(count / 20); i < count; i++) hi = Math.max(hi, recorded[i], predicted?.[i] ?? 0);
    plot.axes(
      t,
      { domain: [0, rec.total], title: "step" },
      { domain: [0, Math.min(100, hi * 130) || 1], title: "% of tokens computed so far" },
    );
    plot.line(count, (i) => 100 * recorded[i], t.colors[0], { start: 0.5 });
    if (predicted) plot.line(count, (i) => 100 * predicted[i], t.colors[1], { width: 2, start: 0.5 });
  });
  crosshair(page, plot);
};
