// Parameters of all trials side by side: an axis for each parameter, a line for each trial.

import { svgElement } from "../shared/dom.js";
import { clamp } from "../shared/scales.js";
import { setSvgLegend } from "./marks.js";

const TIGHT = 105;
// How near to an axis a drag marks it, and how far it must go, in pixels.
const GRIP = 14;
const LEAST = 4;
// How far a key moves an end of a mark, as a share of the axis.
const NUDGE = 0.05;

// Whether a line passes between the ends of all marks: { axis: [low, high] } in places from 0 to 1.
export const passes = (line, marks) =>
  Object.entries(marks).every(
    ([i, [low, high]]) => line.v[i] !== null && line.v[i] >= low && line.v[i] <= high,
  );

// Numbers of the lines that pass; null while nothing is marked.
export const passing = (lines, marks) =>
  Object.keys(marks).length ? lines.filter((line) => passes(line, marks)).map((line) => line.n) : null;

// Marks by keys: with shift, left and right choose an axis, down lowers the high end of what is kept on it and up
// raises the low end; Escape lets go. Returns the axis chosen and the marks; null for other keys.
export const keyed = ({ axis, marks }, count, { key, shiftKey }) => {
  const aside = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (shiftKey && aside)
    return { axis: clamp((axis ?? (aside < 0 ? count : -1)) + aside, 0, count - 1), marks };
  if (axis === undefined) return null;
  const [low, high] = marks[axis] ?? [0, 1];
  if (shiftKey && key === "ArrowDown")
    return { axis, marks: { ...marks, [axis]: [low, Math.max(low, high - NUDGE)] } };
  if (shiftKey && key === "ArrowUp")
    return { axis, marks: { ...marks, [axis]: [Math.min(high, low + NUDGE), high] } };
  if (key !== "Escape") return null;
  const { [axis]: _, ...others } = marks;
  return { axis, marks: others };
};

const areaOf = ({ width, height }) => ({ l: 46, r: width - 46, t: 34, b: height - 26 });
const axisAt =
  ({ head: { axes } }, area) =>
  (i) =>
    area.l + (axes.length > 1 ? (i / (axes.length - 1)) * (area.r - area.l) : 0);

const lineLook = (theme, line, chosen, out) => {
  if (out) return { stroke: theme.faint, "stroke-width": 1, opacity: 0.2 };
  if (chosen) return { stroke: theme.text, "stroke-width": 3, opacity: 1 };
  if (!line.front) return { stroke: theme.faint, "stroke-width": 1, opacity: 0.75 };
  const stroke = theme.colors[line.mark === "cached" ? 0 : 1];
  return { stroke, "stroke-width": 2, opacity: 0.85 };
};

const drawLine = (chart, line, x, y) => {
  const places = line.v.map((v, i) => [x(i), y(v)]);
  const d = places.map(([px, py], i) => `${i ? "L" : "M"} ${px} ${py}`).join(" ");
  const look = lineLook(chart.theme, line, line.n === chart.selected, !passes(line, chart.marks));
  const dash = line.mark !== "cached" && line.front ? { "stroke-dasharray": "7 4" } : {};
  const fixed = { d, fill: "none", "stroke-linejoin": "round", "data-number": line.n };
  svgElement("path", { ...fixed, ...look, ...dash }, chart.svg);
  return { p: line, places };
};

const drawAxis = (chart, area, axis, i, x, y) => {
  const { theme, svg, width, head } = chart;
  const last = i === head.axes.length - 1;
  const [anchor, shift] = i === 0 ? ["start", 2 - area.l] : last ? ["end", area.l - 2] : ["middle", 0];
  // Where axes stand close, every second name stands lower.
  const top = i % 2 && width / head.axes.length < TIGHT ? 26 : 12;
  const name = { "text-anchor": anchor, fill: theme.text, "font-weight": 600 };
  const tick = { "text-anchor": last ? "end" : "start", "font-size": 11, fill: theme.text, ...chart.halo(3) };
  const line = i === chart.axis ? { stroke: theme.text, "stroke-width": 3 } : { stroke: theme.axis };
  svgElement("line", { x1: x(i), x2: x(i), y1: area.t, y2: area.b, ...line }, svg);
  const mark = chart.marks[i];
  if (mark) {
    const look = { fill: theme.colors[0], "fill-opacity": 0.3, stroke: theme.colors[0] };
    const span = { y: y(mark[1]), height: Math.max(2, y(mark[0]) - y(mark[1])) };
    svgElement("rect", { x: x(i) - 5, width: 10, "data-axis": i, ...span, ...look }, svg);
  }
  chart.text(x(i) + shift, top, axis.label, name);
  for (const [v, label] of axis.ticks) chart.text(x(i) + (last ? -6 : 6), y(v) + 4, label, tick);
};

export const drawParallel = (chart) => {
  const { head, theme, lab } = chart;
  const { axes, lines } = head;
  const area = areaOf(chart);
  const x = axisAt(chart, area);
  const y = (v) => (v === null ? area.b + 12 : area.b - v * (area.b - area.t));
  const order = (a, b) => a.front - b.front || (a.n === chart.selected) - (b.n === chart.selected);
  chart.shown = [...lines].sort(order).map((line) => drawLine(chart, line, x, y));
  axes.forEach((axis, i) => {
    drawAxis(chart, area, axis, i, x, y);
  });
  if (lines.some((line) => line.v.includes(null)))
    chart.text(2, area.b + 16, "not used", { "font-size": 11 });
  const bar = "M -8 0 H 8";
  const dashed = { stroke: theme.colors[1], "stroke-width": 2.5, "stroke-dasharray": "5 3" };
  setSvgLegend(lab, [
    ["on the front, cached", bar, { stroke: theme.colors[0], "stroke-width": 2.5 }],
    ["on the front, no cache", bar, dashed],
    ["others", bar, { stroke: theme.faint, "stroke-width": 2 }],
    ["chosen", bar, { stroke: theme.text, "stroke-width": 3 }],
  ]);
  lab.querySelector('[data-el="far"]').hidden = true;
};

// A drag along an axis marks a part of it, and a click on the axis takes the mark away; told to `changed` at the end.
export const wireMarks = (chart, changed) => {
  const { svg } = chart;
  let held = null;
  const place = (event) => {
    const box = svg.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const value = (py) => {
    const { t, b } = areaOf(chart);
    return clamp((b - py) / (b - t), 0, 1);
  };
  svg.addEventListener("pointerdown", (event) => {
    if (chart.head.kind !== "parallel" || event.button) return;
    const [px, py] = place(event);
    const x = axisAt(chart, areaOf(chart));
    const axis = chart.head.axes.findIndex((_, i) => Math.abs(x(i) - px) < GRIP);
    if (axis < 0) return;
    held = { axis, from: py, moved: false };
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!held) return;
    const [, py] = place(event);
    held.moved ||= Math.abs(py - held.from) >= LEAST;
    if (!held.moved) return;
    chart.marks[held.axis] = [value(Math.max(py, held.from)), value(Math.min(py, held.from))];
    chart.render();
  });
  svg.addEventListener("pointerup", () => {
    if (!held) return;
    const { axis, moved } = held;
    held = null;
    if (!moved && !(axis in chart.marks)) return;
    if (!moved) delete chart.marks[axis];
    // The click that follows chooses no line.
    chart.quiet = true;
    setTimeout(() => {
      chart.quiet = false;
    }, 0);
    chart.render();
    changed(passing(chart.head.lines, chart.marks));
  });
};
