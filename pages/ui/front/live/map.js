// The decision map: a column for each step, a row for each frequency; it grows while the sampler runs.

import { element } from "../shared/dom.js";
import { CODES, REASONS, reasonColors } from "../shared/reasons.js";
import { clamp } from "../shared/scales.js";
import { short } from "../shared/text.js";
import { packed } from "../shared/theme.js";

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const EMPTY =
  "Each column is a step, each row a frequency: colored where the network computes, gray where it reuses.";

export class DecisionMap {
  constructor(lab) {
    this.lab = lab;
    this.plot = lab.plots.map;
    this.cursor = null;
    this.wire();
  }

  // The bitmap is drawn anew: another run, theme or size.
  restart() {
    this.bitmap = null;
  }

  wire() {
    const { canvas } = this.plot;
    canvas.addEventListener("pointermove", (event) => this.point(event));
    for (const leave of ["pointerleave", "blur"]) canvas.addEventListener(leave, () => this.moveTo(null));
    canvas.addEventListener("keydown", (event) => {
      const move = MOVES[event.key];
      const { count, hello } = this.lab.store;
      if (!move || !count) return;
      event.preventDefault();
      const [step, k] = this.cursor ?? [count - 1, 0];
      const far = event.shiftKey ? 10 : 1;
      this.moveTo([clamp(step + move[0] * far, 0, count - 1), clamp(k + move[1] * far, 0, hello.n - 1)]);
    });
  }

  moveTo(cursor) {
    this.cursor = cursor;
    this.lab.dirty();
  }

  point(event) {
    const { x, y, canvas } = this.plot;
    const { count, hello } = this.lab.store;
    if (!x || !count) return;
    const box = canvas.getBoundingClientRect();
    const step = Math.floor(x.invert(event.clientX - box.left));
    const k = Math.floor(y.invert(event.clientY - box.top));
    this.moveTo(step >= 0 && step < count && k >= 0 && k < hello.n ? [step, k] : null);
  }

  // Adds the steps that came since the last picture. Where several share a column of pixels, the highest code
  // shows: a recompute must not vanish behind a reuse.
  grow(columns) {
    const { store, theme } = this.lab;
    const { n, steps } = store.hello;
    if (this.bitmap?.columns !== columns) {
      const sheet = element("canvas");
      Object.assign(sheet, { width: columns, height: n });
      const tints = reasonColors(theme).map(packed);
      const cells = new Uint8Array(columns * n);
      this.bitmap = { columns, sheet, ctx: sheet.getContext("2d"), cells, done: 0, tints };
    }
    const { cells, done, tints, ctx } = this.bitmap;
    if (done >= store.count) return;
    const first = Math.floor((done * columns) / steps);
    const last = Math.floor(((store.count - 1) * columns) / steps);
    for (let s = done; s < store.count; s++) {
      const at = Math.floor((s * columns) / steps) * n;
      for (let k = 0; k < n; k++)
        if (store.reasons[s * n + k] > cells[at + k]) cells[at + k] = store.reasons[s * n + k];
    }
    const image = ctx.createImageData(last - first + 1, n);
    const words = new Uint32Array(image.data.buffer);
    for (let col = first; col <= last; col++)
      for (let k = 0; k < n; k++) words[(n - 1 - k) * image.width + col - first] = tints[cells[col * n + k]];
    ctx.putImageData(image, first, 0);
    this.bitmap.done = store.count;
  }

  draw() {
    const { plot } = this;
    const { store, theme: t } = this.lab;
    const { hello, count, reasons, now } = store;
    const { n, steps } = hello;
    const columns = Math.max(1, Math.min(steps, Math.floor((plot.right - plot.left) * plot.ratio)));
    plot.axes(t, { domain: [0, steps], title: "step" }, { domain: [0, n], title: "frequency k" });
    this.grow(columns);
    if (count) plot.cells(this.bitmap.sheet, CODES, count, n, (s, k) => reasons[s * n + k]);
    else if (this.lab.isOver(now?.status)) plot.note(t, "no step was taken");
    else plot.note(t, hello.run ? "waiting for the first step" : EMPTY);
    for (let s = 1; s < count; s++)
      if (store.cell("policy_version", s) !== store.cell("policy_version", s - 1)) this.drawChange(s);
    const merged = steps > columns ? ` (one column shows up to ${Math.ceil(steps / columns)} steps)` : "";
    plot.section.querySelector("h3").textContent = `Decisions: step × frequency${merged}`;
    this.drawTip();
  }

  // A change of the policy: a dashed line and an arrow head.
  drawChange(step) {
    const { plot } = this;
    const c = plot.ctx;
    const x = plot.sharp(step);
    plot.vertical(x, this.lab.theme.text, { dash: [2, 3] });
    c.fillStyle = this.lab.theme.text;
    c.beginPath();
    c.moveTo(x - 4, plot.top - 7);
    c.lineTo(x + 4, plot.top - 7);
    c.lineTo(x, plot.top - 1);
    c.fill();
  }

  drawTip() {
    const { plot, cursor } = this;
    const tip = plot.box.querySelector(".tip");
    tip.hidden = !cursor;
    if (!cursor) return;
    const { store, theme } = this.lab;
    const [step, k] = cursor;
    const at = step * store.hello.n + k;
    const x = plot.x(step + 0.5);
    const y = plot.y(k + 0.5);
    const age = store.age(step, k);
    plot.ctx.globalAlpha = 0.7;
    plot.vertical(x, theme.text);
    plot.horizontal(y, theme.text);
    plot.ctx.globalAlpha = 1;
    const head = element("div", ` · ${REASONS[store.reasons[at]]}`);
    head.prepend(element("b", `step ${step + 1}, k ${k}`));
    const score = `e = ${short(store.scores[at])} against τ = ${short(store.cell("tau", step))}`;
    const features = age ? `features ${age} step${age > 1 ? "s" : ""} old` : "features computed at this step";
    tip.replaceChildren(head, element("div", score), element("div", features));
    tip.style.left = `${x > plot.width * 0.6 ? x - tip.offsetWidth - 12 : x + 12}px`;
    tip.style.top = `${clamp(y - tip.offsetHeight / 2, 0, Math.max(0, plot.height - tip.offsetHeight))}px`;
  }
}
