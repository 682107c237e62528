// A recording as panels read it: arrays of all steps, and a table of columns.

import { energyWeight } from "../shared/decisions.js";

export class Recording {
  constructor({ head, arrays }) {
    Object.assign(this, head, arrays);
    this.cells = Object.fromEntries(head.columns.map((name, i) => [name, i]));
    const { count, n } = this;
    this.r = new Float64Array(count);
    for (let i = 0; i < count; i++) this.r[i] = this.at("r", i);
    this.age = new Uint16Array(count * n);
    const last = new Int32Array(n);
    for (let i = 0; i < count; i++)
      for (let k = 0; k < n; k++) {
        this.age[i * n + k] = i - last[k];
        if (this.reasons[i * n + k]) last[k] = i;
      }
    if (this.whatif)
      Object.assign(this, {
        clocks: head.whatif.clocks,
        factor: head.whatif.factor,
        trigger: head.whatif.policy.trigger,
        width: 2 * head.M,
      });
  }

  at(name, step) {
    return this.table[step * this.columns.length + this.cells[name]];
  }

  policyAt(step) {
    return this.policies.filter(([first]) => first <= step).at(-1);
  }

  // Whether each sample of the batch decides by values of its own.
  bySample(policy) {
    return policy.trigger in this.whatif.margin || policy.tau_safe > 0 || policy.tau_warn > 0;
  }

  weight(policy, i, k) {
    if (policy.trigger === "gain") return this.w[i * this.n + k];
    return energyWeight(this, policy, i, k);
  }

  // |X_k| of one channel of a series in data units, standardized as the network sees it.
  amplitude(values, step, m) {
    const { N, M, n } = this;
    const out = new Float64Array(n);
    const x = new Float64Array(N);
    this.cosine ??= Float64Array.from({ length: N }, (_, i) => Math.cos((2 * Math.PI * i) / N));
    this.sine ??= Float64Array.from({ length: N }, (_, i) => Math.sin((2 * Math.PI * i) / N));
    for (let i = 0; i < N; i++) x[i] = (values[(step * N + i) * M + m] - this.mean[m]) / this.std[m];
    for (let k = 0; k < n; k++) {
      let re = 0;
      let im = 0;
      for (let i = 0, phase = 0; i < N; i++) {
        re += x[i] * this.cosine[phase];
        im -= x[i] * this.sine[phase];
        phase += k;
        if (phase >= N) phase -= N;
      }
      out[k] = Math.hypot(re, im) / Math.sqrt(N);
    }
    return out;
  }
}
