// Lessons: each is a small machine to play with. What a lesson needs is here; moving a control asks nobody.

import { simulate } from "../shared/decisions.js";
import { saveMenu } from "../shared/downloads.js";
import { mounted } from "../shared/mount.js";
import { readPacket } from "../shared/packet.js";
import { Plot } from "../shared/plot.js";
import { clamp, decadeRange } from "../shared/scales.js";
import { short } from "../shared/text.js";
import { CODES, mix, REASONS, readTheme, rgb } from "../shared/theme.js";

const LABELS = { t: (v) => (v / 1000).toFixed(3), tau: (v) => short(10 ** (v / 100)) };

// Half spectrum X_k (orthonormal) of a real series: [re, im].
const rfft = (x) => {
  const N = x.length;
  const n = Math.floor(N / 2) + 1;
  const re = new Float64Array(n);
  const im = new Float64Array(n);
  const unit = 1 / Math.sqrt(N);
  for (let k = 0; k < n; k++)
    for (let i = 0; i < N; i++) {
      const phase = (2 * Math.PI * ((k * i) % N)) / N;
      re[k] += x[i] * Math.cos(phase) * unit;
      im[k] -= x[i] * Math.sin(phase) * unit;
    }
  return [re, im];
};
const twice = (k, N) => (k === 0 || 2 * k === N ? 1 : 2);
// Inverse of all N coefficients: real and imaginary part in time.
const inverse = (re, im) => {
  const N = re.length;
  const a = new Float64Array(N);
  const b = new Float64Array(N);
  const unit = 1 / Math.sqrt(N);
  for (let k = 0; k < N; k++)
    if (re[k] || im[k])
      for (let i = 0; i < N; i++) {
        const phase = (2 * Math.PI * ((k * i) % N)) / N;
        const c = Math.cos(phase) * unit;
        const s = Math.sin(phase) * unit;
        a[i] += re[k] * c - im[k] * s;
        b[i] += re[k] * s + im[k] * c;
      }
  return [a, b];
};
const extent = (...lists) => {
  let lo = Infinity;
  let hi = -Infinity;
  for (const list of lists)
    for (const v of list)
      if (Number.isFinite(v)) {
        lo = Math.min(lo, v);
        hi = Math.max(hi, v);
      }
  if (!(hi > lo)) {
    lo -= 1;
    hi += 1;
  }
  const pad = (hi - lo) * 0.08;
  return [lo - pad, hi + pad];
};
// Uniform numbers that depend on (step, frequency) alone, so that a probe does not jump while a slider moves.
const chance = (i, k) => {
  let h = (i * 374761393 + k * 668265263) >>> 0;
  h = Math.imul(h ^ (h >>> 13), 1274126177) >>> 0;
  return ((h ^ (h >>> 16)) >>> 0) / 4294967296;
};
const level = (plot, y, color) => {
  const c = plot.ctx;
  c.strokeStyle = color;
  c.lineWidth = plot.lit === color ? 3 : 1.5;
  c.setLineDash([5, 4]);
  c.beginPath();
  c.moveTo(plot.left, plot.y(y));
  c.lineTo(plot.right, plot.y(y));
  c.stroke();
  c.setLineDash([]);
};
const upright = (plot, x, color) => {
  const c = plot.ctx;
  c.strokeStyle = color;
  c.lineWidth = plot.lit === color ? 3.5 : 1.5;
  c.beginPath();
  c.moveTo(plot.x(x), plot.top);
  c.lineTo(plot.x(x), plot.bottom);
  c.stroke();
};
// A map: `value(column, row)` shown by `color(value, column, row)`, drawn once for a `key`.
const heat = (lesson, plot, columns, rows, { key, name, value, color }) => {
  const { panel } = plot.section.dataset;
  if (lesson.sheets[panel]?.key !== key) {
    const sheet = document.createElement("canvas");
    sheet.width = columns;
    sheet.height = rows;
    const context = sheet.getContext("2d");
    const image = context.createImageData(columns, rows);
    const words = new Uint32Array(image.data.buffer);
    for (let c = 0; c < columns; c++)
      for (let k = 0; k < rows; k++) words[(rows - 1 - k) * columns + c] = color(value(c, k));
    context.putImageData(image, 0, 0);
    lesson.sheets[panel] = { key, sheet };
  }
  plot.cells(lesson.sheets[panel].sheet, name, columns, rows, value);
};

const seriesOf = (d, s) =>
  Float64Array.from(
    { length: d.N },
    (_, i) => (d.fan[(s.series * d.N + i) * d.M + s.channel] - d.mean[s.channel]) / d.std[s.channel],
  );
const seriesControls = (d) => [
  { name: "series", label: "Series", low: 0, high: d.F - 1, start: 0, text: (v) => `${v + 1} of ${d.F}` },
  ...(d.M > 1
    ? [{ name: "channel", label: "Channel", low: 0, high: d.M - 1, start: 0, text: (v) => d.channels[v] }]
    : []),
];
const complex = (re, im) => `${re.toFixed(2)} ${im < 0 ? "−" : "+"} ${Math.abs(im).toFixed(2)} i`;
const vpA = (d, t) => Math.exp(-0.25 * t * t * (d.beta_max - d.beta_min) - 0.5 * t * d.beta_min);

const LESSONS = {
  // 1. A cutoff takes energy away; how much depends on where the data keep it.
  spectrum: {
    panels: [
      ["time", "Series, and what is left of it", true],
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
      const fullRe = new Float64Array(d.N);
      const fullIm = new Float64Array(d.N);
      const energy = Float64Array.from(re, (_, k) => twice(k, d.N) * (re[k] ** 2 + im[k] ** 2));
      const captured = new Float64Array(d.n);
      let sum = 0;
      for (let k = 0; k < d.n; k++) {
        sum += energy[k];
        captured[k] = sum;
      }
      for (let k = 0; k <= s.K; k++) {
        fullRe[k] = re[k];
        fullIm[k] = im[k];
        if (twice(k, d.N) === 2) {
          fullRe[d.N - k] = re[k];
          fullIm[d.N - k] = -im[k];
        }
      }
      return {
        x,
        re,
        im,
        low: inverse(fullRe, fullIm)[0],
        energy,
        captured: captured.map((v) => v / sum),
        sum,
      };
    },
    values: (d, s, r, t) => [
      ["xᵢ", `N = ${d.N}`, "steps of the series", { time: t.noisy }],
      ["K", s.K, "cutoff", { spectrum: t.colors[0], energy: t.colors[0] }],
      [
        "|X_K|",
        short(Math.sqrt(r.energy[s.K] / twice(s.K, d.N))),
        `coefficient at K, of n = ${d.n}`,
        { spectrum: t.colors[1] },
      ],
      ["w_K", twice(s.K, d.N), "coefficients this token stands for"],
      ["x low-pass", `${s.K + 1} of ${d.n}`, "frequencies left in it", { time: t.colors[1] }],
      [
        "Σ |X₀..K|² / Σ |X|²",
        `${(100 * r.captured[s.K]).toFixed(1)} %`,
        "energy captured",
        { energy: t.colors[0] },
      ],
      [
        "residual",
        short(Math.sqrt(Math.max(0, r.sum * (1 - r.captured[s.K])) / d.N)),
        "root mean square of what is gone",
      ],
    ],
    draw(lab, d, s, r, t) {
      const { time, spectrum, energy } = lab.plots;
      time.axes(
        t,
        { domain: [0, (d.N - 1) * d.time.step], title: d.time.title },
        { domain: extent(r.x, r.low), title: `${d.channels[s.channel]} (standard deviations)` },
      );
      time.line(d.N, (i) => r.x[i], t.noisy, { width: 1.2, step: d.time.step });
      time.line(d.N, (i) => r.low[i], t.colors[1], { width: 2.2, step: d.time.step });
      const size = r.energy.map((e, k) => Math.sqrt(e / twice(k, d.N)));
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
    // One window is one period of a tone, so a frequency of the series is an overtone, and a cutoff takes overtones away.
    sound: (_d, s, r) =>
      s.listen
        ? [r.re.map((v, k) => (k && k <= s.K ? v : 0)), r.im.map((v, k) => (k && k <= s.K ? -v : 0))]
        : null,
  },
  // 2. Edit one coefficient with and without its mirror.
  mirror: {
    panels: [
      ["real", "Real part in time", false],
      ["imaginary", "Imaginary part in time: must be nothing", false],
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
      const R = new Float64Array(d.N);
      const I = new Float64Array(d.N);
      for (let k = 0; k < d.n; k++) {
        R[k] = re[k];
        I[k] = im[k];
        if (twice(k, d.N) === 2) {
          R[d.N - k] = re[k];
          I[d.N - k] = -im[k];
        }
      }
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
      ["n = ⌊N/2⌋ + 1", d.n, "tokens that say everything", { full: t.colors[0] }],
      ["N / n", (d.N / d.n).toFixed(2), "times less work in every linear layer"],
      ["(N / n)²", ((d.N / d.n) ** 2).toFixed(2), "times less work in attention"],
    ],
    draw(lab, d, s, r, t) {
      const { real, imaginary, full } = lab.plots;
      const [lo, hi] = extent(r.x, r.a);
      real.axes(
        t,
        { domain: [0, (d.N - 1) * d.time.step], title: d.time.title },
        { domain: [lo, hi], title: "Re x" },
      );
      real.line(d.N, (i) => r.x[i], t.noisy, { width: 1.2, step: d.time.step });
      real.line(d.N, (i) => r.a[i], t.colors[1], { width: 2, step: d.time.step });
      imaginary.axes(
        t,
        { domain: [0, (d.N - 1) * d.time.step], title: d.time.title },
        { domain: [-(hi - lo) / 2, (hi - lo) / 2], title: "Im x" },
      );
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
        (k) => (k === s.k || (s.both && k === d.N - s.k) ? t.colors[1] : k < d.n ? t.colors[0] : t.faint),
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
  },
  // 3. Which frequencies stand out of the noise at diffusion time t.
  noise: {
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
      ["a", short(r.a), "scale of the data: a z₀ is lit", { time: t.colors[1] }],
      ["s", short(r.s), "scale of the noise: s² is lit", { power: t.text }],
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
      const word = (c) => {
        const [q, g, b] = rgb(c);
        return ((255 << 24) | (b << 16) | (g << 8) | q) >>> 0;
      };
      const low_ = rgb(t.reused);
      const high = rgb(t.colors[1]);
      const ones = word(t.text);
      const ramp = Array.from({ length: 101 }, (_, i) => word(mix(low_, high, i / 100)));
      heat(lab, map, 300, d.n, {
        key: `${lab.stamp}`,
        name: "log10 of the signal-to-noise ratio; x in 300ths of 1 − t",
        value: (c, k) => {
          const a = vpA(d, 1 - c / 300);
          return Math.log10((a * a * v[k]) / -Math.expm1(2 * Math.log(a)));
        },
        color: (z) => (Math.abs(z) < 0.06 ? ones : ramp[Math.round(100 * clamp((z + 4) / 8, 0, 1))]),
      });
      upright(map, 1 - s.t / 1000, t.colors[0]);
      time.axes(
        t,
        { domain: [0, (d.N - 1) * d.time.step], title: d.time.title },
        { domain: extent(r.x, [-3, 3]), title: "x_t = a x + s ε" },
      );
      time.line(d.N, (i) => r.noisy[i], t.noisy, { width: 1, step: d.time.step });
      time.line(d.N, (i) => r.a * r.x[i], t.colors[1], { width: 2, step: d.time.step });
    },
    legend: (t) => ({
      power: [
        ["a² vₖ above the noise", t.colors[1], "box"],
        ["below it", t.faint, "box"],
        ["s²: the noise, alike at all k", t.text, "dash"],
      ],
      map: [
        ["more noise", t.reused, "box"],
        ["more signal", t.colors[1], "box"],
        ["a² vₖ = s²", t.text, "box"],
      ],
      time: [
        ["noisy series", t.noisy],
        ["its part that is data, a x", t.colors[1]],
      ],
    }),
  },
  // 4. How wrong D becomes when score, D or F is kept for h steps.
  change: {
    panels: [
      ["curves", "Error of D when something is kept for h steps", true],
      ["map", "Change of F over h steps: step × frequency", true],
    ],
    controls: () => [{ name: "h", label: "Keep for h steps", low: 1, high: 40, start: 5 }],
    compute(d, s) {
      const { count, n, width } = d;
      const out = {};
      for (const name of ["score", "D", "F"]) {
        const x = d[name];
        const error = new Float64Array(count).fill(NaN);
        for (let i = s.h; i < count; i++) {
          let up = 0;
          let down = 0;
          for (let k = 0; k < n; k++) {
            const reach = name === "F" ? d.c_out[i * n + k] : 1;
            for (let c = 0; c < width; c++) {
              const a = (i * n + k) * width + c;
              const b = ((i - s.h) * n + k) * width + c;
              up += (reach * (x[a] - x[b])) ** 2;
              down += d.D[a] ** 2;
            }
          }
          error[i] = Math.sqrt(up / down);
        }
        out[name] = error;
      }
      return out;
    },
    values: (d, s, r, t) => {
      const half = d.count >> 1;
      const typical = (x) =>
        short([...x.subarray(half * d.n, (half + 1) * d.n)].sort((a, b) => a - b)[d.n >> 1]);
      const middle = (x) => {
        const v = [...x].filter(Number.isFinite).sort((a, b) => a - b);
        return v.length ? `${(100 * v[v.length >> 1]).toFixed(1)} %` : "–";
      };
      return [
        ["h", s.h, "steps"],
        ["s²/a |Δ score| / |D|", middle(r.score), "score kept, median", { curves: t.colors[0] }],
        ["|Δ D| / |D|", middle(r.D), "D kept, median", { curves: t.colors[1] }],
        ["|c_out Δ F| / |D|", middle(r.F), "F kept, median", { curves: t.colors[3] }],
        ["c_skip", typical(d.c_skip), `at step ${half + 1}, typical token`],
        ["c_out", typical(d.c_out), `at step ${half + 1}, typical token`],
        ["c_in", typical(d.c_in), `at step ${half + 1}, typical token`],
        ["a, s", `${short(d.a[half])}, ${short(d.s[half])}`, `at step ${half + 1}, t = ${short(d.t[half])}`],
      ];
    },
    draw(lab, d, s, r, t) {
      const { curves, map } = lab.plots;
      const all = ["score", "D", "F"].flatMap((name) => [...r[name]]).filter((v) => v > 0);
      curves.axes(
        t,
        { domain: [0, d.count], title: "step, from noise to data" },
        {
          domain: decadeRange(Math.max(Math.min(...all), Math.max(...all) * 1e-5), Math.max(...all)),
          log: true,
          title: "error of D, relative to D",
        },
      );
      [
        ["score", 0],
        ["D", 1],
        ["F", 3],
      ].forEach(([name, c]) =>
        curves.line(d.count, (i) => (r[name][i] > 0 ? r[name][i] : NaN), t.colors[c], {
          width: 2,
          start: 0.5,
        }),
      );
      map.axes(t, { domain: [0, d.count], title: "step" }, { domain: [0, d.n], title: "frequency k" });
      const low = rgb(t.reused);
      const high = rgb(t.colors[3]);
      const ramp = Array.from({ length: 101 }, (_, i) => {
        const [q, g, b] = rgb(mix(low, high, i / 100));
        return ((255 << 24) | (b << 16) | (g << 8) | q) >>> 0;
      });
      heat(lab, map, d.count, d.n, {
        key: `${lab.stamp} ${s.h}`,
        name: "|Δ F|²",
        value: (i, k) => {
          if (i < s.h) return 0;
          let up = 0;
          for (let c = 0; c < d.width; c++)
            up += (d.F[(i * d.n + k) * d.width + c] - d.F[((i - s.h) * d.n + k) * d.width + c]) ** 2;
          return up;
        },
        color: (up) => ramp[Math.round(100 * clamp((Math.log10(up + 1e-12) + 4) / 4.5, 0, 1))],
      });
    },
    legend: (t) => ({
      curves: [
        ["score kept", t.colors[0]],
        ["D kept", t.colors[1]],
        ["F kept, the rest renewed", t.colors[3]],
      ],
      map: [
        ["still", t.reused, "box"],
        ["changing (log scale)", t.colors[3], "box"],
      ],
    }),
  },
  // 5. Thresholds, energy weighting, cutoff and probes on a recorded run.
  events: {
    panels: [
      ["map", "Would-be decisions: step × frequency (drag)", true, "i"],
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
      const policy = {
        ...d.whatif.policy,
        trigger: "paper",
        tau: 10 ** (s.tau / 100),
        energy_weighting: !!s.weigh,
        k_low: s.K,
        probe_share: s.probes / 100,
        refresh_every: s.R,
        tau_safe: 0,
        tau_warn: 0,
      };
      const key = JSON.stringify([policy, lab.stamp]);
      if (this.key === key) return this.made;
      const probed = new Uint8Array(d.count * d.n);
      for (let i = 0; i < d.count; i++)
        for (let k = 0; k < d.n; k++) probed[i * d.n + k] = chance(i, k) < policy.probe_share ? 1 : 0;
      const rec = {
        ...d,
        r: new Float64Array(d.count),
        clocks: d.whatif.clocks,
        width: 2 * d.M,
        factor: 1,
        bySample: () => false,
        probed,
        weight: (p, i, k) => {
          if (!p.energy_weighting) return 1;
          let e = p.energy_eps;
          for (let c = 0, a = (i * d.n + k) * 2 * d.M; c < 2 * d.M; c++) e += d.p[a + c] ** 2;
          return e;
        },
      };
      const { reasons, shares } = simulate(rec, policy);
      const last = new Int32Array(d.count * d.n);
      const at = new Int32Array(d.n);
      for (let i = 0; i < d.count; i++)
        for (let k = 0; k < d.n; k++) {
          last[i * d.n + k] = at[k];
          if (reasons[i * d.n + k]) at[k] = i;
        }
      this.key = key;
      this.made = { policy, reasons, shares, rec, last, mean: shares.reduce((a, b) => a + b, 0) / d.count };
      return this.made;
    },
    score(r, i, k) {
      const { rec } = r;
      const w = rec.width;
      const a = (i * rec.n + k) * w;
      const b = (r.last[i * rec.n + k] * rec.n + k) * w;
      let drift = 0;
      for (let c = 0; c < w; c++) drift += (rec.p[a + c] - rec.p[b + c]) ** 2;
      return drift * rec.weight(r.policy, i, k);
    },
    values(d, s, r, t) {
      let top = 0;
      for (let k = 0; k < d.n; k++) if (this.score(r, s.i, k) > this.score(r, s.i, top)) top = k;
      const e = this.score(r, s.i, top);
      const count = [0, 0, 0, 0, 0];
      for (const code of r.reasons) count[code]++;
      return [
        ["τ", short(r.policy.tau), "threshold", { scores: t.colors[1] }],
        [
          "eₖ",
          short(e),
          `largest at this step: k = ${top}`,
          { scores: r.reasons[s.i * d.n + top] ? t.colors[r.reasons[s.i * d.n + top] - 1] : t.axis },
        ],
        [
          "dₖ",
          short(e / r.rec.weight(r.policy, s.i, top)),
          `its drift since step ${r.last[s.i * d.n + top] + 1}`,
        ],
        [
          "ε + |zₖ|²",
          s.weigh ? short(r.rec.weight(r.policy, s.i, top)) : "1",
          s.weigh ? `its energy, ε = ${r.policy.energy_eps}` : "weighting is off",
        ],
        ["|S| / n", `${(100 * r.mean).toFixed(1)} %`, "tokens computed", { share: t.colors[0] }],
        ["events", `${((100 * count[2]) / r.reasons.length).toFixed(1)} %`, "score above τ"],
        ["low band", `${((100 * count[1]) / r.reasons.length).toFixed(1)} %`, "k ≤ K"],
        ["probes", `${((100 * count[3]) / r.reasons.length).toFixed(1)} %`, "drawn at random"],
        ["refresh", `${((100 * count[4]) / r.reasons.length).toFixed(1)} %`, "every R steps"],
      ];
    },
    draw(lab, d, s, r, t) {
      const { map, scores, share } = lab.plots;
      const words = [t.reused, ...t.colors.slice(0, 4)].map((c) => {
        const [q, g, b] = rgb(c);
        return ((255 << 24) | (b << 16) | (g << 8) | q) >>> 0;
      });
      map.axes(t, { domain: [0, d.count], title: "step" }, { domain: [0, d.n], title: "frequency k" });
      heat(lab, map, d.count, d.n, {
        key: `${lab.stamp} ${this.key}`,
        name: CODES,
        value: (i, k) => r.reasons[i * d.n + k],
        color: (code) => words[code],
      });
      upright(map, s.i + 0.5, t.text);
      scores.axes(
        t,
        { domain: [0, d.n], title: "frequency k" },
        { domain: [1e-6, 1e3], log: true, title: s.weigh ? "eₖ = dₖ (ε + |Xₖ|²)" : "eₖ = dₖ" },
      );
      scores.dots(
        Array.from({ length: d.n }, (_, k) => {
          const why = r.reasons[s.i * d.n + k];
          return [
            k + 0.5,
            this.score(r, s.i, k),
            why ? t.colors[why - 1] : t.axis,
            why ? `computed: ${REASONS[why]}` : "reused",
            why ? 2.8 : 2.2,
          ];
        }),
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
      map: [...[1, 2, 3, 4].map((i) => [REASONS[i], t.colors[i - 1], "box"]), ["reused", t.reused, "box"]],
      scores: [
        ["computed (color: why)", t.colors[1], "box"],
        ["reused", t.axis, "box"],
        ["τ", t.colors[1], "dash"],
      ],
      share: [["share of tokens, mean so far", t.colors[0]]],
    }),
  },
};

class Lesson {
  constructor(root) {
    this.root = root;
    this.lab = root.querySelector(".lab");
    this.renders = 0;
    this.stamp = 0;
    this.observer = new ResizeObserver(() => {
      for (const p of Object.values(this.plots || {})) p.fit();
      this.dirty();
    });
    this.observer.observe(this.lab);
    this.lab.querySelector('[data-el="save"]').append(saveMenu(this));
  }

  // ---- what a saved picture says of itself
  title() {
    return `Lesson: ${this.key}`;
  }
  caption() {
    return [
      this.key,
      ...Object.entries(this.inputs)
        .filter(([, { control }]) => control.kind !== "check")
        .map(([_name, { said, control }]) => `${control.label} ${said.textContent}`),
    ].join(" · ");
  }
  file() {
    return `lesson-${this.data.lesson}`;
  }

  close() {
    this.observer.disconnect();
    this.silence();
    clearTimeout(this.later);
  }

  update({ data }) {
    this.theme = readTheme(this.root.host || this.lab);
    this.lab.style.setProperty("--bad", this.theme.bad);
    const { head, arrays } = readPacket(data);
    this.stamp += 1;
    this.sheets = {};
    if (this.key !== head.key) {
      this.key = head.key;
      this.data = { ...head, ...arrays };
      this.lesson = LESSONS[head.lesson];
      this.silence();
      this.build();
    }
    const legends = this.lesson.legend(this.theme);
    for (const [name, items] of Object.entries(legends))
      this.plots[name].section.querySelector(".legend").innerHTML = items
        .map(([text, color, kind = ""]) => `<span><i class="${kind}" style="--c:${color}"></i>${text}</span>`)
        .join("");
    this.dirty();
  }

  build() {
    const grid = this.lab.querySelector(".grid");
    const box = this.lab.querySelector(".inputs");
    grid.replaceChildren();
    box.replaceChildren();
    this.plots = {};
    this.state = { channel: 0, series: 0 };
    this.inputs = {};
    for (const [name, title, wide, drag] of this.lesson.panels) {
      const section = document.createElement("section");
      section.dataset.panel = name;
      section.classList.toggle("wide", wide);
      section.classList.toggle("grab", !!drag);
      section.innerHTML =
        '<h3></h3><p class="legend"></p><div class="plot"><canvas role="img"></canvas></div>';
      section.querySelector("h3").textContent = title;
      section.querySelector("canvas").setAttribute("aria-label", title);
      grid.append(section);
      this.plots[name] = new Plot(section);
      if (drag) this.grab(this.plots[name], drag);
    }
    for (const control of this.lesson.controls(this.data)) {
      const label = document.createElement("label");
      const input = document.createElement("input");
      const said = document.createElement("b");
      const check = control.kind === "check";
      input.type = check ? "checkbox" : "range";
      input.setAttribute("aria-label", control.label);
      if (!check) {
        input.min = control.low;
        input.max = control.high;
        input.step = 1;
      }
      const asked = Number(this.data.view[control.name]);
      const start =
        this.data.view[control.name] !== undefined && Number.isFinite(asked)
          ? Math.round(asked)
          : control.start;
      this.state[control.name] = check ? +!!start : clamp(start, control.low, control.high);
      input.addEventListener("input", () => {
        this.state[control.name] = check ? +input.checked : +input.value;
        this.dirty();
      });
      label.append(control.label, input);
      if (!check) label.append(said);
      box.append(label);
      this.inputs[control.name] = { input, said, control };
    }
  }

  grab(plot, name) {
    const place = (event) => {
      const { control } = this.inputs[name];
      const at = plot.x.invert(event.clientX - plot.canvas.getBoundingClientRect().left);
      this.state[name] = clamp(
        name === "t" ? Math.round((1 - at) * 1000) : Math.floor(at) - (name === "K" ? 1 : 0),
        control.low,
        control.high,
      );
      this.dirty();
    };
    plot.canvas.addEventListener("pointerdown", (event) => {
      if (!this.inputs[name]) return;
      plot.canvas.setPointerCapture(event.pointerId);
      place(event);
    });
    plot.canvas.addEventListener("pointermove", (event) => {
      if (plot.canvas.hasPointerCapture(event.pointerId)) place(event);
    });
  }

  dirty() {
    if (this.frame || !this.data) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    if (!this.lab.isConnected || !Object.values(this.plots)[0].width) return;
    const { lesson, data, state, theme } = this;
    const result = lesson.compute(data, state, this);
    for (const [name, { input, said, control }] of Object.entries(this.inputs)) {
      if (control.kind === "check") input.checked = !!state[name];
      else {
        if (+input.value !== state[name]) input.value = state[name];
        said.textContent = (control.text || String)(state[name]);
      }
    }
    lesson.draw(this, data, state, result, theme);
    this.tiles(lesson.values(data, state, result, theme));
    this.hear(lesson.sound ? lesson.sound(data, state, result) : null);
    Object.assign(this.lab.dataset, { renders: ++this.renders, lesson: data.lesson });
    this.address();
  }

  // Symbols of the formula with their values; one that is a trace lights it up while it is pointed at or focused.
  tiles(values) {
    const list = this.lab.querySelector(".values");
    while (list.children.length > values.length) list.lastElementChild.remove();
    values.forEach(([symbol, value, help, lights], i) => {
      let box = list.children[i];
      if (!box) {
        box = document.createElement("div");
        box.innerHTML = "<dt></dt><dd><span></span><small></small></dd>";
        for (const [event, on] of [
          ["pointerenter", true],
          ["focus", true],
          ["pointerleave", false],
          ["blur", false],
        ])
          box.addEventListener(event, () => this.light(on ? box : null));
        list.append(box);
      }
      const put = (query, text) => {
        const node = box.querySelector(query);
        if (node.textContent !== String(text)) node.textContent = text;
      };
      put("dt", symbol);
      put("span", value);
      put("small", help);
      box.lights = lights;
      box.classList.toggle("lights", !!lights);
      if (lights) {
        box.tabIndex = 0;
        box.style.setProperty("--c", Object.values(lights)[0]);
        box.title = "Point here to light up its trace";
      } else {
        box.removeAttribute("tabindex");
        box.removeAttribute("title");
      }
    });
  }

  light(box) {
    for (const [name, plot] of Object.entries(this.plots)) plot.lit = box?.lights?.[name] || null;
    this.lab.dataset.lit = (box?.lights && Object.keys(box.lights).join(" ")) || "";
    this.dirty();
  }

  hear(tone) {
    if (!tone) {
      this.silence();
      return;
    }
    if (!this.audio) {
      this.audio = new AudioContext();
      const gain = this.audio.createGain();
      gain.gain.value = 0.12;
      gain.connect(this.audio.destination);
      this.voice = this.audio.createOscillator();
      this.voice.frequency.value = 110;
      this.voice.connect(gain);
      this.voice.start();
    }
    this.voice.setPeriodicWave(
      this.audio.createPeriodicWave(Float32Array.from(tone[0]), Float32Array.from(tone[1])),
    );
  }

  silence() {
    if (this.audio) {
      this.audio.close();
      this.audio = null;
    }
  }

  address() {
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      const query = new URLSearchParams(location.search);
      for (const [name, { control }] of Object.entries(this.inputs))
        if (this.state[name] === control.start) query.delete(name);
        else query.set(name, this.state[name]);
      history.replaceState(history.state, "", `${location.pathname}?${query}`);
    }, 400);
  }
}

export default mounted(Lesson);
