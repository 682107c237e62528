// SVG as text: elements, and the part of a canvas context that plots use, writing elements instead of pixels.

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
export const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ESCAPES[c]);

// An element; attributes that are undefined are left out, and `inside` is markup already.
export const tag = (name, attributes, inside = "") => {
  const given = Object.entries(attributes).filter(([, value]) => value !== undefined);
  return `<${name}${given.map(([key, value]) => ` ${key}="${escaped(value)}"`).join("")}>${inside}</${name}>`;
};

const hundredths = (v) => +(+v).toFixed(2);
const KEPT = ["strokeStyle", "fillStyle", "lineWidth", "globalAlpha", "font", "clipped", "dash"];

// Coordinates are CSS pixels: scaling is left out. `name` makes the ids of clip paths unique.
export class SvgContext {
  constructor(name) {
    Object.assign(this, { name, parts: [], stack: [], clips: 0, path: "", dash: [], clipped: "" });
    Object.assign(this, { fillStyle: "#000", strokeStyle: "#000", lineWidth: 1, lineJoin: "miter" });
    Object.assign(this, { globalAlpha: 1, font: "11px sans-serif", textAlign: "left" });
    this.textBaseline = "alphabetic";
  }

  setTransform() {}

  clearRect() {
    this.parts = [];
  }

  save() {
    this.stack.push(Object.fromEntries(KEPT.map((key) => [key, this[key]])));
  }

  restore() {
    Object.assign(this, this.stack.pop());
  }

  setLineDash(dash) {
    this.dash = dash;
  }

  beginPath() {
    this.path = "";
  }

  moveTo(x, y) {
    this.path += `M${hundredths(x)} ${hundredths(y)}`;
  }

  lineTo(x, y) {
    this.path += `L${hundredths(x)} ${hundredths(y)}`;
  }

  closePath() {
    this.path += "z";
  }

  rect(x, y, w, h) {
    const [width, height] = [hundredths(w), hundredths(h)];
    this.path += `M${hundredths(x)} ${hundredths(y)}h${width}v${height}h${-width}z`;
  }

  // Plots draw whole circles only.
  arc(x, y, r) {
    const half = (width) => `a${r} ${r} 0 1 0 ${width} 0`;
    this.path += `M${hundredths(x - r)} ${hundredths(y)}${half(2 * r)}${half(-2 * r)}`;
  }

  clip() {
    this.clips += 1;
    this.clipped = `${this.name}-clip${this.clips}`;
    this.parts.push(tag("clipPath", { id: this.clipped }, tag("path", { d: this.path })));
  }

  add(name, attributes, kind = this.kind) {
    this.parts.push(
      tag(name, {
        ...attributes,
        class: kind || undefined,
        opacity: this.globalAlpha < 1 ? this.globalAlpha : undefined,
        "clip-path": this.clipped ? `url(#${this.clipped})` : undefined,
      }),
    );
  }

  stroke() {
    if (!this.path) return;
    this.add("path", {
      d: this.path,
      fill: "none",
      stroke: this.strokeStyle,
      "stroke-width": this.lineWidth,
      "stroke-linejoin": this.lineJoin,
      "stroke-dasharray": this.dash.length ? this.dash.join(" ") : undefined,
    });
  }

  fill() {
    this.add("path", { d: this.path, fill: this.fillStyle });
  }

  fillRect(x, y, w, h) {
    const [width, height] = [hundredths(Math.max(0, w)), hundredths(Math.max(0, h))];
    this.add("rect", { x: hundredths(x), y: hundredths(y), width, height, fill: this.fillStyle });
  }

  drawImage(source, x, y, w, h) {
    const place = { x: hundredths(x), y: hundredths(y), width: hundredths(w), height: hundredths(h) };
    const look = { preserveAspectRatio: "none", style: "image-rendering:pixelated" };
    this.add("image", { href: source.toDataURL(), ...place, ...look }, "cells");
  }

  fillText(text, x, y) {
    const lines = { top: "text-before-edge", middle: "central", bottom: "text-after-edge" };
    const attributes = {
      x: hundredths(x),
      y: hundredths(y),
      "text-anchor": { right: "end", center: "middle" }[this.textAlign] || "start",
      "dominant-baseline": lines[this.textBaseline] || "auto",
      fill: this.fillStyle,
      style: `font:${this.font.replace(/"/g, "'")}`,
    };
    this.parts.push(tag("text", attributes, escaped(text)));
  }
}
