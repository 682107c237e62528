// How the canvases show why a frequency was computed: names, colors, legend, and dots of event scores.

export const REASONS = ["reused", "low band", "event", "probe", "refresh"];
export const CODES = `reason (${REASONS.map((what, code) => `${code} ${what}`).join(", ")})`;

// Colors of the codes 0 to 4 as cells of a map.
export const reasonColors = (theme) => [theme.reused, ...theme.colors.slice(0, 4)];

export const reasonLegend = (theme) => [
  ...[1, 2, 3, 4].map((code) => [REASONS[code], theme.colors[code - 1], "box"]),
  ["reused", theme.reused, "box"],
];

export const scoreLegend = (theme) => [
  ["reused", theme.axis, "box"],
  ["computed (color: why)", theme.colors[3], "box"],
  ["τ in force", theme.colors[1], "dash"],
];

// Dots of the event scores of n frequencies at one step, colored by why each was computed.
export const scoreDots = (theme, n, score, reason) =>
  Array.from({ length: n }, (_, k) => {
    const code = reason(k);
    return code
      ? [k + 0.5, score(k), theme.colors[code - 1], `computed: ${REASONS[code]}`, 2.8]
      : [k + 0.5, score(k), theme.axis, "reused", 2.2];
  });
