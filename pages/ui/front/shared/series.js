// Panel of a sample in time, before real series.

// Range of channel m of series in data units, with a margin.
export const seriesRange = (values, M, m) => {
  let lo = Infinity;
  let hi = -Infinity;
  for (let i = m; i < values.length; i += M) {
    lo = Math.min(lo, values[i]);
    hi = Math.max(hi, values[i]);
  }
  const pad = (hi - lo || 1) * 0.18;
  return [lo - pad, hi + pad];
};

// Axes and real series; `about` names the channels and their units, and gives the time axis and sizes.
export const seriesAxes = (plot, theme, about, m, range, fan) => {
  const { N, M, time, channels, units } = about;
  const title = units[m] ? `${channels[m]} (${units[m]})` : channels[m];
  const look = { width: 1, alpha: 0.55, step: time.step };
  plot.axes(theme, { domain: [0, (N - 1) * time.step], title: time.title }, { domain: range, title });
  for (let f = 0; fan && f * N * M < fan.length; f++)
    plot.line(N, (i) => fan[(f * N + i) * M + m], theme.faint, look);
};

// The noisy state and the denoised estimate, from `at` on in their arrays.
export const sampleLines = (plot, theme, about, m, { series, x0 }, at = 0) => {
  const { N, M, time } = about;
  plot.line(N, (i) => series[at + i * M + m], theme.noisy, { width: 1, step: time.step });
  plot.line(N, (i) => x0[at + i * M + m], theme.colors[1], { width: 2.2, step: time.step });
};
