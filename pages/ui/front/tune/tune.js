// Charts of a study as SVG: cost against quality, and its parameters side by side. A click or an arrow key chooses a trial.

import { svgElement } from "../shared/dom.js";
import { mounted } from "../shared/mount.js";
import { readPacket } from "../shared/packet.js";
import { clamp, niceTicks } from "../shared/scales.js";
import { short } from "../shared/text.js";
import { readTheme } from "../shared/theme.js";

const NEAR = 26;
const WAIT = 250;

// Shape and color both say what a point is.
const SHAPES = {
  cached: (r) => `M ${-r} 0 A ${r} ${r} 0 1 0 ${r} 0 A ${r} ${r} 0 1 0 ${-r} 0 Z`,
  solver: (r) => `M 0 ${-1.35 * r} L ${1.35 * r} 0 L 0 ${1.35 * r} L ${-1.35 * r} 0 Z`,
  reference: (r) => `M ${-1.1 * r} ${-1.1 * r} H ${1.1 * r} V ${1.1 * r} H ${-1.1 * r} Z`,
  early: (r) => `M ${-r} ${-r} L ${r} ${r} M ${-r} ${r} L ${r} ${-r}`,
  above: (r) => `M 0 ${-1.2 * r} L ${1.2 * r} ${r} H ${-1.2 * r} Z`,
};
const looks = (theme, kind) =>
  ({
    cached: { fill: theme.colors[0], stroke: theme.colors[0] },
    solver: { fill: theme.paper, stroke: theme.colors[1] },
    reference: { fill: theme.text, stroke: theme.text },
    early: { fill: "none", stroke: theme.muted },
  })[kind];

// 1, 2 and 5 of each decade where there is room, else whole decades.
const costTicks = (lo, hi, room) => {
  const found = [];
  for (let d = Math.floor(Math.log10(lo)); d <= Math.ceil(Math.log10(hi)); d++)
    for (const f of [1, 2, 5]) found.push(f * 10 ** d);
  const inside = found.filter((v) => v >= lo * 0.999 && v <= hi * 1.001);
  const whole = inside.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9);
  return inside.length <= room || whole.length < 2 ? inside : whole;
};
const plainly = (v) =>
  v >= 1e5 || v < 1e-3
    ? v.toExponential(0).replace("e", "·10^").replace("^+", "^")
    : String(+v.toPrecision(3));

class Board {
  constructor(root) {
    this.root = root;
    this.lab = root.querySelector(".lab");
    this.svg = this.lab.querySelector("svg[tabindex]");
    this.tip = this.lab.querySelector(".tip");
    this.far = this.lab.querySelector('[data-el="far"] input');
    this.renders = 0;
    this.observer = new ResizeObserver(() => this.render());
    this.observer.observe(this.lab);
    this.far.addEventListener("change", () => this.render());
    this.lab.querySelector('[data-act="save"]').addEventListener("click", () => this.save());
    this.svg.addEventListener("pointermove", (event) => this.hover(this.nearest(event)));
    this.svg.addEventListener("pointerleave", () => this.hover(null));
    this.svg.addEventListener("click", (event) => {
      const found = this.nearest(event);
      if (found) this.choose(found.n, 0);
    });
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  close() {
    this.observer.disconnect();
    clearTimeout(this.later);
  }

  update({ data, setTriggerValue }) {
    this.trigger = setTriggerValue;
    this.theme = {
      ...readTheme(this.root.host || this.lab),
      paper: getComputedStyle(this.lab).getPropertyValue("--st-background-color") || "#fff",
    };
    this.head = readPacket(data).head;
    if (!this.pending) this.selected = this.head.selected;
    this.svg.setAttribute("aria-label", this.head.alt);
    this.render();
  }

  choose(number, wait = WAIT) {
    this.selected = number;
    this.pending = true;
    this.render();
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      this.pending = false;
      this.trigger("pick", { number });
    }, wait);
  }

  key(event) {
    const order = this.order();
    const move = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -1e9, End: 1e9 }[event.key];
    if (!move || !order.length) return;
    event.preventDefault();
    const at = order.findIndex((p) => p.n === this.selected);
    const next = order[clamp(at < 0 ? 0 : at + move, 0, order.length - 1)];
    this.choose(next.n);
    this.hover(next);
    this.lab.querySelector(".said").textContent = next.text.join(". ");
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
    (this.head.kind === "pareto" ? this.pareto : this.parallel).call(this);
    Object.assign(this.lab.dataset, {
      renders: ++this.renders,
      points: this.order().length,
      selected: this.selected ?? "",
    });
  }

  legend(items) {
    const box = this.lab.querySelector(".legend");
    box.replaceChildren(
      ...items.map(([name, shape, attributes]) => {
        const item = document.createElement("span");
        const icon = svgElement("svg", { viewBox: "-8 -8 16 16" });
        svgElement("path", { d: shape, ...attributes }, icon);
        item.append(icon, name);
        return item;
      }),
    );
  }

  text(x, y, text, attributes = {}) {
    return svgElement("text", { x, y, fill: this.theme.muted, ...attributes }, this.svg, text);
  }

  // ---- cost against quality

  order() {
    if (this.head.kind === "parallel") return this.head.lines;
    return [...this.head.points].sort((a, b) => a.x - b.x);
  }

  pareto() {
    const { head, theme, width, height } = this;
    const { points } = head;
    const area = { l: 58, r: width - 14, t: 10, b: height - 46 };
    const top = this.range(points);
    const xs = points.flatMap((p) => [p.x, ...(p.complete ? [p.xl, p.xh] : [])]).concat(head.latency || []);
    const lo = Math.min(...xs) / 1.25;
    const hi = Math.max(...xs) * 1.25;
    const x = (v) => area.l + (Math.log(v / lo) / Math.log(hi / lo)) * (area.r - area.l);
    const y = (v) => area.b - ((v - top.lo) / (top.hi - top.lo)) * (area.b - area.t);
    const inY = (v) => clamp(y(v), area.t, area.b);
    for (const v of niceTicks(top.lo, top.hi, 6)) {
      svgElement("line", { x1: area.l, x2: area.r, y1: y(v), y2: y(v), stroke: theme.grid }, this.svg);
      this.text(area.l - 7, y(v) + 4, head.y.percent ? `${v > 0 ? "+" : ""}${short(v)}%` : short(v), {
        "text-anchor": "end",
      });
    }
    for (const v of costTicks(lo, hi, (area.r - area.l) / 60)) {
      svgElement("line", { x1: x(v), x2: x(v), y1: area.t, y2: area.b, stroke: theme.grid }, this.svg);
      this.text(x(v), area.b + 16, plainly(v), { "text-anchor": "middle" });
    }
    svgElement(
      "path",
      { d: `M ${area.l} ${area.t} V ${area.b} H ${area.r}`, fill: "none", stroke: theme.axis },
      this.svg,
    );
    this.text((area.l + area.r) / 2, height - 8, head.x.title, { "text-anchor": "middle", fill: theme.text });
    this.text(0, 0, head.y.title, {
      "text-anchor": "middle",
      fill: theme.text,
      transform: `translate(13 ${(area.t + area.b) / 2}) rotate(-90)`,
    });
    const line = (v, name, dash) => {
      if (v === null || v < top.lo || v > top.hi) return;
      svgElement(
        "line",
        {
          x1: area.l,
          x2: area.r,
          y1: y(v),
          y2: y(v),
          stroke: theme.colors[3],
          "stroke-width": 1.5,
          "stroke-dasharray": dash,
        },
        this.svg,
      );
      this.text(area.r - 4, y(v) - 5, name, { "text-anchor": "end", fill: theme.colors[3] });
    };
    line(head.floor, "real against real", "6 4");
    if (head.limit !== null) line(head.limit, "quality budget", "2 3");
    if (head.latency !== null) {
      svgElement(
        "line",
        {
          x1: x(head.latency),
          x2: x(head.latency),
          y1: area.t,
          y2: area.b,
          stroke: theme.colors[3],
          "stroke-width": 1.5,
          "stroke-dasharray": "2 3",
        },
        this.svg,
      );
      this.text(x(head.latency) - 5, area.t + 10, "latency budget", {
        "text-anchor": "end",
        fill: theme.colors[3],
      });
    }
    const at = new Map(points.map((p) => [p.n, p]));
    const front = head.front.map((n) => at.get(n)).filter(Boolean);
    // Up to the next point nothing better is known: a step, not a slope.
    const path = front.map((p, i) => (i ? `H ${x(p.x)} V ${inY(p.y)}` : `M ${x(p.x)} ${inY(p.y)}`)).join(" ");
    svgElement(
      "path",
      {
        d: path,
        fill: "none",
        stroke: theme.colors[0],
        "stroke-width": 2,
        opacity: 0.55,
        "data-el": "front",
      },
      this.svg,
    );
    this.shown = [];
    for (const p of [...points].sort(
      (a, b) => a.complete - b.complete || (a.n === this.selected) - (b.n === this.selected),
    )) {
      const off = p.y > top.hi;
      const place = { x: x(p.x), y: off ? area.t + 6 : inY(p.y) };
      const look = looks(theme, p.complete ? p.mark : "early");
      const mark = svgElement(
        "g",
        { "data-number": p.n, "data-mark": p.complete ? p.mark : "early", opacity: p.complete ? 1 : 0.55 },
        this.svg,
      );
      const r = head.front.includes(p.n) ? 6 : 4.6;
      if (p.complete && !off) {
        svgElement(
          "path",
          {
            d: `M ${place.x} ${inY(p.yl)} V ${inY(p.yh)} M ${x(p.xl)} ${place.y} H ${x(p.xh)}`,
            stroke: look.stroke,
            "stroke-width": 1.3,
            opacity: p.n === this.selected ? 0.9 : 0.38,
          },
          mark,
        );
      }
      if (p.n === this.selected)
        svgElement(
          "circle",
          { cx: place.x, cy: place.y, r: 12, fill: "none", stroke: theme.text, "stroke-width": 2 },
          mark,
        );
      const shape = off ? SHAPES.above : SHAPES[p.complete ? p.mark : "early"];
      svgElement(
        "path",
        {
          d: shape(p.complete ? r : 3.2),
          transform: `translate(${place.x} ${place.y})`,
          ...look,
          "stroke-width": 1.8,
        },
        mark,
      );
      if (p.n === head.chosen) {
        const left = place.x > (area.l + area.r) / 2;
        const dy = place.y < area.t + 40 ? 26 : -16;
        svgElement(
          "text",
          {
            x: place.x + (left ? -8 : 8),
            y: place.y + dy,
            "text-anchor": left ? "end" : "start",
            fill: theme.text,
            "font-weight": 600,
            stroke: theme.paper,
            "stroke-width": 4,
            "paint-order": "stroke",
          },
          mark,
          "picked",
        );
      }
      this.shown.push({ p, ...place });
    }
    const kinds = new Set(points.map((p) => (p.complete ? p.mark : "early")));
    this.legend(
      [
        ["cached", "cached"],
        ["solver alone, no cache", "solver"],
        ["uncached reference", "reference"],
        ["ended early", "early"],
      ]
        .filter(([, kind]) => kinds.has(kind))
        .map(([name, kind]) => [name, SHAPES[kind](5), { ...looks(theme, kind), "stroke-width": 1.8 }])
        .concat([
          [
            "front",
            "M -8 4 H 0 V -4 H 8",
            { fill: "none", stroke: theme.colors[0], "stroke-width": 2, opacity: 0.6 },
          ],
        ]),
    );
    const far = points.filter((p) => p.y > top.near).length;
    const box = this.lab.querySelector('[data-el="far"]');
    box.hidden = !far;
    box.querySelector("span").textContent = `show ${far} that ${far === 1 ? "lies" : "lie"} far above`;
  }

  // Settings that ruin the samples would flatten all the others: the view ends a little above what may be chosen.
  range(points) {
    const { head } = this;
    const complete = points.filter((p) => p.complete);
    const lows = complete.map((p) => p.yl);
    const highs = complete.map((p) => p.yh);
    const lo = Math.min(...lows, ...(head.floor === null ? [] : [head.floor]));
    const worth = complete.filter((p) => head.front.includes(p.n) || p.mark === "reference");
    const base = Math.max(...worth.map((p) => p.yh));
    const sorted = complete.map((p) => p.y).sort((a, b) => a - b);
    const middle = sorted[Math.floor(0.75 * (sorted.length - 1))] ?? base;
    const near = Math.min(
      Math.max(...highs),
      Math.max(base, Math.min(middle, lo + 2.5 * (base - lo))) + 0.25 * (base - lo || Math.abs(base) || 1),
    );
    const most = Math.max(...highs, ...points.map((p) => p.y));
    const top = this.far.checked ? most : near;
    const pad = 0.06 * (top - lo || Math.abs(top) || 1);
    return { lo: lo - pad, hi: top + pad, near: near + 0.06 * (near - lo || 1) };
  }

  // ---- parameters side by side

  parallel() {
    const { head, theme, width, height } = this;
    const { axes, lines } = head;
    const area = { l: 46, r: width - 46, t: 34, b: height - 26 };
    const x = (i) => area.l + (axes.length > 1 ? (i / (axes.length - 1)) * (area.r - area.l) : 0);
    const y = (v) => (v === null ? area.b + 12 : area.b - v * (area.b - area.t));
    this.shown = [];
    for (const line of [...lines].sort(
      (a, b) => a.front - b.front || (a.n === this.selected) - (b.n === this.selected),
    )) {
      const mine = line.n === this.selected;
      const d = line.v.map((v, i) => `${i ? "L" : "M"} ${x(i)} ${y(v)}`).join(" ");
      const color = mine
        ? theme.text
        : line.front
          ? line.mark === "cached"
            ? theme.colors[0]
            : theme.colors[1]
          : theme.faint;
      const path = svgElement(
        "path",
        {
          d,
          fill: "none",
          stroke: color,
          "stroke-width": mine ? 3 : line.front ? 2 : 1,
          opacity: mine ? 1 : line.front ? 0.85 : 0.75,
          "stroke-linejoin": "round",
          "data-number": line.n,
        },
        this.svg,
      );
      if (line.mark !== "cached" && line.front) path.setAttribute("stroke-dasharray", "7 4");
      this.shown.push({ p: line, places: line.v.map((v, i) => [x(i), y(v)]) });
    }
    axes.forEach((axis, i) => {
      svgElement("line", { x1: x(i), x2: x(i), y1: area.t, y2: area.b, stroke: theme.axis }, this.svg);
      const edge = i === 0 ? "start" : i === axes.length - 1 ? "end" : "middle";
      const shift = { start: -area.l + 2, end: area.l - 2, middle: 0 }[edge];
      this.text(x(i) + shift, i % 2 && width / axes.length < 105 ? 26 : 12, axis.label, {
        "text-anchor": edge,
        fill: theme.text,
        "font-weight": 600,
      });
      for (const [v, label] of axis.ticks)
        this.text(x(i) + (i === axes.length - 1 ? -6 : 6), y(v) + 4, label, {
          "text-anchor": i === axes.length - 1 ? "end" : "start",
          "font-size": 11,
          stroke: theme.paper,
          "stroke-width": 3,
          "paint-order": "stroke",
          fill: theme.text,
        });
    });
    if (lines.some((line) => line.v.includes(null)))
      this.text(2, area.b + 16, "not used", { "font-size": 11 });
    const bar = "M -8 0 H 8";
    this.legend([
      ["on the front, cached", bar, { stroke: theme.colors[0], "stroke-width": 2.5 }],
      [
        "on the front, no cache",
        bar,
        { stroke: theme.colors[1], "stroke-width": 2.5, "stroke-dasharray": "5 3" },
      ],
      ["others", bar, { stroke: theme.faint, "stroke-width": 2 }],
      ["chosen", bar, { stroke: theme.text, "stroke-width": 3 }],
    ]);
    this.lab.querySelector('[data-el="far"]').hidden = true;
  }

  // ---- pointing

  nearest(event) {
    const box = this.svg.getBoundingClientRect();
    const px = event.clientX - box.left;
    const py = event.clientY - box.top;
    let best = null;
    let least = this.head.kind === "pareto" ? NEAR : 12;
    for (const shown of this.shown) {
      const far = shown.places ? this.fromLine(shown.places, px, py) : Math.hypot(shown.x - px, shown.y - py);
      if (far < least || (far === least && shown.p.complete)) {
        best = shown;
        least = far;
      }
    }
    if (best) this.at = [px, py];
    return best?.p;
  }

  fromLine(places, px, py) {
    let i = 1;
    while (i < places.length - 1 && places[i][0] < px) i++;
    if (places.length < 2) return 1e9;
    const [[x0, y0], [x1, y1]] = [places[i - 1], places[i]];
    const share = clamp((px - x0) / (x1 - x0 || 1), 0, 1);
    return Math.abs(py - (y0 + share * (y1 - y0)));
  }

  hover(point) {
    this.tip.hidden = !point;
    if (!point) return;
    const shown = this.shown.find((s) => s.p.n === point.n);
    const [x, y] = shown.places ? this.at || shown.places[0] : [shown.x, shown.y];
    const lines = point.text.map((line, i) => {
      const node = document.createElement(i ? "div" : "b");
      node.textContent = line;
      return node;
    });
    this.tip.replaceChildren(...lines);
    this.tip.style.left = `${clamp(x + 16 + this.tip.offsetWidth > this.width ? x - 16 - this.tip.offsetWidth : x + 16, 0, this.width)}px`;
    this.tip.style.top = `${clamp(y - 10, 0, Math.max(0, this.height - this.tip.offsetHeight))}px`;
  }

  save() {
    const copy = this.svg.cloneNode(true);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("width", this.width);
    copy.setAttribute("height", this.height);
    copy.prepend(svgElement("rect", { width: this.width, height: this.height, fill: this.theme.paper }));
    const link = document.createElement("a");
    link.download = `${this.head.key}-${this.head.kind}.svg`;
    link.href = URL.createObjectURL(new Blob([copy.outerHTML], { type: "image/svg+xml" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
}

export default mounted(Board);
