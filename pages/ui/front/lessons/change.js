// Lesson 4. How wrong D becomes when score, D or F is kept for h steps.

import { clamp, decadeRange } from "../shared/scales.js";
import { short } from "../shared/text.js";
import { ramp } from "../shared/theme.js";
import { heat, percentOf } from "./tools.js";

export const change = {
  panels: [
    ["curves", "Error of D when a quantity is kept for h steps", true],
    ["map", "Change of F over h steps: step × frequency", true],
  ],
  controls: () => [{ name: "h", label: "Keep for h steps", low: 1, high: 40, start: 5 }],
  compute(d, s) {
    const { count, n, width } = d;
    const out = {};
    for (const name of ["score", "D", "F"]) {
      const x = d[name];
      const error = new Float64Array(count).fill(Number.NaN);
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
      return v.length ? percentOf(v[v.length >> 1]) : "–";
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
    for (const [name, c] of Object.entries({ score: 0, D: 1, F: 3 })) {
      const positive = (i) => (r[name][i] > 0 ? r[name][i] : Number.NaN);
      curves.line(d.count, positive, t.colors[c], { width: 2, start: 0.5 });
    }
    map.axes(t, { domain: [0, d.count], title: "step" }, { domain: [0, d.n], title: "frequency k" });
    const colors = ramp(t.reused, t.colors[3], 100);
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
      color: (up) => colors[Math.round(100 * clamp((Math.log10(up + 1e-12) + 4) / 4.5, 0, 1))],
    });
  },
  legend: (t) => ({
    curves: [
      ["score kept", t.colors[0]],
      ["D kept", t.colors[1]],
      ["F kept, the rest recomputed", t.colors[3]],
    ],
    map: [
      ["|Δ F|² 10⁻⁴ or less", t.reused, "box"],
      ["3 or more, log scale", t.colors[3], "box"],
    ],
  }),
};
