// Handles on the panels: a slider at each place where a threshold can be dragged. A drag acts on the running
// sampler.

import { element, setText } from "../shared/dom.js";
import { clamp } from "../shared/scales.js";
import { decimal, short } from "../shared/text.js";

export const HANDLES = [
  { field: "k_low", panel: "spectrum", axis: "x", color: 0 },
  { field: "k_low", panel: "map", axis: "y", color: 0 },
  { field: "tau", panel: "scores", axis: "y", color: 1 },
  { field: "tau_safe", panel: "intensity", axis: "y", color: 3 },
  { field: "tau_warn", panel: "intensity", axis: "y", color: 1 },
];
const NAMES = { k_low: "K", tau: "τ", tau_safe: "τ safe", tau_warn: "τ warn" };
const KEYS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 };
const KEY_FACTOR = 1.1;
const FLUSH_MS = 33;
const SETTLE_MS = 400;

// A level of r can be switched off, by the value 0.
const isLevel = (field) => field === "tau_safe" || field === "tau_warn";

// The values of the policy that the handles show and change.
export class Handles {
  constructor(lab) {
    this.lab = lab;
    this.nodes = HANDLES.map((spec) => ({ ...spec, node: this.handle(spec) }));
    this.reset();
  }

  reset() {
    this.draft = {};
    this.pending = {};
    this.held = null;
  }

  // Whether the field acts in the present run.
  active(field) {
    const { now, policy, hello } = this.lab.store;
    return (!now || this.lab.isLive(now.status)) && hello.fields[field].triggers.includes(policy.trigger);
  }

  value(field) {
    return this.draft[field] ?? this.lab.store.policy[field];
  }

  // Lowest and highest value, and whether values are whole numbers.
  bounds(field) {
    const { fields, n } = this.lab.store.hello;
    const { low, high } = fields[field];
    if (field === "k_low") return [low, Math.min(high, n - 1), true];
    // A warning must lie above the safe level, or be off: a handle stops before it would cross the other.
    const warn = this.value("tau_warn");
    if (field === "tau_safe" && warn > 0) return [low, warn * 0.99, false];
    return [low, high, false];
  }

  set(field, wish) {
    const [low, high, whole] = this.bounds(field);
    const bounded = clamp(wish, low, high);
    let value = whole ? Math.round(bounded) : +bounded.toPrecision(3);
    const safe = this.value("tau_safe");
    if (field === "tau_warn" && value > 0 && value <= safe) value = +(safe * 1.02).toPrecision(3);
    if (!Number.isFinite(value) || value === this.value(field)) return;
    this.draft[field] = value;
    this.pending[field] = value;
    this.flush();
    this.lab.dirty();
  }

  // A drag fires far more often than the sampler can notice: at most 30 messages a second, the last one
  // always.
  flush() {
    const { link } = this.lab;
    if (this.timer || !link?.socket) return;
    const wait = Math.max(0, FLUSH_MS - (performance.now() - (this.flushed ?? 0)));
    this.timer = setTimeout(() => {
      this.timer = null;
      this.flushed = performance.now();
      const changes = this.pending;
      this.pending = {};
      if (Object.keys(changes).length) this.lab.link?.send({ type: "policy", changes });
    }, wait);
  }

  // Notifies the page of a change that has ended, so that its widgets follow.
  release() {
    if (Object.keys(this.draft).length)
      this.lab.trigger("policy", { changes: { ...this.draft }, n: Math.random() });
    Object.assign(this.lab.store.policy, this.draft);
    this.draft = {};
  }

  handle(spec) {
    const node = element("div", undefined, `handle ${spec.axis}`);
    node.dataset.field = spec.field;
    node.tabIndex = 0;
    node.hidden = true;
    node.append(element("b"));
    node.setAttribute("role", "slider");
    node.setAttribute("aria-orientation", spec.axis === "x" ? "horizontal" : "vertical");
    this.wirePointer(node, spec);
    node.addEventListener("keydown", (event) => this.key(event, spec));
    this.lab.plots[spec.panel].box.append(node);
    return node;
  }

  wirePointer(node, spec) {
    const isHeld = () => node.classList.contains("held");
    const drop = () => {
      if (!isHeld()) return;
      node.classList.remove("held");
      this.held = null;
      this.release();
    };
    node.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      node.focus();
      node.setPointerCapture(event.pointerId);
      node.classList.add("held");
      this.held = spec.field;
    });
    node.addEventListener("pointermove", (event) => {
      if (isHeld()) this.drag(event, spec);
    });
    node.addEventListener("pointerup", drop);
    node.addEventListener("pointercancel", drop);
  }

  drag(event, { field, panel, axis }) {
    const plot = this.lab.plots[panel];
    const box = plot.box.getBoundingClientRect();
    const scale = axis === "x" ? plot.x : plot.y;
    const at = scale.invert(axis === "x" ? event.clientX - box.left : event.clientY - box.top);
    if (field === "k_low") this.set(field, at - 1);
    // At the lower end of its axis a level is off.
    else if (isLevel(field) && at <= scale.domain[0]) this.set(field, 0);
    else this.set(field, clamp(at, ...scale.domain));
  }

  key(event, { field, panel }) {
    const up = KEYS[event.key];
    const [low, high, whole] = this.bounds(field);
    if (!up && event.key !== "Home" && event.key !== "End") return;
    event.preventDefault();
    const value = this.value(field);
    const far = event.shiftKey ? 5 : 1;
    if (event.key === "Home") this.set(field, low);
    else if (event.key === "End") this.set(field, high);
    else if (whole) this.set(field, value + up * far);
    else if (value > 0) this.set(field, value * KEY_FACTOR ** (up * far));
    else if (up > 0) this.set(field, this.lab.plots[panel].y.domain[0]);
    clearTimeout(this.settle);
    this.settle = setTimeout(() => this.release(), SETTLE_MS);
  }

  // Names and colors, once for a theme.
  dress() {
    const { hello } = this.lab.store;
    for (const { node, field, color } of this.nodes) {
      node.setAttribute("aria-label", hello.fields[field].label);
      node.style.setProperty("--c", this.lab.theme.colors[color]);
    }
  }

  // Moves every handle to its value.
  seat() {
    for (const { node, field, panel, axis } of this.nodes) {
      const plot = this.lab.plots[panel];
      node.hidden = !this.active(field) || !plot.x;
      if (node.hidden) continue;
      const value = this.value(field);
      if (axis === "x") this.seatAcross(node, plot, value);
      else this.seatAlong(node, plot, field, value);
      const off = field === "k_low" ? value < 0 : value === 0;
      const text = off ? `${NAMES[field]} off` : `${NAMES[field]} = ${short(value)}`;
      const [low, high] = this.bounds(field);
      setText(node.firstElementChild, text);
      node.setAttribute("aria-valuemin", decimal(low));
      node.setAttribute("aria-valuemax", decimal(high));
      node.setAttribute("aria-valuenow", decimal(value));
      node.setAttribute("aria-valuetext", text);
    }
  }

  // K on the axis of frequencies: frequencies up to K lie left of it.
  seatAcross(node, plot, value) {
    const x = plot.x(clamp(value + 1, ...plot.x.domain));
    node.style.left = `${x}px`;
    node.style.top = `${plot.top}px`;
    node.style.height = `${plot.bottom - plot.top}px`;
    node.classList.toggle("flip", x > plot.right - 70);
  }

  seatAlong(node, plot, field, value) {
    const y = plot.y(clamp(value + (field === "k_low" ? 1 : 0), ...plot.y.domain));
    // Two levels share the panel of r: each has its own half, or one handle would cover the other.
    const half = isLevel(field);
    const width = (plot.right - plot.left) / (half ? 2 : 1);
    node.style.top = `${y}px`;
    node.style.width = `${width}px`;
    node.style.left = `${plot.left + (field === "tau_warn" ? width : 0)}px`;
    node.classList.toggle("flip", y < plot.top + 20);
    node.classList.toggle("drawn", half && value > 0);
  }
}
