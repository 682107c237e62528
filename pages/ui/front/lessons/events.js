// Lesson 5. Thresholds, energy weighting, cutoff and probes on a recorded run.

import { drift, energyWeight, simulate } from "../shared/decisions.js";
import { CODES, reasonColors, reasonLegend, scoreDots } from "../shared/reasons.js";
import { short } from "../shared/text.js";
import { packed } from "../shared/theme.js";
import { heat, LABELS, level, percentOf, upright } from "./tools.js";

// Uniform numbers that depend on (step, frequency) alone, so that a probe does not jump while a slider moves.
const chance = (i, k) => {
  let h = (i * 374761393 + k * 668265263) >>> 0;
  h = Math.imul(h ^ (h >>> 13), 1274126177) >>> 0;
  return ((h ^ (h >>> 16)) >>> 0) / 4294967296;
};

const policyOf = (d, s) => ({
  ...d.whatif.policy,
  trigger: "paper",
  tau: 10 ** (s.tau / 100),
  energy_weighting: !!s.weigh,
  k_low: s.K,
  probe_share: s.probes / 100,
  refresh_every: s.R,
  tau_safe: 0,
  tau_warn: 0,
});

// The decisions of a policy on the recording, and for each (step, frequency) the step of its last
// computation.
const decisions = (d, policy) => {
  const { count, n } = d;
  const probed = new Uint8Array(count * n);
  for (let i = 0; i < count; i++)
    for (let k = 0; k < n; k++) probed[i * n + k] = chance(i, k) < policy.probe_share ? 1 : 0;
  const rec = {
    ...d,
    r: new Float64Array(count),
    clocks: d.whatif.clocks,
    width: 2 * d.M,
    factor: 1,
    bySample: () => false,
    probed,
    weight: (asked, i, k) => energyWeight(rec, asked, i, k),
  };
  const { reasons, shares } = simulate(rec, policy);
  const last = new Int32Array(count * n);
  const at = new Int32Array(n);
  for (let i = 0; i < count; i++)
    for (let k = 0; k < n; k++) {
      last[i * n + k] = at[k];
      if (reasons[i * n + k]) at[k] = i;
    }
  return { policy, reasons, shares, rec, last, mean: shares.reduce((a, b) => a + b, 0) / count };
};

const score = (r, i, k) => drift(r.rec, r.policy, i, k, r.last[i * r.rec.n + k]);

export const events = {
  panels: [
    ["map", "Predicted decisions: step × frequency (drag)", true, "i"],
    ["scores", "Event scores at this step", false],
    ["share", "Tokens computed so far", false],
  ],
  controls: (d) => [
    {
      name: "tau",
      label: "τ",
      low: -300,
      high: 300,
      start: Math.round(100 * Math.log10(d.whatif.policy.tau)),
      text: LABELS.tau,
    },
    { name: "weigh", label: "energy weighting", kind: "check", start: 1 },
    { name: "K", label: "K", low: -1, high: d.n - 1, start: -1, text: (v) => (v < 0 ? "none" : v) },
    { name: "probes", label: "probes", low: 0, high: 30, start: 0, text: (v) => `${v} %` },
    { name: "R", label: "R", low: 0, high: 200, start: 0, text: (v) => (v ? `${v} steps` : "never") },
    {
      name: "i",
      label: "step",
      low: 1,
      high: d.count - 1,
      start: Math.floor(d.count / 2),
      text: (v) => v + 1,
    },
  ],
  compute(d, s, lab) {
    const policy = policyOf(d, s);
    const key = JSON.stringify([policy, lab.stamp]);
    if (this.key !== key) {
      this.key = key;
      this.result = decisions(d, policy);
    }
    return this.result;
  },
  values(d, s, r, t) {
    let top = 0;
    for (let k = 0; k < d.n; k++) if (score(r, s.i, k) > score(r, s.i, top)) top = k;
    const e = score(r, s.i, top);
    const at = s.i * d.n + top;
    const weight = r.rec.weight(r.policy, s.i, top);
    const code = r.reasons[at];
    const counts = [0, 0, 0, 0, 0];
    for (const reason of r.reasons) counts[reason]++;
    const share = (reason) => percentOf(counts[reason] / r.reasons.length);
    const energy = s.weigh
      ? [short(weight), `its energy, ε = ${r.policy.energy_eps}`]
      : ["1", "weighting is off"];
    return [
      ["τ", short(r.policy.tau), "threshold", { scores: t.colors[1] }],
      ["eₖ", short(e), `largest at this step: k = ${top}`, { scores: code ? t.colors[code - 1] : t.axis }],
      ["dₖ", short(e / weight), `its drift since step ${r.last[at] + 1}`],
      ["ε + |zₖ|²", ...energy],
      ["|S| / n", percentOf(r.mean), "tokens computed", { share: t.colors[0] }],
      ["events", share(2), "score above τ"],
      ["low band", share(1), "k ≤ K"],
      ["probes", share(3), "drawn at random"],
      ["refresh", share(4), "every R steps"],
    ];
  },
  draw(lab, d, s, r, t) {
    const { map, scores, share } = lab.plots;
    const colors = reasonColors(t).map(packed);
    map.axes(t, { domain: [0, d.count], title: "step" }, { domain: [0, d.n], title: "frequency k" });
    heat(lab, map, d.count, d.n, {
      key: `${lab.stamp} ${this.key}`,
      name: CODES,
      value: (i, k) => r.reasons[i * d.n + k],
      color: (code) => colors[code],
    });
    upright(map, s.i + 0.5, t.text);
    scores.axes(
      t,
      { domain: [0, d.n], title: "frequency k" },
      { domain: [1e-6, 1e3], log: true, title: s.weigh ? "eₖ = dₖ (ε + |Xₖ|²)" : "eₖ = dₖ" },
    );
    scores.dots(
      scoreDots(
        t,
        d.n,
        (k) => score(r, s.i, k),
        (k) => r.reasons[s.i * d.n + k],
      ),
    );
    level(scores, r.policy.tau, t.colors[1]);
    let sum = 0;
    const soFar = Float64Array.from(r.shares, (v, i) => {
      sum += v;
      return (100 * sum) / (i + 1);
    });
    share.axes(
      t,
      { domain: [0, d.count], title: "step" },
      { domain: [0, Math.max(5, ...soFar.slice(Math.floor(d.count / 20))) * 1.15], title: "% of tokens" },
    );
    share.line(d.count, (i) => soFar[i], t.colors[0], { width: 2, start: 0.5 });
    upright(share, s.i + 0.5, t.text);
  },
  legend: (t) => ({
    map: reasonLegend(t),
    scores: [
      ["computed (color: why)", t.colors[1], "box"],
      ["reused", t.axis, "box"],
      ["τ", t.colors[1], "dash"],
    ],
    share: [["share of tokens, mean so far", t.colors[0]]],
  }),
};
