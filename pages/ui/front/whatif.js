// The decisions of e2crf.decide on a recorded trace, as core's whatif.py makes them: here at the speed of a drag.

const WHOLE = new Set(["log_snr", "fixed"]);

const simulate = (rec, policy) => {
  const { count, n, width } = rec, reasons = new Uint8Array(count * n), shares = new Float64Array(count);
  const at = new Int32Array(n), score = new Float64Array(n);
  const clock = rec.clocks[policy.clock], { trigger } = policy;
  const interval = new Float64Array(n).fill(policy.bands[policy.bands.length - 1][1]);
  for (const [edge, tau] of [...policy.bands].reverse()) interval.fill(tau, 0, Math.min(n, edge));
  const drifting = trigger === "paper" || trigger === "gain";
  const tau = trigger === "bands" ? 1 : trigger === "fixed" ? policy.refresh_every - 0.5 : policy.tau;
  let refreshed = 0, rested = false, factor = 1;
  if (rec.bySample(policy) && trigger === rec.trigger) factor = rec.factor;
  for (let i = 0; i < count; i++) {
    const row = i * n;
    let done = 0;
    if (i === 0 || trigger === "always") { reasons.fill(4, row, row + n); done = n; }
    else if (trigger !== "never") {
      let any = false;
      for (let k = 0; k < n; k++) {
        const moved = clock[i] - clock[at[k]];
        if (drifting) {
          let d = 0;
          for (let c = 0, a = (row + k) * width, b = (at[k] * n + k) * width; c < width; c++) { const gap = rec.p[a + c] - rec.p[b + c]; d += gap * gap; }
          score[k] = d * rec.weight(policy, i, k);
        } else score[k] = trigger === "fixed" ? i - at[k] : trigger === "bands" ? moved / interval[k] : moved;
        if (score[k] > tau) any = true;
      }
      const before = rec.r[i - 1];
      const refresh = (WHOLE.has(trigger) && any) || (policy.refresh_every && i - refreshed >= policy.refresh_every) ||
        (policy.tau_warn > 0 && before > policy.tau_warn);
      const calm = policy.tau_safe > 0 && before < policy.tau_safe && !rested;
      for (let k = 0; k < n; k++) {
        let why = 0;
        if (refresh) why = 4;
        else if (!calm) {
          if (k <= policy.k_low) why = 1;
          else if (score[k] > tau) why = 2;
          else if (policy.probe_share && rec.probed && rec.probed[row + k]) why = 3;
        }
        if (why) { reasons[row + k] = why; done++; }
      }
    }
    if (policy.tau_safe) rested = done === 0;
    if (done === n) refreshed = i;
    for (let k = 0; done && k < n; k++) if (reasons[row + k]) at[k] = i;
    shares[i] = Math.min(1, done / n * factor);
  }
  return { reasons, shares };
};
