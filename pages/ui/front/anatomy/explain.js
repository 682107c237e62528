// Why the chosen frequency was computed or reused at the chosen step, and the lines of code that decided it.

import { element } from "../shared/dom.js";
import { REASONS } from "../shared/reasons.js";
import { percent, short } from "../shared/text.js";

const WHOLE = ["log_snr", "rate", "fixed"];

// Why everything was refreshed: [kind, sentence].
const whyRefreshed = (rec, step, policy, tau, before) => {
  if (!rec.reasons.subarray(0, step * rec.n).some((code) => code > 0))
    return ["first", "nothing is kept yet, so everything is computed."];
  if (policy.trigger === "always") return ["always", "trigger “always” computes everything at every step."];
  if (policy.tau_warn > 0 && before > policy.tau_warn)
    return [
      "warn",
      `the event intensity r = ${short(before)} exceeded τ warn = ${policy.tau_warn}, so everything is refreshed.`,
    ];
  if (WHOLE.includes(policy.trigger)) {
    const scores = rec.e.subarray(step * rec.n, (step + 1) * rec.n);
    const best = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    const what = {
      log_snr: `log(a/s) has moved by ${short(best)} since the last refresh, more than`,
      fixed: "as many steps have passed as",
      rate: `the measured rate of change predicts an error of ${short(best)}, more than`,
    }[policy.trigger];
    if (best > tau)
      return ["refresh", `${what} τ = ${short(tau)} allows. This trigger refreshes all frequencies at once.`];
  }
  return ["interval", `R = ${policy.refresh_every} steps have passed since the last refresh of everything.`];
};

// The decision on (step, k), in more detail than a reason code: [kind, sentence].
export const whyOf = (rec, step, k) => {
  const at = step * rec.n + k;
  const code = rec.reasons[at];
  const [, , policy] = rec.policyAt(step);
  const e = rec.e[at];
  const tau = rec.at("tau", step);
  const before = step ? rec.r[step - 1] : Number.NaN;
  if (code === 1)
    return [
      "low",
      `k = ${k} is not above the cutoff K = ${policy.k_low}: such frequencies are computed at every step.`,
    ];
  if (code === 2)
    return ["event", `its event score eₖ = ${short(e)} exceeds the threshold τ = ${short(tau)}.`];
  if (code === 3)
    return [
      "probe",
      `it was drawn as a random probe (${percent(policy.probe_share)} % of the frequencies above K), ` +
        "to measure the error of reusing.",
    ];
  if (code === 4) return whyRefreshed(rec, step, policy, tau, before);
  if (policy.start > 0 && rec.at("log_snr", step) - rec.at("log_snr", 0) < policy.start)
    return [
      "first",
      `log(a/s) has not yet moved by ${policy.start}: until then F = 0, without a network call.`,
    ];
  if (policy.trigger === "never")
    return ["reused", "trigger “never” reuses everything after the first step."];
  if (e > tau)
    return [
      "calm",
      `its score exceeds τ, but the event intensity r = ${short(before)} is below τ safe = ` +
        `${policy.tau_safe}: so this step computed nothing.`,
    ];
  return ["reused", `its event score eₖ = ${short(e)} does not exceed the threshold τ = ${short(tau)}.`];
};

const steps = (count) => `${count} step${count === 1 ? "" : "s"}`;

// What it would have taken to decide otherwise; an empty text where the score did not decide.
const otherwise = (rec, at, kind, e, tau) => {
  const code = rec.reasons[at];
  const share = short(e / tau);
  if (code === 2)
    return (
      `With τ above ${short(e)} (${share} times the present one) it would have been reused, ` +
      `and its features would be ${steps(rec.age[at])} old.`
    );
  if (code === 0)
    return kind === "reused"
      ? `With τ below ${short(e)} (${share} times the present one) it would have been computed.`
      : "";
  if (code === 4) {
    if (kind === "refresh") return "";
    return e > tau
      ? "Its own score exceeded τ as well."
      : "Judged by its own score, it would have been reused.";
  }
  return e > tau
    ? "It would have been computed anyway: its score exceeds τ."
    : `Judged by its score, it would have been reused: eₖ is ${share} of τ.`;
};

const nextComputed = (rec, step, k) => {
  const code = rec.reasons[step * rec.n + k];
  for (let i = step + 1; i < rec.count; i++)
    if (rec.reasons[i * rec.n + k]) return `It was computed ${code ? "again" : "next"} at step ${i + 1}.`;
  return "It was not computed again in this run.";
};

const facts = (page, at, judged) => {
  const { rec, step } = page;
  const [, version, policy] = rec.policyAt(step);
  const list = element("dl");
  const items = [
    ["score eₖ", step ? short(rec.e[at]) : "–"],
    ["threshold τ", judged ? short(rec.at("tau", step)) : "–"],
    ["input drift dₖ", step ? short(rec.drift[at]) : "–"],
    ["age", step ? steps(rec.age[at]) : "–"],
    ["|Xₖ|", short(rec.spectrum[at * rec.M + page.channel])],
    ["r before", step ? short(rec.r[step - 1]) : "–"],
    ["this step", `${percent(rec.at("share", step))} % of tokens`],
    ["took", `${short(1000 * rec.at("seconds", step))} ms`],
    ["policy", `${policy.trigger}${version ? `, change ${version}` : ""}`],
  ];
  for (const [name, value] of items) {
    const box = element("div");
    box.append(element("dt", name), element("dd", value));
    list.append(box);
  }
  return list;
};

// Marks the lines that decided, and brings them into view when the kind of decision changes.
const markCode = (page, kind, color) => {
  const code = page.el("code");
  const lines = new Set(page.rec.source.marks[kind]);
  code.style.setProperty("--c", color);
  [...code.children].forEach((line, i) => {
    line.classList.toggle("hit", lines.has(i));
  });
  const top = code.querySelector(".hit");
  if (page.marked === kind || !top) return;
  page.marked = kind;
  code.scrollTop = Math.max(0, top.offsetTop - 90);
};

export const explain = (page) => {
  const { rec, step, k, theme: t } = page;
  const key = `${step} ${k} ${page.stamp}`;
  if (page.explained === key) return;
  page.explained = key;
  const at = step * rec.n + k;
  const code = rec.reasons[at];
  const [kind, sentence] = whyOf(rec, step, k);
  const tau = rec.at("tau", step);
  const judged = step > 0 && tau > 0 && tau < 1e30;
  const head = element("p", `Step ${step + 1}, frequency k = ${k}`);
  const chip = element("span", code ? `computed: ${REASONS[code]}` : "reused", "chip");
  chip.style.setProperty("--c", code ? t.colors[code - 1] : t.axis);
  head.append(chip);
  const parts = [
    head,
    element("p", `${code ? "Computed" : "Reused"} because ${sentence}`),
    facts(page, at, judged),
  ];
  const other = judged && rec.e[at] > 0 ? otherwise(rec, at, kind, rec.e[at], tau) : "";
  if (other) parts.push(element("p", other));
  parts.push(element("p", nextComputed(rec, step, k)));
  page.el("why").replaceChildren(...parts);
  markCode(page, kind, code ? t.colors[code - 1] : t.muted);
};
