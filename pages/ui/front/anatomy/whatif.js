// What if: another policy over the recorded run. Predicted here at every move of a control, confirmed by a
// real run.

import { simulate } from "../shared/decisions.js";
import { element, setText } from "../shared/dom.js";
import { clamp } from "../shared/scales.js";
import { duration, short } from "../shared/text.js";

// The parts of a policy that can be asked about; the address uses the same names.
export const ASKED = ["tau", "k_low", "refresh_every", "trigger"];
const SLIDERS = ASKED.slice(0, 3);
const REST_MS = 400;
const TICKS = 1000;

// Starts with the recorded policy and the changes that the address asks for.
export const askWith = (page, changes) => {
  const { whatif, refusal } = page.rec;
  page.policy = whatif ? { ...whatif.policy, ...changes } : null;
  page.el("refusal").hidden = !!whatif;
  page.el("refusal").textContent = refusal || "";
  for (const node of page.lab.querySelectorAll(".ask label, .ask button")) node.hidden = !whatif;
  if (!whatif) {
    page.would = null;
    return;
  }
  page.el("trigger").replaceChildren(...whatif.triggers.map((name) => new Option(name, name)));
  const { tau } = whatif.fields;
  page.span = [Math.max(tau.low, whatif.policy.tau / 100), Math.min(tau.high, whatif.policy.tau * 100)];
  page.el("k_low").max = page.rec.n - 1;
  predict(page);
};

export const predict = (page) => {
  const { rec, policy, plots } = page;
  if (!policy) return;
  if (policy.trigger === "fixed" && policy.refresh_every < 1) policy.refresh_every = 10;
  const begin = performance.now();
  page.would = simulate(rec, policy);
  page.lab.dataset.thought = (performance.now() - begin).toFixed(2);
  page.images.would = null;
  for (const plot of [plots.would, plots.shares, plots.trace]) plot.layerKey = null;
  showControls(page);
  showPrediction(page);
  foresee(page);
};

// The changes of the recorded policy that are asked about.
export const changesOf = (policy) => Object.fromEntries(ASKED.map((field) => [field, policy[field]]));

// Errors by band come from the server, once the hand rests; they need a network whose errors were measured.
export const foresee = (page) => {
  clearTimeout(page.rest);
  page.asked = Math.random();
  page.el("foreseen").hidden = page.el("foreseen_words").hidden = true;
  if (!page.rec.foresees || !page.policy || page.mode !== "whatif") return;
  page.rest = setTimeout(() => {
    page.trigger("foresee", { changes: changesOf(page.policy), n: page.asked });
  }, REST_MS);
};

// A prediction came; an older one than the question is dropped.
export const showForeseen = (page, { n, bands, why }) => {
  if (n !== page.asked) return;
  const words = page.el("foreseen_words");
  const place = page.el("foreseen");
  words.hidden = false;
  place.hidden = !bands.length;
  words.textContent =
    why ||
    "Predicted error to the uncached twin by band of frequencies, in standard deviations of each frequency:";
  place.replaceChildren(
    ...bands.map(([a, b, error]) => tile(b - a === 1 ? `k ${a}` : `k ${a} to ${b - 1}`, short(error), "")),
  );
};

// Positions of the sliders: logarithmic for tau, and for R from 1 on, with "never" at the left end.
export const tauAt = ([lo, hi], position) => +(lo * (hi / lo) ** (position / TICKS)).toPrecision(3);
const tauPosition = ([lo, hi], tau) => (TICKS * Math.log(clamp(tau, lo, hi) / lo)) / Math.log(hi / lo);
export const refreshAt = (count, position) => Math.max(1, Math.round(count ** (position / TICKS)));
const refreshPosition = (count, every) => (every ? (TICKS * Math.log(every)) / Math.log(count) : 0);

const showControls = (page) => {
  const { policy, rec } = page;
  const texts = {
    tau: short(policy.tau),
    k_low: policy.k_low < 0 ? "none" : String(policy.k_low),
    refresh_every: policy.refresh_every ? `${policy.refresh_every} steps` : "never",
  };
  page.el("trigger").value = policy.trigger;
  page.el("tau").value = tauPosition(page.span, policy.tau);
  page.el("k_low").value = policy.k_low;
  page.el("refresh_every").value = refreshPosition(rec.count, policy.refresh_every);
  for (const field of SLIDERS) {
    page.el(`${field}_text`).textContent = texts[field];
    page.el(field).setAttribute("aria-valuetext", texts[field]);
    page.el(field).closest("label").hidden = !rec.whatif.fields[field].triggers.includes(policy.trigger);
  }
  const same = ASKED.every((field) => policy[field] === rec.whatif.policy[field]);
  page.lab.querySelector('[data-act="reset"]').disabled = same;
  page.lab.querySelector('[data-act="confirm"]').disabled = !rec.confirmable;
};

// Logarithm of the factor by which a prediction may be wrong, as core's whatif.margin.
const marginOf = (rec, policy) => {
  if (!rec.bySample(policy)) return 0;
  const { margin, margin_by_tau, recorded_tau, intensity_margin } = rec.whatif;
  const { trigger, tau, tau_safe, tau_warn } = policy;
  const intensity = tau_safe || tau_warn ? intensity_margin[trigger] : 0;
  const byTau = (margin_by_tau[trigger] ?? 0) * Math.abs(Math.log(tau / recorded_tau));
  return (margin[trigger] ?? 0) + intensity + byTau;
};

const TIME_BASIS =
  "Time is a straight line through the recorded steps, on this machine as busy as it was then; " +
  "quality is not predicted: confirm with a real run, which also runs its uncached twin.";

const basis = (rec, policy, factor) => {
  if (!rec.bySample(policy))
    return `This trigger decides by the clock alone, so its decisions are known exactly. ${TIME_BASIS}`;
  const grows = rec.whatif.margin_by_tau[policy.trigger]
    ? ", which grows with the change of τ: a frequency’s gain falls when the others are computed less often"
    : "";
  return (
    "Predicted from the recorded path of one sample: another policy’s run would take a slightly different " +
    `path, so allow a factor of ${factor.toFixed(2)} either way${grows}. ${TIME_BASIS}`
  );
};

const tile = (label, value, small) => {
  const box = element("div");
  const definition = element("dd", value);
  definition.append(element("small", small));
  box.append(element("dt", label), definition);
  return box;
};

const showPrediction = (page) => {
  const { policy, rec } = page;
  const { cost } = rec.whatif;
  const exact = !rec.bySample(policy);
  const mean = page.would.shares.reduce((a, b) => a + b, 0) / rec.count;
  const factor = Math.exp(marginOf(rec, policy));
  const seconds = cost.base * rec.count + cost.slope * mean * rec.count;
  Object.assign(page.lab.dataset, { share: mean, seconds });
  const share = (v) => `${(100 * v).toFixed(1)} %`;
  const time = (v) => duration(v).join(" ");
  const range = (low, high, text) => (high - low < 1e-12 ? "" : `${text(low)} to ${text(high)}`);
  const shares = exact ? "exact" : range(mean / factor, Math.min(1, mean * factor), share);
  page
    .el("tiles")
    .replaceChildren(
      tile("Tokens computed, predicted", share(mean), shares),
      tile("Tokens computed, recorded", share(rec.share), ""),
      tile(
        "Compute time, predicted",
        time(seconds),
        range((seconds * cost.low) / factor, seconds * cost.high * factor, time),
      ),
      tile("Compute time, recorded", time(rec.seconds), `whole batch of ${rec.num}`),
    );
  setText(page.el("basis"), basis(rec, policy, factor));
};
