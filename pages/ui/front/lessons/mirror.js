// Lesson 2. Edit one coefficient with and without its mirror.

import { decadeRange } from "../shared/scales.js";
import { short } from "../shared/text.js";
import { inverse, mirrored, rfft } from "./fourier.js";
import { extent, seriesControls, seriesOf, timeAxis, upright } from "./tools.js";

const complex = (re, im) => `${re.toFixed(2)} ${im < 0 ? "−" : "+"} ${Math.abs(im).toFixed(2)} i`;

export const mirror = {
  panels: [
    ["real", "Real part in time", false],
    ["imaginary", "Imaginary part in time: must be zero", false],
    ["full", "All N coefficients: k and N − k mirror each other", true, "k"],
  ],
  controls: (d) => [
    ...seriesControls(d),
    { name: "k", label: "k", low: 1, high: Math.floor((d.N - 1) / 2), start: Math.min(5, d.n - 2) },
    { name: "re", label: "add to Re Xₖ", low: -50, high: 50, start: 30, text: (v) => (v / 10).toFixed(1) },
    { name: "im", label: "add to Im Xₖ", low: -50, high: 50, start: 20, text: (v) => (v / 10).toFixed(1) },
    { name: "both", label: "edit the mirror X[N−k] too", kind: "check", start: 0 },
  ],
  compute(d, s) {
    const x = seriesOf(d, s);
    const [re, im] = rfft(x);
    const [R, I] = mirrored(re, im, d.N);
    R[s.k] += s.re / 10;
    I[s.k] += s.im / 10;
    if (s.both) {
      R[d.N - s.k] += s.re / 10;
      I[d.N - s.k] -= s.im / 10;
    }
    const [a, b] = inverse(R, I);
    return { x, a, b, R, I, residue: b.reduce((m, v) => Math.max(m, Math.abs(v)), 0) };
  },
  values: (d, s, r, t) => [
    ["X_k", complex(r.R[s.k], r.I[s.k]), `k = ${s.k}, edited`, { full: t.colors[1], real: t.colors[1] }],
    [
      "X_N−k",
      complex(r.R[d.N - s.k], r.I[d.N - s.k]),
      `N − k = ${d.N - s.k}, its mirror`,
      { full: s.both ? t.colors[1] : t.faint },
    ],
    [
      "max |Im x|",
      r.residue < 1e-9 ? "0" : short(r.residue),
      r.residue < 1e-9 ? "a real series" : "not a real series",
      { imaginary: r.residue < 1e-9 ? t.good : t.bad },
    ],
    ["N", d.N, "coefficients", { full: t.faint }],
    ["n = ⌊N/2⌋ + 1", d.n, "tokens that hold all of it", { full: t.colors[0] }],
    ["N / n", (d.N / d.n).toFixed(2), "times less work in every linear layer"],
    ["(N / n)²", ((d.N / d.n) ** 2).toFixed(2), "times less work in attention"],
  ],
  draw(lab, d, s, r, t) {
    const { real, imaginary, full } = lab.plots;
    const [lo, hi] = extent(r.x, r.a);
    real.axes(t, timeAxis(d), { domain: [lo, hi], title: "Re x" });
    real.line(d.N, (i) => r.x[i], t.noisy, { width: 1.2, step: d.time.step });
    real.line(d.N, (i) => r.a[i], t.colors[1], { width: 2, step: d.time.step });
    imaginary.axes(t, timeAxis(d), { domain: [-(hi - lo) / 2, (hi - lo) / 2], title: "Im x" });
    imaginary.line(d.N, (i) => r.b[i], r.residue < 1e-9 ? t.good : t.bad, { width: 2, step: d.time.step });
    const size = r.R.map((v, k) => Math.hypot(v, r.I[k]));
    const top = Math.max(...size);
    full.axes(
      t,
      { domain: [0, d.N], title: "k = 0 .. N − 1" },
      { domain: decadeRange(top * 1e-4, top * 1.2), log: true, title: "|Xₖ|" },
    );
    full.bars(
      d.N,
      (k) => size[k],
      (k) => {
        if (k === s.k || (s.both && k === d.N - s.k)) return t.colors[1];
        return k < d.n ? t.colors[0] : t.faint;
      },
    );
    upright(full, d.n, t.text);
  },
  legend: (t) => ({
    real: [
      ["before", t.noisy],
      ["after", t.colors[1]],
    ],
    full: [
      ["the n tokens", t.colors[0], "box"],
      ["their mirror: nothing new", t.faint, "box"],
      ["edited", t.colors[1], "box"],
    ],
  }),
};
