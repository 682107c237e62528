// Numbers as people read them.

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const superscript = (digits) => [...String(digits)].map((c) => SUPERSCRIPT[+c]).join("");

export const decadeText = (v) => {
  const d = Math.round(Math.log10(v));
  if (d >= -2 && d <= 3) return String(+v.toPrecision(3));
  return `10${d < 0 ? "⁻" : ""}${superscript(Math.abs(d))}`;
};

export const short = (v) => {
  if (v === null || v === undefined || !Number.isFinite(v)) return "–";
  const size = Math.abs(v);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) {
    const [digits, power] = v.toExponential(1).split("e");
    return `${digits}·10${+power < 0 ? "⁻" : ""}${superscript(Math.abs(power))}`;
  }
  return String(+v.toPrecision(3));
};

export const percent = (share) =>
  Number.isFinite(share) ? (100 * share).toFixed(share < 0.0995 ? 1 : 0) : "–";
export const duration = (s) =>
  s === null || !Number.isFinite(s)
    ? ["–", ""]
    : s < 90
      ? [s < 10 ? s.toFixed(1) : s.toFixed(0), "s"]
      : [(s / 60).toFixed(1), "min"];

// Label of a tick: 0.002, 0.5, 20, 10⁻⁴, 2·10⁻⁴.
export const tickText = (v) => {
  if (v >= 1e-3 && v < 1e5) return String(+v.toPrecision(3));
  const [digits, power] = v.toExponential(0).split("e");
  const ten = `10${+power < 0 ? "⁻" : ""}${superscript(Math.abs(power))}`;
  return digits === "1" ? ten : `${digits}·${ten}`;
};

// A number without an exponent: attributes of a slider allow no other form.
export const decimal = (v) => v.toLocaleString("en", { useGrouping: false, maximumFractionDigits: 20 });
