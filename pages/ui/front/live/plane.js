// Error against cost, both logarithmic: the present setting, its trail and curve, pins, and what a cache must beat.

import { setLegend } from "../shared/dom.js";
import { short } from "../shared/text.js";

export const UNITS = {
  cost: { name: "whole forwards", title: "cost (whole forwards)" },
  ms: { name: "milliseconds here", title: "compute time here (ms)" },
  tokens: { name: "tokens", title: "tokens computed per sample" },
};
const LEAST = 1e-5;
const NEAR = 16;

const SHAPES = {
  dot: (c, x, y, r) => c.arc(x, y, r, 0, 6.3),
  diamond: (c, x, y, r) => {
    c.moveTo(x, y - r * 1.3);
    c.lineTo(x + r * 1.3, y);
    c.lineTo(x, y + r * 1.3);
    c.lineTo(x - r * 1.3, y);
    c.closePath();
  },
  square: (c, x, y, r) => c.rect(x - r, y - r, 2 * r, 2 * r),
};

// All that the plane shows, as marks { kind, x, y, text } in units of the axes; marks without a cost are left out.
export const marksOf = ({ answer, trail, curve, anchors, pins }, unit) => {
  const at = { cost: 1, tokens: 2, ms: 3 }[unit];
  const marks = [];
  const put = (kind, x, y, text, more = {}) => {
    if (x > 0 && Number.isFinite(x)) marks.push({ kind, x, y: Math.max(y, LEAST), text, ...more });
  };
  for (const run of anchors?.alone ?? [])
    put("alone", run[at], run[0], `${run[4]} alone, ${run[1]} calls: error ${short(run[0])}`);
  for (const point of curve?.points ?? [])
    put("curve", point[at + 1], point[1], `τ ${short(point[0])}: error ${short(point[1])}`, {
      tau: point[0],
    });
  for (const { head } of trail) put("trail", head[unit], head.error.pooled[0], "", { policy: head.policy });
  pins.forEach((pin, i) => {
    put("pin", pin[unit], pin.error, `pin ${i + 1}: error ${short(pin.error)}`, { pin, number: i + 1 });
  });
  if (answer) {
    const { head } = answer;
    const [value, low, high] = head.error.pooled;
    put("full", head.full[unit], LEAST, "no cache: the twin itself, error 0");
    const span = head.settled ? { low, high } : {};
    put(
      "now",
      head[unit],
      value,
      `now: error ${short(value)}, ${short(head[unit])} ${UNITS[unit].name}`,
      span,
    );
  }
  return marks;
};

// Domains that hold everything, at least a decade; they only grow, so that a drag moves the dot and not the axes.
export const domainsOf = (marks, levels, old) => {
  const around = (values, before, pad) => {
    const real = values.filter((v) => v > LEAST);
    if (before) real.push(before[0] * pad, before[1] / pad);
    if (!real.length) return [0.01, 1];
    let low = Math.min(...real);
    const high = Math.max(...real);
    low = Math.min(low, high / 10);
    return [low / pad, high * pad];
  };
  const { x, y } = old ?? {};
  return {
    x: around(
      marks.map((m) => m.x),
      x,
      1.25,
    ),
    y: around([...marks.map((m) => m.y), ...levels], y, 1.4),
  };
};

// No error at all lies below every logarithmic axis: it is drawn at its foot.
const above = (plot, y) => Math.min(plot.y(y), plot.bottom - 8);

const colorsOf = (t) => ({
  alone: t.colors[1],
  curve: t.colors[0],
  trail: t.colors[0],
  pin: t.colors[2],
  now: t.colors[0],
  full: t.text,
});

const drawMark = (plot, t, shape, x, y, r, { fill, stroke, alpha = 1, width = 1.8 }) => {
  plot.clipped((c) => {
    c.globalAlpha = alpha;
    c.beginPath();
    SHAPES[shape](c, x, y, r);
    c.fillStyle = fill ?? t.back;
    c.fill();
    if (!stroke) return;
    c.strokeStyle = stroke;
    c.lineWidth = width;
    c.stroke();
  });
};

const drawLevel = (plot, value, text, color) => {
  if (!(value > plot.y.domain[0])) return;
  const y = plot.y(value);
  const c = plot.ctx;
  plot.horizontal(y, color, { dash: [5, 4] });
  c.fillStyle = color;
  c.textAlign = "left";
  const low = y + 18 > plot.bottom;
  c.textBaseline = low ? "bottom" : "top";
  c.fillText(text, plot.left + 6, low ? y - 3 : y + 3);
};

const record = (plot, name, color, marks) => {
  if (plot.recording && marks.length)
    plot.recording.push({ name, color, x: marks.map((m) => m.x), value: marks.map((m) => m.y) });
};

const path = (plot, marks, color, options) => {
  const c = plot.ctx;
  plot.clipped(() => {
    c.strokeStyle = color;
    c.globalAlpha = options.alpha ?? 1;
    c.lineWidth = options.width ?? 1.6;
    c.setLineDash(options.dash ?? []);
    c.beginPath();
    marks.forEach((m, i) => {
      c[i ? "lineTo" : "moveTo"](plot.x(m.x), plot.y(m.y));
    });
    c.stroke();
    c.setLineDash([]);
  });
};

const drawCurves = (plot, t, of, predicted) => {
  const colors = colorsOf(t);
  const alone = of("alone").sort((a, b) => a.x - b.x);
  path(plot, alone, colors.alone, { width: 1.3, alpha: 0.8 });
  path(plot, of("curve"), colors.curve, { dash: predicted ? [6, 4] : [], alpha: 0.6 });
  of("trail").forEach((m, i, all) => {
    const alpha = 0.08 + (0.5 * (i + 1)) / all.length;
    drawMark(plot, t, "dot", plot.x(m.x), above(plot, m.y), 3, { fill: colors.trail, alpha });
  });
  for (const m of alone)
    drawMark(plot, t, "diamond", plot.x(m.x), plot.y(m.y), 4.2, { stroke: colors.alone });
  record(plot, "solver alone", colors.alone, alone);
  record(plot, predicted ? "predicted" : "measured over tau", colors.curve, of("curve"));
};

const drawPresent = (plot, t, of) => {
  const colors = colorsOf(t);
  const c = plot.ctx;
  for (const m of of("full")) {
    const [x, y] = [plot.x(m.x), above(plot, LEAST)];
    drawMark(plot, t, "square", x, y, 4.5, { fill: colors.full });
    c.fillStyle = t.text;
    c.textAlign = "right";
    c.textBaseline = "middle";
    c.fillText("no cache: 0 ↓", x - 9, y - 1);
  }
  for (const m of of("pin")) {
    const [x, y] = [plot.x(m.x), above(plot, m.y)];
    drawMark(plot, t, "dot", x, y, 8, { fill: t.back, stroke: colors.pin });
    c.fillStyle = t.text;
    c.textAlign = "center";
    c.textBaseline = "middle";
    c.fillText(String(m.number), x, y + 0.5);
  }
  for (const m of of("now")) {
    const x = plot.x(m.x);
    if (m.high > m.low)
      plot.clipped(() => {
        plot.straight([x, plot.y(m.low), x, plot.y(m.high)], colors.now, { width: 2 });
      });
    drawMark(plot, t, "dot", x, above(plot, m.y), 7, { fill: colors.now, stroke: t.text });
  }
  record(plot, "now", colors.now, of("now"));
  record(plot, "pins", colors.pin, of("pin"));
};

export const planeLegend = (board) => {
  const { theme: t, curve, anchors } = board;
  const colors = colorsOf(t);
  const items = [["this setting", colors.now, "box"]];
  if (curve?.points.length)
    items.push([
      curve.measured ? "measured over τ" : "predicted over τ",
      colors.curve,
      curve.measured ? "" : "dash",
    ]);
  if (anchors?.alone.length) items.push(["best solver alone", colors.alone, "box"]);
  items.push(["no cache", colors.full, "box"]);
  setLegend(board.plots.plane.section, items);
};

export const drawPlane = (board) => {
  const { theme: t, answer, anchors, curve, unit } = board;
  const plot = board.plots.plane;
  const marks = marksOf({ ...board, pins: board.pins.list }, unit);
  const levels = [anchors?.no_network, anchors?.floor].filter((v) => v > 0);
  const { x, y } = domainsOf(marks, levels, board.spans[unit]);
  if (answer) board.spans[unit] = { x, y };
  plot.axes(
    t,
    { domain: x, log: true, title: UNITS[unit].title },
    { domain: y, log: true, fine: true, title: "relative error to the uncached twin" },
  );
  board.marks = answer ? marks : [];
  if (!answer) {
    plot.note(t, "running the first setting");
    return;
  }
  const of = (kind) => marks.filter((m) => m.kind === kind);
  if (anchors) {
    drawLevel(plot, anchors.no_network, `no network: ${short(anchors.no_network)}`, t.muted);
    drawLevel(plot, anchors.floor, `the twin's own error: ${short(anchors.floor)}`, t.muted);
  }
  drawCurves(plot, t, of, curve && !curve.measured);
  drawPresent(plot, t, of);
};

// The mark nearest to a place in pixels, among those worth pointing at.
export const markNear = (plot, marks, px, py) => {
  let best = null;
  let least = NEAR ** 2;
  for (const mark of marks) {
    if (!mark.text) continue;
    const gap = (plot.x(mark.x) - px) ** 2 + (above(plot, mark.y) - py) ** 2;
    if (gap < least) [best, least] = [mark, gap];
  }
  return best;
};
