// The big slider: which field of a policy it turns, over what range, and on which scale.

import { clamp } from "../shared/scales.js";

export const POSITIONS = 200;

const round = (value, digits = 3) => +value.toPrecision(digits);

const intervals = (policy, factor) => ({
  ...policy,
  bands: policy.bands.map(([edge, width]) => [edge, round(width * factor, 4)]),
});

// The field that decides how much is computed: tau, the interval of the clock, or all bands' intervals at once.
export const dialOf = ({ triggers, knobs }, policy, steps) => {
  const rule = triggers[policy.trigger];
  if (rule.range)
    return {
      name: "Threshold τ",
      value: policy.tau,
      low: rule.range[0],
      high: rule.range[1],
      turned: (tau) => ({ ...policy, tau: round(tau) }),
    };
  if (policy.trigger === "fixed")
    return {
      name: "Interval R",
      value: policy.refresh_every,
      low: 1,
      high: Math.max(2, Math.floor(steps / 2)),
      turned: (every) => ({ ...policy, refresh_every: Math.max(1, Math.round(every)) }),
    };
  if (policy.trigger === "bands" && knobs.bands) {
    const first = policy.bands[0][1];
    const widths = policy.bands.map(([, width]) => width / first);
    return {
      name: "Intervals",
      value: first,
      low: knobs.bands.low / Math.min(...widths),
      high: knobs.bands.high / Math.max(...widths),
      turned: (interval) => intervals(policy, interval / first),
    };
  }
  return null;
};

// Positions of the slider are even in the logarithm: each step multiplies.
export const placeOf = ({ value, low, high }) =>
  Math.round((POSITIONS * Math.log(clamp(value, low, high) / low)) / Math.log(high / low));

export const valueAt = ({ low, high }, position) => low * (high / low) ** (position / POSITIONS);

// The policy for another trigger: its own usual values, with the predictor and the clock kept where it has none.
export const switched = (triggers, policy, trigger) => {
  const { base } = triggers[trigger];
  const predictor = base.predictor === "hold" ? policy.predictor : base.predictor;
  return { ...base, predictor, clock: base.clock === "log_snr" ? policy.clock : base.clock };
};

// Settings reported to the page and not yet seen in what it sends. The page may answer late, or only the newest.
export class Reports {
  constructor() {
    this.open = [];
    this.last = null;
  }

  // Whether the page does not know this setting yet; it is then on its way.
  news(setting) {
    if (sameSetting(setting, this.last)) return false;
    this.last = setting;
    this.open.push(setting);
    return true;
  }

  // Whether the page only repeats what it was told: such an echo must not undo what the hand has done since.
  echo(setting) {
    const at = this.open.findIndex((known) => sameSetting(known, setting));
    this.open.splice(0, at + 1);
    return at >= 0;
  }

  // The page has set this itself.
  taken(setting) {
    this.last = setting;
    this.open = [];
  }
}

// Two settings are the same where every field is.
export const sameSetting = (a, b) => !!a && !!b && JSON.stringify(a) === JSON.stringify(b);
