// Discrete Fourier transforms, orthonormal, written plainly: a lesson's series are short.

// Half spectrum X_k (orthonormal) of a real series: [re, im].
export const rfft = (x) => {
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

// How many of the N coefficients a token stands for.
export const tokenWeight = (k, N) => (k === 0 || 2 * k === N ? 1 : 2);

// All N coefficients of a real series from those of its half spectrum up to `last`; the others are zero.
export const mirrored = (re, im, N, last = re.length - 1) => {
  const R = new Float64Array(N);
  const I = new Float64Array(N);
  for (let k = 0; k <= last; k++) {
    R[k] = re[k];
    I[k] = im[k];
    if (tokenWeight(k, N) === 2) {
      R[N - k] = re[k];
      I[N - k] = -im[k];
    }
  }
  return [R, I];
};

// Inverse of all N coefficients: real and imaginary part in time.
export const inverse = (re, im) => {
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
