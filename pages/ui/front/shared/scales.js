// Scales, their ticks, and ranges of values.

export const clamp = (v, lo, hi) => Math.min(hi, Math.max(lo, v));

export const linear = (d0, d1, p0, p1) => {
  const m = (p1 - p0) / (d1 - d0 || 1);
  const f = (v) => p0 + (v - d0) * m;
  f.invert = (p) => d0 + (p - p0) / m;
  f.domain = [d0, d1];
  return f;
};

export const logarithmic = (d0, d1, p0, p1) => {
  const inner = linear(Math.log10(d0), Math.log10(d1), p0, p1);
  const f = (v) => inner(Math.log10(v > d0 ? v : d0));
  f.invert = (p) => 10 ** inner.invert(p);
  f.domain = [d0, d1];
  return f;
};

export const niceTicks = (lo, hi, wanted) => {
  const rough = (hi - lo) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((s) => s >= rough * 0.999);
  const ticks = [];
  for (let v = Math.ceil(lo / step) * step; v <= hi + step * 1e-6; v += step)
    ticks.push(Math.abs(v) < step * 1e-6 ? 0 : v);
  return ticks;
};

export const decades = (lo, hi, wanted) => {
  const a = Math.ceil(Math.log10(lo) - 1e-9);
  const b = Math.floor(Math.log10(hi) + 1e-9);
  const stride = Math.max(1, Math.ceil((b - a + 1) / wanted));
  const ticks = [];
  for (let d = a; d <= b; d += stride) ticks.push(10 ** d);
  return ticks;
};

// Whole decades around positive values, never fewer than two.
export const decadeRange = (lo, hi) => {
  let a = Math.floor(Math.log10(lo) + 1e-9);
  let b = Math.ceil(Math.log10(hi) - 1e-9);
  while (b - a < 2) {
    b += 1;
    if (b - a < 2) a -= 1;
  }
  return [10 ** a, 10 ** b];
};

// Ticks of a logarithmic axis: 1, 2 and 5 of each decade where there is room, else whole decades.
export const logTicks = (lo, hi, room) => {
  const inside = [];
  const decades = [];
  for (let d = Math.floor(Math.log10(lo)); d <= Math.ceil(Math.log10(hi)); d++)
    for (const f of [1, 2, 5]) {
      const v = f * 10 ** d;
      if (v < lo * 0.999 || v > hi * 1.001) continue;
      inside.push(v);
      if (f === 1) decades.push(v);
    }
  return inside.length <= room || decades.length < 2 ? inside : decades;
};
