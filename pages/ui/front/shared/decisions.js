// The decisions of e2crf.decide on a recorded trace, as core's whatif.py makes them: here at the speed of a
// drag.

const WHOLE = new Set(["log_snr", "fixed"]);
// Triggers whose probes, with feedback on, move a feature only in part: the token stays as stale as it was.
const DAMPS_PROBES = new Set(["paper", "paper_literal"]);
// Triggers that probe a random subset when others would refresh everything.
const PROBES_WHEN_DUE = new Set(["paper_literal"]);
const CONSTANT = new Set(["always", "never"]);
const REUSED = 0;
const LOW_BAND = 1;
const EVENT = 2;
const PROBE = 3;
const REFRESH = 4;

// Energy of a token, by which its drift counts where a policy weighs by energy. The published |X_k|² is half of
// the energy of a token that stands for its mirror image, too (E1).
export const energyWeight = (rec, policy, i, k) => {
  const share = policy.trigger === "paper_literal" && k > 0 && 2 * k !== rec.N ? 0.5 : 1;
  if (!policy.energy_weighting) return share;
  let energy = 0;
  for (let c = 0, a = (i * rec.n + k) * rec.width; c < rec.width; c++) energy += rec.p[a + c] ** 2;
  return share * (policy.energy_eps + share * energy);
};

// Squared difference of the network's input at (i, k) to that at the step when k was last computed, weighted
// (E5).
export const drift = (rec, policy, i, k, last) => {
  const { n, width, p } = rec;
  let sum = 0;
  for (let c = 0, a = (i * n + k) * width, b = (last * n + k) * width; c < width; c++) {
    const gap = p[a + c] - p[b + c];
    sum += gap * gap;
  }
  return sum * rec.weight(policy, i, k);
};

// The bound of each frequency's band on how far the clock may move between two computations.
const bandIntervals = ({ bands }, n) => {
  const interval = new Float64Array(n).fill(bands[bands.length - 1][1]);
  for (const [edge, tau] of [...bands].reverse()) interval.fill(tau, 0, Math.min(n, edge));
  return interval;
};

// The trigger's event score as a function of (step, frequency, step of its last computation), and its
// threshold.
const scoring = (rec, policy) => {
  const { trigger } = policy;
  const clock = rec.clocks[policy.clock];
  if (trigger.startsWith("paper") || trigger === "gain")
    return [(i, k, last) => drift(rec, policy, i, k, last), policy.tau];
  if (trigger === "fixed") return [(i, _, last) => i - last, policy.refresh_every - 0.5];
  if (trigger === "bands") {
    const interval = bandIntervals(policy, rec.n);
    return [(i, k, last) => (clock[i] - clock[last]) / interval[k], 1];
  }
  return [(i, _, last) => clock[i] - clock[last], policy.tau];
};

// Why frequency k is computed at a step that neither refreshes everything nor passes without work.
const reasonOf = (rec, policy, at, k, event, probes) => {
  if (k <= policy.k_low) return LOW_BAND;
  if (event) return EVENT;
  return probes && policy.probe_share && rec.probed?.[at] ? PROBE : REUSED;
};

// Reasons of one step, written into `reasons`; the number of frequencies that are computed.
const decide = (rec, policy, i, state, reasons) => {
  const { n } = rec;
  const { last, score, threshold, refreshed, rested } = state;
  const row = i * n;
  const waits = !state.begun && !CONSTANT.has(policy.trigger);
  if (waits && rec.clocks.log_snr[i] - rec.clocks.log_snr[0] < policy.start) return 0;
  if (!state.begun || policy.trigger === "always") {
    state.begun = true;
    reasons.fill(REFRESH, row, row + n);
    return n;
  }
  if (policy.trigger === "never") return 0;
  const events = state.events;
  let any = false;
  for (let k = 0; k < n; k++) {
    const event = score(i, k, last[k]) > threshold;
    events[k] = event ? 1 : 0;
    any ||= event;
  }
  const before = rec.r[i - 1];
  const literal = PROBES_WHEN_DUE.has(policy.trigger);
  const elapsed = i - refreshed;
  const due = literal ? elapsed % policy.refresh_every === 0 : elapsed >= policy.refresh_every;
  const refresh =
    (WHOLE.has(policy.trigger) && any) ||
    (policy.refresh_every && due) ||
    (policy.tau_warn > 0 && before > policy.tau_warn);
  if (refresh && !literal) {
    reasons.fill(REFRESH, row, row + n);
    return n;
  }
  if (!literal && policy.tau_safe > 0 && before < policy.tau_safe && !rested) return 0;
  let computed = 0;
  for (let k = 0; k < n; k++) {
    const reason = reasonOf(rec, policy, row + k, k, events[k], refresh || !literal);
    if (reason === REUSED) continue;
    reasons[row + k] = reason;
    computed++;
  }
  return computed;
};

// Reason of every (step, frequency), and the share of tokens that each step computes, had `policy` decided.
export const simulate = (rec, policy) => {
  const { count, n } = rec;
  const reasons = new Uint8Array(count * n);
  const shares = new Float64Array(count);
  const [score, threshold] = scoring(rec, policy);
  const damps = policy.correct && DAMPS_PROBES.has(policy.trigger);
  const last = new Int32Array(n);
  const state = { last, score, threshold, events: new Uint8Array(n), refreshed: 0, rested: false };
  // A decision of each sample's own is known for one sample only: scaled to what the whole batch did.
  const factor = rec.bySample(policy) && policy.trigger === rec.trigger ? rec.factor : 1;
  for (let i = 0; i < count; i++) {
    const computed = decide(rec, policy, i, state, reasons);
    if (policy.tau_safe) state.rested = computed === 0;
    let current = 0;
    for (let k = 0; computed && k < n; k++) {
      const reason = reasons[i * n + k];
      if (reason === REUSED || (damps && reason === PROBE)) continue;
      last[k] = i;
      current++;
    }
    if (current === n) state.refreshed = i;
    shares[i] = Math.min(1, (computed / n) * factor);
  }
  return { reasons, shares };
};
