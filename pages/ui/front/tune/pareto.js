// Cost against quality: one mark for each trial with its interval, the front, budgets and the floor.

import { svgElement } from "../shared/dom.js";
import { clamp, logTicks, niceTicks } from "../shared/scales.js";
import { short, tickText } from "../shared/text.js";
import { kindOf, looks, SHAPES, setSvgLegend } from "./marks.js";

const KINDS = {
  cached: "cached",
  solver: "solver alone, no cache",
  reference: "uncached reference",
  early: "ended early",
};

// Range of quality. Settings that ruin the samples would flatten all the others: the view ends a little above
// what may be chosen, unless all points are asked for.
const qualityRange = (chart, points) => {
  const { head } = chart;
  const complete = points.filter((p) => p.complete);
  const lows = complete.map((p) => p.yl);
  const highs = complete.map((p) => p.yh);
  const lo = Math.min(...lows, ...(head.floor === null ? [] : [head.floor]));
  const worth = complete.filter((p) => head.front.includes(p.n) || p.mark === "reference");
  const base = Math.max(...worth.map((p) => p.yh));
  const sorted = complete.map((p) => p.y).sort((a, b) => a - b);
  const upper = sorted[Math.floor(0.75 * (sorted.length - 1))] ?? base;
  const margin = 0.25 * (base - lo || Math.abs(base) || 1);
  const near = Math.min(Math.max(...highs), Math.max(base, Math.min(upper, lo + 2.5 * (base - lo))) + margin);
  const top = chart.far.checked ? Math.max(...highs, ...points.map((p) => p.y)) : near;
  const pad = 0.06 * (top - lo || Math.abs(top) || 1);
  return { lo: lo - pad, hi: top + pad, near: near + 0.06 * (near - lo || 1) };
};

// Where a cost and a quality are drawn.
const scalesOf = (chart) => {
  const { head, width, height } = chart;
  const { points } = head;
  const area = { l: 58, r: width - 14, t: 10, b: height - 46 };
  const range = qualityRange(chart, points);
  const costs = points.flatMap((p) => [p.x, ...(p.complete ? [p.xl, p.xh] : [])]).concat(head.latency || []);
  const lo = Math.min(...costs) / 1.25;
  const hi = Math.max(...costs) * 1.25;
  const x = (v) => area.l + (Math.log(v / lo) / Math.log(hi / lo)) * (area.r - area.l);
  const y = (v) => area.b - ((v - range.lo) / (range.hi - range.lo)) * (area.b - area.t);
  return { area, range, costs: [lo, hi], x, y, inY: (v) => clamp(y(v), area.t, area.b) };
};

const drawAxes = (chart, { area, range, costs, x, y }) => {
  const { head, theme, svg, height } = chart;
  const percent = (v) => `${v > 0 ? "+" : ""}${short(v)}%`;
  for (const v of niceTicks(range.lo, range.hi, 6)) {
    svgElement("line", { x1: area.l, x2: area.r, y1: y(v), y2: y(v), stroke: theme.grid }, svg);
    chart.text(area.l - 7, y(v) + 4, head.y.percent ? percent(v) : short(v), { "text-anchor": "end" });
  }
  for (const v of logTicks(...costs, (area.r - area.l) / 60)) {
    svgElement("line", { x1: x(v), x2: x(v), y1: area.t, y2: area.b, stroke: theme.grid }, svg);
    chart.text(x(v), area.b + 16, tickText(v), { "text-anchor": "middle" });
  }
  const frame = `M ${area.l} ${area.t} V ${area.b} H ${area.r}`;
  const title = { "text-anchor": "middle", fill: theme.text };
  svgElement("path", { d: frame, fill: "none", stroke: theme.axis }, svg);
  chart.text((area.l + area.r) / 2, height - 8, head.x.title, title);
  const turned = `translate(13 ${(area.t + area.b) / 2}) rotate(-90)`;
  chart.text(0, 0, head.y.title, { ...title, transform: turned });
};

// Lines of the floor and of the budgets.
const drawLimits = (chart, { area, range, x, y }) => {
  const { head, theme, svg } = chart;
  const words = { "text-anchor": "end", fill: theme.colors[3] };
  const line = (place, dash) =>
    svgElement(
      "line",
      { ...place, stroke: theme.colors[3], "stroke-width": 1.5, "stroke-dasharray": dash },
      svg,
    );
  const level = (v, name, dash) => {
    if (v === null || v < range.lo || v > range.hi) return;
    line({ x1: area.l, x2: area.r, y1: y(v), y2: y(v) }, dash);
    chart.text(area.r - 4, y(v) - 5, name, words);
  };
  level(head.floor, "real data against real data", "6 4");
  level(head.limit, "quality budget", "2 3");
  if (head.latency === null) return;
  line({ x1: x(head.latency), x2: x(head.latency), y1: area.t, y2: area.b }, "2 3");
  chart.text(x(head.latency) - 5, area.t + 10, "latency budget", words);
};

// The front: until the next point nothing better is known, so it is a step and not a slope.
const drawFront = (chart, { x, inY }) => {
  const { head, theme, svg } = chart;
  const byNumber = new Map(head.points.map((p) => [p.n, p]));
  const front = head.front.map((n) => byNumber.get(n)).filter(Boolean);
  const steps = front.map((p, i) => (i ? `H ${x(p.x)} V ${inY(p.y)}` : `M ${x(p.x)} ${inY(p.y)}`));
  const look = { fill: "none", stroke: theme.colors[0], "stroke-width": 2, opacity: 0.55 };
  svgElement("path", { d: steps.join(" "), ...look, "data-el": "front" }, svg);
};

const drawPoint = (chart, { area, range, x, inY }, p) => {
  const { head, theme, svg, selected } = chart;
  const kind = kindOf(p);
  const look = looks(theme, kind);
  const above = p.y > range.hi;
  const place = { x: x(p.x), y: above ? area.t + 6 : inY(p.y) };
  const opacity = p.complete ? 1 : 0.55;
  const mark = svgElement("g", { "data-number": p.n, "data-mark": kind, opacity }, svg);
  if (p.complete && !above) {
    const bars = `M ${place.x} ${inY(p.yl)} V ${inY(p.yh)} M ${x(p.xl)} ${place.y} H ${x(p.xh)}`;
    const opacity = p.n === selected ? 0.9 : 0.38;
    svgElement("path", { d: bars, stroke: look.stroke, "stroke-width": 1.3, opacity }, mark);
  }
  if (p.n === selected) {
    const ring = { r: 12, fill: "none", stroke: theme.text, "stroke-width": 2 };
    svgElement("circle", { cx: place.x, cy: place.y, ...ring }, mark);
  }
  const size = p.complete ? (head.front.includes(p.n) ? 6 : 4.6) : 3.2;
  const shape = SHAPES[above ? "above" : kind](size);
  const transform = `translate(${place.x} ${place.y})`;
  svgElement("path", { d: shape, transform, ...look, "stroke-width": 1.8 }, mark);
  if (p.n === head.chosen) {
    const left = place.x > (area.l + area.r) / 2;
    const words = {
      x: place.x + (left ? -8 : 8),
      y: place.y + (place.y < area.t + 40 ? 26 : -16),
      "text-anchor": left ? "end" : "start",
      fill: theme.text,
      "font-weight": 600,
      ...chart.halo(4),
    };
    svgElement("text", words, mark, "picked");
  }
  return { p, ...place };
};

const drawLegend = (chart, range) => {
  const { head, theme, lab } = chart;
  const kinds = new Set(head.points.map(kindOf));
  const marks = Object.entries(KINDS)
    .filter(([kind]) => kinds.has(kind))
    .map(([kind, name]) => [name, SHAPES[kind](5), { ...looks(theme, kind), "stroke-width": 1.8 }]);
  const step = { fill: "none", stroke: theme.colors[0], "stroke-width": 2, opacity: 0.6 };
  setSvgLegend(lab, [...marks, ["front", "M -8 4 H 0 V -4 H 8", step]]);
  const far = head.points.filter((p) => p.y > range.near).length;
  const box = lab.querySelector('[data-el="far"]');
  box.hidden = !far;
  box.querySelector("span").textContent = `show ${far} that ${far === 1 ? "lies" : "lie"} far above`;
};

export const drawPareto = (chart) => {
  const scales = scalesOf(chart);
  drawAxes(chart, scales);
  drawLimits(chart, scales);
  drawFront(chart, scales);
  // The selected one last, on top of the others.
  const order = (a, b) => a.complete - b.complete || (a.n === chart.selected) - (b.n === chart.selected);
  chart.shown = [...chart.head.points].sort(order).map((p) => drawPoint(chart, scales, p));
  drawLegend(chart, scales.range);
};
