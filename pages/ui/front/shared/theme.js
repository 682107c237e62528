// Colors of the theme in use, shared by every canvas.

export const rgb = (text) => {
  const c = document.createElement("canvas").getContext("2d");
  c.fillStyle = text;
  c.fillRect(0, 0, 1, 1);
  return [...c.getImageData(0, 0, 1, 1).data.slice(0, 3)];
};
// A CSS color as one word of an image's data: alpha, blue, green, red.
export const packed = (color) => {
  const [r, g, b] = typeof color === "string" ? rgb(color) : color;
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
};

// `steps + 1` packed colors from one color to another.
export const ramp = (from, to, steps) => {
  const low = rgb(from);
  const high = rgb(to);
  return Array.from({ length: steps + 1 }, (_, i) => packed(mix(low, high, i / steps)));
};

export const mix = (a, b, share) => `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * share)).join(",")})`;

export const readTheme = (host) => {
  const style = getComputedStyle(host);
  const get = (name, other) => style.getPropertyValue(name).trim() || other;
  const back = rgb(get("--st-background-color", "#fff"));
  const fore = rgb(get("--st-text-color", "#222"));
  const dark = back[0] + back[1] + back[2] < 384;
  const listed = get("--st-chart-categorical-colors", "")
    .split(/,(?![^(]*\))/)
    .map((c) => c.trim())
    .filter(Boolean);
  const colors =
    listed.length >= 8
      ? listed
      : ["#0067A5", "#C75100", "#A8458A", "#00855F", "#8A6D00", "#2C8FCB", "#5B4FA8", "#6B7280"];
  return {
    dark,
    colors,
    font: get("--st-font", "sans-serif"),
    back: mix(back, fore, 0),
    text: mix(back, fore, 0.92),
    muted: mix(back, fore, 0.72),
    faint: mix(back, fore, dark ? 0.32 : 0.26),
    grid: mix(back, fore, 0.09),
    axis: mix(back, fore, 0.3),
    reused: mix(back, fore, dark ? 0.13 : 0.1),
    noisy: mix(back, fore, 0.5),
    good: colors[3],
    warn: colors[4],
    bad: colors[8] || colors[1],
  };
};
