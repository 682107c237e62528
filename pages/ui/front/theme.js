// Colors of the theme that the visitor sees, and numbers as people read them: shared by every canvas.

const REASONS = ["reused", "low band", "event", "probe", "refresh"];
const CODES = `reason (${REASONS.map((what, code) => `${code} ${what}`).join(", ")})`;

const rgb = (text) => {
  const c = document.createElement("canvas").getContext("2d");
  c.fillStyle = text; c.fillRect(0, 0, 1, 1);
  return [...c.getImageData(0, 0, 1, 1).data.slice(0, 3)];
};
const mix = (a, b, share) => `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * share)).join(",")})`;

const readTheme = (host) => {
  const style = getComputedStyle(host);
  const get = (name, other) => style.getPropertyValue(name).trim() || other;
  const back = rgb(get("--st-background-color", "#fff")), fore = rgb(get("--st-text-color", "#222"));
  const dark = back[0] + back[1] + back[2] < 384;
  const listed = get("--st-chart-categorical-colors", "").split(/,(?![^(]*\))/).map((c) => c.trim()).filter(Boolean);
  const colors = listed.length >= 8 ? listed : ["#0067A5", "#C75100", "#A8458A", "#00855F", "#8A6D00", "#2C8FCB", "#5B4FA8", "#6B7280"];
  return {
    dark, colors, font: get("--st-font", "sans-serif"), text: mix(back, fore, 0.92), muted: mix(back, fore, 0.72), faint: mix(back, fore, dark ? 0.32 : 0.26),
    grid: mix(back, fore, 0.09), axis: mix(back, fore, 0.3), reused: mix(back, fore, dark ? 0.13 : 0.1), noisy: mix(back, fore, 0.5),
    good: colors[3], warn: colors[4], bad: colors[8] || colors[1],
  };
};

const percent = (share) => (Number.isFinite(share) ? (100 * share).toFixed(share < 0.0995 ? 1 : 0) : "–");
const duration = (s) => (s === null || !Number.isFinite(s) ? ["–", ""] : s < 90 ? [s < 10 ? s.toFixed(1) : s.toFixed(0), "s"] : [(s / 60).toFixed(1), "min"]);
