// Axes, lines, dots, bars and maps on a canvas that stays sharp at every device pixel ratio.

import { decades, linear, logarithmic, logTicks, niceTicks } from "./scales.js";
import { decadeText, short, tickText } from "./text.js";

export class Plot {
  constructor(section) {
    this.section = section;
    this.box = section.querySelector(".plot");
    this.canvas = section.querySelector("canvas");
    this.ctx = this.canvas.getContext("2d");
    this.fit();
  }

  // Layout is read only when a ResizeObserver says that it changed: reading it at every frame would force a
  // reflow.
  fit() {
    const ratio = window.devicePixelRatio || 1;
    this.ratio = ratio;
    this.width = this.box.clientWidth;
    this.height = this.box.clientHeight;
    const w = Math.max(1, Math.round(this.width * ratio));
    const h = Math.max(1, Math.round(this.height * ratio));
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
    }
    // Presenter mode asks for larger type.
    this.type = Number(getComputedStyle(this.box).getPropertyValue("--lab-type")) || 1;
    this.left = 46 * this.type;
    this.right = this.width - 16;
    this.top = 25 * this.type;
    this.bottom = this.height - 32 * this.type;
  }

  axes(theme, x, y) {
    const c = this.ctx;
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    c.font = `${11 * this.type}px ${theme.font}`;
    c.lineWidth = 1;
    this.titles = { x: x.title, y: y.title };
    this.x = (x.log ? logarithmic : linear)(...x.domain, this.left, this.right);
    this.y = (y.log ? logarithmic : linear)(...y.domain, this.bottom, this.top);
    c.textBaseline = "middle";
    c.textAlign = "right";
    const levels = y.fine
      ? logTicks(...y.domain, Math.floor((this.bottom - this.top) / 26))
      : y.log
        ? decades(...y.domain, 5)
        : niceTicks(...y.domain, 4);
    for (const v of levels) {
      const p = Math.round(this.y(v)) + 0.5;
      c.strokeStyle = theme.grid;
      c.beginPath();
      c.moveTo(this.left, p);
      c.lineTo(this.right, p);
      c.stroke();
      c.fillStyle = theme.muted;
      c.fillText(y.fine ? tickText(v) : y.log ? decadeText(v) : short(v), this.left - 6, p);
    }
    c.textBaseline = "top";
    c.textAlign = "center";
    // Named positions, or round numbers.
    const room = Math.floor((this.right - this.left) / 60);
    const ticks = x.names
      ? x.names.map((name, i) => [i + 0.5, name])
      : x.log
        ? logTicks(...x.domain, room).map((v) => [v, tickText(v)])
        : niceTicks(...x.domain, Math.max(3, Math.floor((this.right - this.left) / 70))).map((v) => [
            v,
            short(v),
          ]);
    for (const [v, name] of ticks) {
      const p = Math.round(this.x(v)) + 0.5;
      c.strokeStyle = theme.axis;
      c.beginPath();
      c.moveTo(p, this.bottom);
      c.lineTo(p, this.bottom + 4);
      c.stroke();
      c.fillStyle = theme.muted;
      c.fillText(name, p, this.bottom + 6);
    }
    c.strokeStyle = theme.axis;
    c.beginPath();
    c.moveTo(this.left + 0.5, this.top);
    c.lineTo(this.left + 0.5, this.bottom + 0.5);
    c.lineTo(this.right, this.bottom + 0.5);
    c.stroke();
    c.fillStyle = theme.text;
    c.textAlign = "left";
    c.textBaseline = "top";
    c.fillText(y.title, 4, 2);
    c.textAlign = "right";
    c.textBaseline = "bottom";
    c.fillText(x.title, this.right, this.height);
  }

  clipped(draw) {
    const c = this.ctx;
    c.save();
    c.beginPath();
    c.rect(this.left, this.top, this.right - this.left, this.bottom - this.top + 1);
    c.clip();
    draw(c);
    c.restore();
  }

  // What does not change from one picture to the next is drawn once, and copied until `key` changes.
  layer(key, draw) {
    if (this.recording) {
      draw();
      return;
    }
    const wanted = `${key} ${this.canvas.width} ${this.canvas.height}`;
    if (this.layerKey !== wanted) {
      draw();
      this.sheet = document.createElement("canvas");
      this.sheet.width = this.canvas.width;
      this.sheet.height = this.canvas.height;
      this.sheet.getContext("2d").drawImage(this.canvas, 0, 0);
      this.layerKey = wanted;
      return;
    }
    const c = this.ctx;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.canvas.width, this.canvas.height);
    c.drawImage(this.sheet, 0, 0);
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
  }

  // A line through `count` values value(i), at x = start + i * step; NaN breaks it.
  line(count, value, color, { width = 1.6, start = 0, step = 1, alpha = 1, name } = {}) {
    if (this.recording) {
      const there = Array.from({ length: count }, (_, i) => i).filter((i) => Number.isFinite(value(i)));
      this.recording.push({
        name,
        color,
        line: true,
        x: there.map((i) => start + i * step),
        value: there.map(value),
      });
    }
    this.clipped((c) => {
      c.kind = "line";
      c.strokeStyle = color;
      c.lineWidth = this.lit === color ? width + 1.4 : width;
      c.globalAlpha = alpha * this.light(color);
      c.lineJoin = "round";
      c.beginPath();
      const stride = Math.max(1, Math.floor(count / (2 * Math.max(1, this.right - this.left))));
      let pen = false;
      for (let i = 0; i < count; i += stride) {
        const v = value(i);
        if (!Number.isFinite(v)) {
          pen = false;
          continue;
        }
        const px = this.x(start + i * step);
        const py = this.y(v);
        if (pen) c.lineTo(px, py);
        else {
          c.moveTo(px, py);
          pen = true;
        }
      }
      c.stroke();
      c.kind = "";
    });
  }

  // While one trace is highlighted, the others fade.
  light(color) {
    return !this.lit || this.lit === color ? 1 : 0.16;
  }

  // Dots [x, y, color, name, radius, value]; the value is given where it lies outside of the axis and y does
  // not.
  dots(list) {
    if (this.recording)
      for (const [x, y, color, name, , value = y] of list)
        this.recording.push({ name, color, x: [x], value: [value] });
    this.clipped((c) => {
      c.kind = "dot";
      for (const [x, y, color, , radius] of list) {
        c.fillStyle = color;
        c.globalAlpha = this.light(color);
        c.beginPath();
        c.arc(this.x(x), this.y(y), radius, 0, 6.3);
        c.fill();
      }
      c.kind = "";
    });
  }

  // Bars from the axis up.
  bars(count, value, color) {
    if (this.recording)
      for (let k = 0; k < count; k++) this.recording.push({ color: color(k), x: [k], value: [value(k)] });
    this.clipped((c) => {
      const w = Math.max(1, this.x(1) - this.x(0) - 1);
      c.kind = "bar";
      for (let k = 0; k < count; k++) {
        c.fillStyle = color(k);
        c.globalAlpha = this.light(color(k));
        const y = this.y(value(k));
        c.fillRect(this.x(k), y, w, this.bottom - y);
      }
      c.kind = "";
    });
  }

  // A map: the picture `sheet` of columns by rows; `value(column, row)` is what it shows, under `name`.
  cells(sheet, name, columns, rows, value) {
    if (this.recording) {
      const x = [];
      const k = [];
      const values = [];
      for (let i = 0; i < columns; i++)
        for (let j = 0; j < rows; j++) {
          const v = value(i, j);
          if (Number.isFinite(v)) {
            x.push(i);
            k.push(j);
            values.push(v);
          }
        }
      this.recording.push({ name, x, k, value: values });
    }
    const c = this.ctx;
    c.imageSmoothingEnabled = false;
    c.drawImage(sheet, this.left + 1, this.top, this.right - this.left - 1, this.bottom - this.top);
  }

  // Straight lines across the plot, at a pixel.
  vertical(x, color, options) {
    this.straight([x, this.top, x, this.bottom], color, options);
  }

  horizontal(y, color, options) {
    this.straight([this.left, y, this.right, y], color, options);
  }

  straight([x0, y0, x1, y1], color, { width = 1, dash = [] } = {}) {
    const c = this.ctx;
    c.strokeStyle = color;
    c.lineWidth = width;
    c.setLineDash(dash);
    c.beginPath();
    c.moveTo(x0, y0);
    c.lineTo(x1, y1);
    c.stroke();
    c.setLineDash([]);
  }

  // The horizontal pixel in the middle of which a thin line at x is sharp.
  sharp(x) {
    return Math.round(this.x(x)) + 0.5;
  }

  note(theme, text) {
    const c = this.ctx;
    c.fillStyle = theme.muted;
    c.textAlign = "center";
    c.textBaseline = "middle";
    c.fillText(text, (this.left + this.right) / 2, this.top + (this.bottom - this.top) * 0.3);
  }
}
