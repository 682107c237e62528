// Charts of a study as SVG: cost against quality, and its parameters side by side. A click or an arrow key
// chooses.

import { element, svgElement } from "../shared/dom.js";
import { download } from "../shared/files.js";
import { mounted } from "../shared/mount.js";
import { readPacket } from "../shared/packet.js";
import { clamp } from "../shared/scales.js";
import { readTheme } from "../shared/theme.js";
import { drawParallel, keyed, passing, wireMarks } from "./parallel.js";
import { drawPareto } from "./pareto.js";

const REACH = { pareto: 26, parallel: 12 };
const SETTLE_MS = 250;
const MOVES = {
  ArrowLeft: -1,
  ArrowDown: -1,
  ArrowRight: 1,
  ArrowUp: 1,
  Home: -Infinity,
  End: Infinity,
};

// Distance to a line of parameters, up or down.
const fromLine = (places, px, py) => {
  if (places.length < 2) return Infinity;
  let i = 1;
  while (i < places.length - 1 && places[i][0] < px) i++;
  const [x0, y0] = places[i - 1];
  const [x1, y1] = places[i];
  const share = clamp((px - x0) / (x1 - x0 || 1), 0, 1);
  return Math.abs(py - (y0 + share * (y1 - y0)));
};

class StudyChart {
  constructor(root) {
    this.root = root;
    this.lab = root.querySelector(".lab");
    this.svg = this.lab.querySelector("svg[tabindex]");
    this.tip = this.lab.querySelector(".tip");
    this.far = this.lab.querySelector('[data-el="far"] input');
    this.renders = 0;
    this.marks = {};
    this.observer = new ResizeObserver(() => this.render());
    this.observer.observe(this.lab);
    this.wire();
  }

  wire() {
    this.far.addEventListener("change", () => this.render());
    this.lab.querySelector('[data-act="save"]').addEventListener("click", () => this.save());
    this.svg.addEventListener("pointermove", (event) => this.hover(this.nearest(event)));
    this.svg.addEventListener("pointerleave", () => this.hover(null));
    this.svg.addEventListener("click", (event) => {
      const point = this.quiet ? null : this.nearest(event);
      if (point) this.choose(point.n, 0);
    });
    wireMarks(this, (numbers) => this.report(numbers));
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  close() {
    this.observer.disconnect();
    clearTimeout(this.later);
    clearTimeout(this.reporting);
  }

  update({ data, setTriggerValue }) {
    const paper = getComputedStyle(this.lab).getPropertyValue("--st-background-color") || "#fff";
    this.trigger = setTriggerValue;
    this.theme = { ...readTheme(this.root.host || this.lab), paper };
    const axes = this.head?.axes?.length;
    this.head = readPacket(data).head;
    const cleared = this.head.cleared !== this.cleared;
    // Marks stand on axes: they go with them.
    if (cleared || this.head.axes?.length !== axes) {
      if (!cleared && Object.keys(this.marks).length) this.report(null);
      this.marks = {};
      this.axis = undefined;
    }
    this.cleared = this.head.cleared;
    if (!this.pending) this.selected = this.head.selected;
    this.svg.setAttribute("aria-label", this.head.alt);
    this.render();
  }

  // Trials that pass the marks on the axes; null for all.
  report(numbers) {
    this.trigger("marked", { numbers, n: Math.random() });
  }

  // Marks a trial at once; the page is notified once the keys rest.
  choose(number, wait = SETTLE_MS) {
    this.selected = number;
    this.pending = true;
    this.render();
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      this.pending = false;
      this.trigger("pick", { number });
    }, wait);
  }

  // Marks an axis at once; the page is notified once the keys rest.
  mark({ axis, marks }) {
    const { axes, lines } = this.head;
    Object.assign(this, { axis, marks });
    this.render();
    const numbers = passing(lines, marks);
    const kept = numbers ? `${numbers.length} of ${lines.length} trials pass` : "nothing is marked";
    this.lab.querySelector(".spoken").textContent = `${axes[axis].label}: ${kept}`;
    clearTimeout(this.reporting);
    this.reporting = setTimeout(() => this.report(numbers), SETTLE_MS);
  }

  key(event) {
    const marked = this.head.kind === "parallel" && keyed(this, this.head.axes.length, event);
    if (marked) {
      event.preventDefault();
      this.mark(marked);
      return;
    }
    const order = this.order();
    const move = MOVES[event.key];
    if (!move || !order.length) return;
    event.preventDefault();
    const at = order.findIndex((p) => p.n === this.selected);
    const next = order[clamp(at < 0 ? 0 : at + move, 0, order.length - 1)];
    this.choose(next.n);
    this.hover(next);
    this.lab.querySelector(".spoken").textContent = next.text.join(". ");
  }

  // Trials in the order of the arrow keys.
  order() {
    if (this.head.kind === "parallel") return this.head.lines;
    return [...this.head.points].sort((a, b) => a.x - b.x);
  }

  render() {
    const width = this.lab.clientWidth;
    if (!this.head || !width) return;
    this.width = width;
    this.height = this.head.height;
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.svg.style.height = `${this.height}px`;
    this.svg.setAttribute("font-family", this.theme.font);
    this.svg.setAttribute("font-size", "12");
    if (this.head.kind === "pareto") drawPareto(this);
    else drawParallel(this);
    this.renders += 1;
    const points = this.order().length;
    Object.assign(this.lab.dataset, { renders: this.renders, points, selected: this.selected ?? "" });
  }

  text(x, y, text, attributes = {}) {
    return svgElement("text", { x, y, fill: this.theme.muted, ...attributes }, this.svg, text);
  }

  // Keeps text readable over lines.
  halo(width) {
    return { stroke: this.theme.paper, "stroke-width": width, "paint-order": "stroke" };
  }

  nearest(event) {
    const box = this.svg.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let least = REACH[this.head.kind];
    for (const shown of this.shown) {
      const far = shown.places ? fromLine(shown.places, px, py) : Math.hypot(shown.x - px, shown.y - py);
      if (far > least || (far === least && !shown.p.complete)) continue;
      best = shown;
      least = far;
    }
    if (best) this.pointer = [px, py];
    return best?.p;
  }

  hover(point) {
    this.tip.hidden = !point;
    if (!point) return;
    const shown = this.shown.find(({ p }) => p.n === point.n);
    const [x, y] = shown.places ? (this.pointer ?? shown.places[0]) : [shown.x, shown.y];
    this.tip.replaceChildren(...point.text.map((line, i) => element(i ? "div" : "b", line)));
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    const left = x + 16 + width > this.width ? x - 16 - width : x + 16;
    this.tip.style.left = `${clamp(left, 0, this.width)}px`;
    this.tip.style.top = `${clamp(y - 10, 0, Math.max(0, this.height - height))}px`;
  }

  save() {
    const copy = this.svg.cloneNode(true);
    const size = { width: this.width, height: this.height };
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    for (const [name, value] of Object.entries(size)) copy.setAttribute(name, value);
    copy.prepend(svgElement("rect", { ...size, fill: this.theme.paper }));
    const file = `${this.head.key}-${this.head.kind}.svg`;
    download(file, new Blob([copy.outerHTML], { type: "image/svg+xml" }));
  }
}

export default mounted(StudyChart);
