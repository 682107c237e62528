// Lesson 3. Which frequencies stand out of the noise at diffusion time t.

import { clamp, decadeRange } from "../shared/scales.js";
import { short } from "../shared/text.js";
import { packed, ramp } from "../shared/theme.js";
import { extent, heat, LABELS, level, seriesControls, seriesOf, timeAxis, upright } from "./tools.js";

// Scale a(t) of the data in the variance-preserving process (E2).
const vpA = (d, t) => Math.exp(-0.25 * t * t * (d.beta_max - d.beta_min) - 0.5 * t * d.beta_min);

export const noise = {
  panels: [
    ["power", "Data and noise at time t, by frequency", false],
    ["map", "Signal-to-noise ratio: time × frequency", false, "t"],
    ["time", "The noisy series at time t", true],
  ],
  controls: (d) => [
    ...seriesControls(d),
    { name: "t", label: "Diffusion time t", low: 1, high: 1000, start: 400, text: LABELS.t },
  ],
  compute(d, s) {
    const time = s.t / 1000;
    const a = vpA(d, time);
    const sd = Math.sqrt(-Math.expm1(2 * Math.log(a)));
    const x = seriesOf(d, s);
    const snr = Float64Array.from({ length: d.n }, (_, k) => (a * a * d.v[k]) / (sd * sd));
    return {
      a,
      s: sd,
      snr,
      x,
      noisy: x.map((v, i) => a * v + sd * d.noise[i]),
      above: snr.filter((v) => v > 1).length,
    };
  },
  values: (d, s, r, t) => [
    ["t", LABELS.t(s.t), "1 is noise, 0 is data", { map: t.colors[0] }],
    ["a", short(r.a), "scale of the data; highlights a z₀", { time: t.colors[1] }],
    ["s", short(r.s), "scale of the noise; highlights s²", { power: t.text }],
    ["z_t", "a z₀ + s ε", "the noisy series", { time: t.noisy }],
    [
      "v_k",
      `${short(Math.min(...d.v))} to ${short(Math.max(...d.v))}`,
      "variances of the tokens",
      { power: r.above ? t.colors[1] : t.faint },
    ],
    [
      "SNR_k",
      `${short(Math.min(...r.snr))} to ${short(Math.max(...r.snr))}`,
      "a² vₖ / s²",
      { power: r.above ? t.colors[1] : t.faint },
    ],
    ["β₀, β₁", `${d.beta_min}, ${d.beta_max}`, "of the noise schedule"],
    ["log(a/s)", Math.log(r.a / r.s).toFixed(2), "the clock of the cache"],
    [
      "a² vₖ > s²",
      `${r.above} of ${d.n}`,
      "frequencies above the noise",
      { power: r.above ? t.colors[1] : t.faint },
    ],
  ],
  draw(lab, d, s, r, t) {
    const { power, map, time } = lab.plots;
    const v = d.v;
    const top = Math.max(...v);
    const low = Math.min(...v);
    power.axes(
      t,
      { domain: [0, d.n], title: "frequency k" },
      {
        domain: decadeRange(Math.max(low * 0.1, top * 1e-5), Math.max(top, 1) * 1.2),
        log: true,
        title: "variance",
      },
    );
    power.bars(
      d.n,
      (k) => r.a ** 2 * v[k],
      (k) => (r.snr[k] > 1 ? t.colors[1] : t.faint),
    );
    level(power, r.s ** 2, t.text);
    map.axes(
      t,
      { domain: [0, 1], title: "1 − t: noise to the left, data to the right" },
      { domain: [0, d.n], title: "frequency k" },
    );
    const ones = packed(t.text);
    const colors = ramp(t.reused, t.colors[1], 100);
    heat(lab, map, 300, d.n, {
      key: `${lab.stamp}`,
      name: "log10 of the signal-to-noise ratio; x in 300ths of 1 − t",
      value: (c, k) => {
        const a = vpA(d, 1 - c / 300);
        return Math.log10((a * a * v[k]) / -Math.expm1(2 * Math.log(a)));
      },
      color: (z) => (Math.abs(z) < 0.06 ? ones : colors[Math.round(100 * clamp((z + 4) / 8, 0, 1))]),
    });
    upright(map, 1 - s.t / 1000, t.colors[0]);
    time.axes(t, timeAxis(d), { domain: extent(r.x, [-3, 3]), title: "x_t = a x + s ε" });
    time.line(d.N, (i) => r.noisy[i], t.noisy, { width: 1, step: d.time.step });
    time.line(d.N, (i) => r.a * r.x[i], t.colors[1], { width: 2, step: d.time.step });
  },
  legend: (t) => ({
    power: [
      ["a² vₖ above the noise", t.colors[1], "box"],
      ["below it", t.faint, "box"],
      ["s²: the noise, equal at all k", t.text, "dash"],
    ],
    map: [
      ["SNR 10⁻⁴ or less", t.reused, "box"],
      ["10⁴ or more", t.colors[1], "box"],
      ["a² vₖ = s²", t.text, "box"],
    ],
    time: [
      ["noisy series", t.noisy],
      ["its part that is data, a x", t.colors[1]],
    ],
  }),
};
