// Lesson 1. A cutoff takes energy away; how much depends on where the data keep it.

import { decadeRange } from "../shared/scales.js";
import { short } from "../shared/text.js";
import { inverse, mirrored, rfft, tokenWeight } from "./fourier.js";
import { extent, percentOf, seriesControls, seriesOf, timeAxis, upright } from "./tools.js";

export const spectrum = {
  panels: [
    ["time", "The series and what remains of it", true],
    ["spectrum", "Spectrum: drag the cutoff K", false, "K"],
    ["energy", "Energy captured by frequencies 0..K", false, "K"],
  ],
  controls: (d) => [
    ...seriesControls(d),
    { name: "K", label: "Cutoff K", low: 0, high: d.n - 1, start: Math.round(d.n / 8) },
    { name: "listen", label: "Listen", kind: "check", start: 0 },
  ],
  compute(d, s) {
    const x = seriesOf(d, s);
    const [re, im] = rfft(x);
    const energy = Float64Array.from(re, (_, k) => tokenWeight(k, d.N) * (re[k] ** 2 + im[k] ** 2));
    const captured = new Float64Array(d.n);
    let sum = 0;
    for (let k = 0; k < d.n; k++) {
      sum += energy[k];
      captured[k] = sum;
    }
    const [low] = inverse(...mirrored(re, im, d.N, s.K));
    return { x, re, im, low, energy, captured: captured.map((v) => v / sum), sum };
  },
  values: (d, s, r, t) => [
    ["xᵢ", `N = ${d.N}`, "steps of the series", { time: t.noisy }],
    ["K", s.K, "cutoff", { spectrum: t.colors[0], energy: t.colors[0] }],
    [
      "|X_K|",
      short(Math.sqrt(r.energy[s.K] / tokenWeight(s.K, d.N))),
      `coefficient at K, of n = ${d.n}`,
      { spectrum: t.colors[1] },
    ],
    ["w_K", tokenWeight(s.K, d.N), "coefficients that this token represents"],
    ["x low-pass", `${s.K + 1} of ${d.n}`, "frequencies left in it", { time: t.colors[1] }],
    ["Σ |X₀..K|² / Σ |X|²", percentOf(r.captured[s.K]), "energy captured", { energy: t.colors[0] }],
    [
      "residual",
      short(Math.sqrt(Math.max(0, r.sum * (1 - r.captured[s.K])) / d.N)),
      "root mean square of what was dropped",
    ],
  ],
  draw(lab, d, s, r, t) {
    const { time, spectrum, energy } = lab.plots;
    time.axes(t, timeAxis(d), {
      domain: extent(r.x, r.low),
      title: `${d.channels[s.channel]} (standard deviations)`,
    });
    time.line(d.N, (i) => r.x[i], t.noisy, { width: 1.2, step: d.time.step });
    time.line(d.N, (i) => r.low[i], t.colors[1], { width: 2.2, step: d.time.step });
    const size = r.energy.map((e, k) => Math.sqrt(e / tokenWeight(k, d.N)));
    const top = Math.max(...size);
    spectrum.axes(
      t,
      { domain: [0, d.n], title: "frequency k" },
      { domain: decadeRange(top * 1e-4, top * 1.2), log: true, title: "|Xₖ|" },
    );
    spectrum.bars(
      d.n,
      (k) => size[k],
      (k) => (k <= s.K ? t.colors[1] : t.faint),
    );
    upright(spectrum, s.K + 1, t.colors[0]);
    energy.axes(t, { domain: [0, d.n], title: "K" }, { domain: [0, 100], title: "% of the energy" });
    energy.line(d.n, (k) => 100 * r.captured[k], t.colors[0], { width: 2, start: 0.5 });
    upright(energy, s.K + 1, t.colors[0]);
  },
  legend: (t) => ({
    time: [
      ["the series", t.noisy],
      ["low-pass: frequencies 0..K", t.colors[1]],
    ],
    spectrum: [
      ["kept", t.colors[1], "box"],
      ["dropped", t.faint, "box"],
    ],
  }),
  // One window is one period of a tone: a frequency of the series is an overtone, and a cutoff takes
  // overtones away.
  sound: (_d, s, r) =>
    s.listen
      ? [r.re.map((v, k) => (k && k <= s.K ? v : 0)), r.im.map((v, k) => (k && k <= s.K ? -v : 0))]
      : null,
};
