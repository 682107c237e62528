// The live view: panels, handles, tiles and controls around one Store and one Link.

import { saveMenu } from "../shared/downloads.js";
import { mounted } from "../shared/mount.js";
import { readPacket } from "../shared/packet.js";
import { Plot } from "../shared/plot.js";
import { decadeRange } from "../shared/scales.js";
import { duration, percent, short } from "../shared/text.js";
import { CODES, REASONS, readTheme, rgb } from "../shared/theme.js";
import { Link } from "./link.js";
import { Store } from "./store.js";

const STATUS = {
  ready: ["Ready", "muted"],
  loading: ["Loading", "warn"],
  running: ["Running", "good"],
  paused: ["Paused", "warn"],
  comparing: ["Comparing", "warn"],
  done: ["Done", "good"],
  stopped: ["Stopped", "muted"],
  failed: ["Failed", "bad"],
};
const LIVE = new Set(["ready", "loading", "running", "paused"]);
const ENDED = new Set(["done", "stopped", "failed"]);
const HANDLES = [
  { field: "k_low", panel: "spectrum", axis: "x", color: 0 },
  { field: "k_low", panel: "map", axis: "y", color: 0 },
  { field: "tau", panel: "scores", axis: "y", color: 1 },
  { field: "tau_safe", panel: "intensity", axis: "y", color: 3 },
  { field: "tau_warn", panel: "intensity", axis: "y", color: 1 },
];

const TILES = [
  ["step", "Step", "Steps taken, from noise to series"],
  ["share", "Tokens computed", "Share of all frequencies, of all samples, that the network computed so far"],
  ["hits", "Hit rate (reused)", "Share that was taken from the cache instead"],
  ["flops", "FLOPs saved", "Arithmetic operations left out, against a run without a cache"],
  ["ms", "Compute per step", "Mean of the last 50 steps; waiting for the pace is not counted"],
  ["speed", "Speed", "Steps a second over the last two seconds, pace and all"],
  ["left", "Time left", "In the present phase, at the speed so far"],
  ["version", "Policy changes", "How often the policy was changed during this run"],
];

class Lab {
  constructor(root) {
    this.root = root;
    this.lab = root.querySelector(".lab");
    this.el = (name) => this.lab.querySelector(`[data-el="${name}"]`);
    this.plots = {};
    for (const section of this.lab.querySelectorAll("[data-panel]"))
      this.plots[section.dataset.panel] = new Plot(section);
    this.channel = 0;
    this.cursor = null;
    this.held = null;
    this.draft = {};
    this.pending = {};
    this.renders = 0;
    this.phase = "live";
    this.observer = new ResizeObserver(() => {
      for (const p of Object.values(this.plots)) p.fit();
      this.picture = null;
      this.dirty();
    });
    this.observer.observe(this.lab);
    for (const p of Object.values(this.plots)) this.observer.observe(p.box);
    this.tiles = {};
    for (const [key, label, help] of TILES) {
      const box = document.createElement("div");
      box.innerHTML = `<dt>${label}</dt><dd></dd>`;
      box.title = help;
      this.lab.querySelector(".tiles").append(box);
      this.tiles[key] = box.querySelector("dd");
    }
    this.lab.querySelector('[data-el="save"]').append(saveMenu(this));
    this.wire();
  }

  // ---- what Python hands over at every rerun
  update({ data, setTriggerValue }) {
    this.trigger = setTriggerValue;
    const hello = readPacket(data);
    this.theme = readTheme(this.root.host || this.lab);
    this.lab.style.setProperty("--bad", this.theme.bad);
    const same = this.store && this.store.hello.run === hello.head.run && hello.head.run;
    if (same) {
      Object.assign(this.store.hello, { fields: hello.head.fields, phase: hello.head.phase });
    } else {
      if (this.link) this.link.close();
      this.link = null;
      this.store = new Store(hello);
      this.phase = "live";
      this.range = {};
      this.draft = {};
      this.cursor = null;
      this.fault(null);
      this.note("");
      this.channel = Math.min(this.channel, hello.head.M - 1);
      this.options();
      if (hello.head.run) {
        this.link = new Link(hello.head.run, hello.head.socket, {
          onPacket: (packet) => {
            const ok = this.store.take(packet);
            if (packet.head.policy) this.fault(null);
            this.dirty();
            return ok;
          },
          onFault: (text) => this.fault(text),
          onGone: (text) => {
            this.note(text);
          },
          onPoll: () => this.trigger("feed", "poll"),
          trigger: (name, value) => this.trigger(name, value),
          cursor: () => this.store.count,
        });
      }
    }
    this.picture = null;
    this.shown = (this.shown || 0) + 1;
    this.handles();
    this.legends();
    this.dirty();
  }

  close() {
    this.observer.disconnect();
    if (this.link) this.link.close();
  }

  options() {
    const { hello } = this.store;
    this.el("pace").innerHTML = hello.paces
      .map((p) => `<option value="${p}">${p ? `${p} steps/s` : "unlimited"}</option>`)
      .join("");
    this.el("pace").value = String(hello.pace);
    const box = this.lab.querySelector(".channel");
    box.hidden = hello.M < 2;
    this.el("channel").replaceChildren(...hello.channels.map((name, i) => new Option(name, i)));
    this.el("channel").value = String(this.channel);
  }

  // ---- controls
  wire() {
    this.lab.querySelector(".bar").addEventListener("click", ({ target }) => {
      const act = target.dataset?.act;
      if (!act || !this.link) return;
      const paused = this.store.now && this.store.now.status === "paused";
      this.link.send({ type: act === "pause" && paused ? "resume" : act });
    });
    this.el("pace").addEventListener("change", ({ target }) => {
      if (this.link) this.link.send({ type: "pace", value: +target.value });
      this.trigger("pace", { value: +target.value, n: Math.random() });
    });
    this.el("channel").addEventListener("change", ({ target }) => {
      this.channel = +target.value;
      this.dirty();
    });
    const map = this.plots.map.canvas;
    const point = (event) => {
      const { count, hello } = this.store;
      const p = this.plots.map;
      if (!p.x || !count) return;
      const box = map.getBoundingClientRect();
      const step = Math.floor(p.x.invert(event.clientX - box.left));
      const k = Math.floor(p.y.invert(event.clientY - box.top));
      this.cursor = step >= 0 && step < count && k >= 0 && k < hello.n ? [step, k] : null;
      this.dirty();
    };
    map.addEventListener("pointermove", point);
    map.addEventListener("pointerleave", () => {
      this.cursor = null;
      this.dirty();
    });
    map.addEventListener("blur", () => {
      this.cursor = null;
      this.dirty();
    });
    map.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      const { count, hello } = this.store;
      if (!move || !count) return;
      event.preventDefault();
      const [s, k] = this.cursor || [count - 1, 0];
      const far = event.shiftKey ? 10 : 1;
      this.cursor = [
        Math.min(count - 1, Math.max(0, s + move[0] * far)),
        Math.min(hello.n - 1, Math.max(0, k + move[1] * far)),
      ];
      this.dirty();
    });
  }

  fault(text) {
    const box = this.lab.querySelector(".fault");
    box.hidden = !text;
    box.textContent = text || "";
  }

  note(text) {
    const el = this.el("note");
    if (el.textContent !== text) el.textContent = text;
  }

  // ---- handles: one slider for each place where a threshold can be taken hold of
  handles() {
    for (const spec of HANDLES) {
      const meta = this.store.hello.fields[spec.field];
      const plot = this.plots[spec.panel];
      let node = plot.box.querySelector(`[data-field="${spec.field}"]`);
      if (!node) {
        node = document.createElement("div");
        node.className = `handle ${spec.axis}`;
        node.dataset.field = spec.field;
        node.tabIndex = 0;
        node.innerHTML = "<b></b>";
        node.setAttribute("role", "slider");
        node.setAttribute("aria-orientation", spec.axis === "x" ? "horizontal" : "vertical");
        this.grab(node, spec);
        plot.box.append(node);
      }
      node.setAttribute("aria-label", meta.label);
      node.style.setProperty("--c", this.theme.colors[spec.color]);
    }
  }

  active(field) {
    const triggers = this.store.hello.fields[field].triggers;
    const { now, policy } = this.store;
    return (!now || LIVE.has(now.status)) && triggers.includes(policy.trigger);
  }

  value(field) {
    return field in this.draft ? this.draft[field] : this.store.policy[field];
  }

  bounds(field) {
    const { low, high } = this.store.hello.fields[field];
    if (field === "k_low") return [low, Math.min(high, this.store.hello.n - 1), true];
    // A warning must lie above the safe level, or be off: a handle stops before it would cross the other.
    const warn = this.value("tau_warn");
    if (field === "tau_safe" && warn > 0) return [low, warn * 0.99, false];
    return [low, high, false];
  }

  grab(node, spec) {
    const place = (event) => {
      const plot = this.plots[spec.panel];
      const box = plot.box.getBoundingClientRect();
      const at =
        spec.axis === "x" ? plot.x.invert(event.clientX - box.left) : plot.y.invert(event.clientY - box.top);
      const [a, b] = (spec.axis === "x" ? plot.x : plot.y).domain;
      // At the lower end of its axis a level r is off.
      const off = spec.field.startsWith("tau_") && at <= a;
      this.set(spec.field, spec.field === "k_low" ? at - 1 : off ? 0 : Math.min(b, Math.max(a, at)));
    };
    node.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      node.focus();
      node.setPointerCapture(event.pointerId);
      node.classList.add("held");
      this.held = spec.field;
    });
    node.addEventListener("pointermove", (event) => {
      if (this.held === spec.field && node.classList.contains("held")) place(event);
    });
    const drop = () => {
      if (!node.classList.contains("held")) return;
      node.classList.remove("held");
      this.held = null;
      this.release();
    };
    node.addEventListener("pointerup", drop);
    node.addEventListener("pointercancel", drop);
    node.addEventListener("keydown", (event) => {
      const up = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 }[
        event.key
      ];
      const [low, high, whole] = this.bounds(spec.field);
      if (!up && event.key !== "Home" && event.key !== "End") return;
      event.preventDefault();
      const old = this.value(spec.field);
      const far = event.shiftKey ? 5 : 1;
      if (event.key === "Home") this.set(spec.field, low);
      else if (event.key === "End") this.set(spec.field, high);
      else if (whole) this.set(spec.field, old + up * far);
      else if (old > 0) this.set(spec.field, old * 1.1 ** (up * far));
      else if (up > 0) this.set(spec.field, this.plots[spec.panel].y.domain[0]);
      clearTimeout(this.settle);
      this.settle = setTimeout(() => this.release(), 400);
    });
  }

  set(field, wanted) {
    const [low, high, whole] = this.bounds(field);
    let value = Math.min(high, Math.max(low, wanted));
    value = whole ? Math.round(value) : +value.toPrecision(3);
    if (field === "tau_warn" && value > 0 && value <= this.value("tau_safe"))
      value = +(this.value("tau_safe") * 1.02).toPrecision(3);
    if (!Number.isFinite(value) || value === this.value(field)) return;
    this.draft[field] = value;
    this.pending[field] = value;
    this.flush();
    this.dirty();
  }

  // A drag fires far more often than the sampler can notice: at most 30 messages a second, the last one always.
  flush() {
    if (this.timer || !this.link || !this.link.socket) return;
    const wait = Math.max(0, 33 - (performance.now() - (this.flushed || 0)));
    this.timer = setTimeout(() => {
      this.timer = null;
      this.flushed = performance.now();
      const changes = this.pending;
      this.pending = {};
      if (Object.keys(changes).length) this.link.send({ type: "policy", changes });
    }, wait);
  }

  release() {
    if (Object.keys(this.draft).length)
      this.trigger("policy", { changes: { ...this.draft }, n: Math.random() });
    Object.assign(this.store.policy, this.draft);
    this.draft = {};
  }

  seat() {
    for (const { field, panel, axis } of HANDLES) {
      const plot = this.plots[panel];
      const node = plot.box.querySelector(`[data-field="${field}"]`);
      const shown = this.active(field) && !!plot.x;
      node.hidden = !shown;
      if (!shown) continue;
      const value = this.value(field);
      const scale = axis === "x" ? plot.x : plot.y;
      const at = Math.min(scale.domain[1], Math.max(scale.domain[0], value + (field === "k_low" ? 1 : 0)));
      const p = scale(at);
      const name = { k_low: "K", tau: "τ", tau_safe: "τ safe", tau_warn: "τ warn" }[field];
      const text = (field === "k_low" ? value < 0 : value === 0)
        ? `${name} off`
        : `${name} = ${short(value)}`;
      if (axis === "x") {
        node.style.left = `${p}px`;
        node.style.top = `${plot.top}px`;
        node.style.height = `${plot.bottom - plot.top}px`;
        node.classList.toggle("flip", p > plot.right - 70);
      } else {
        // Two levels share the panel of r: each is taken hold of in its own half, or one would cover the other.
        const wide = plot.right - plot.left;
        const half = field === "tau_safe" || field === "tau_warn";
        node.style.top = `${p}px`;
        node.style.width = `${half ? wide / 2 : wide}px`;
        node.style.left = `${plot.left + (field === "tau_warn" ? wide / 2 : 0)}px`;
        node.classList.toggle("flip", p < plot.top + 20);
        node.classList.toggle("drawn", half && value > 0);
      }
      const label = node.firstElementChild;
      if (label.textContent !== text) label.textContent = text;
      const [low, high] = this.bounds(field);
      node.setAttribute("aria-valuemin", low);
      node.setAttribute("aria-valuemax", high);
      node.setAttribute("aria-valuenow", value);
      node.setAttribute("aria-valuetext", text);
    }
  }

  // ---- drawing
  dirty() {
    if (this.frame || !this.store) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    if (!this.lab.isConnected || !this.plots.map.width) return;
    this.drawSeries();
    this.drawSpectrum();
    this.drawMap();
    this.drawScores();
    // Long curves that grow by a pixel: ten times a second is as good, and leaves the processor to the sampler.
    const time = performance.now();
    if (this.held || this.store.now?.status !== "running" || time - (this.slow || 0) > 90) {
      this.slow = time;
      this.drawIntensity();
      this.drawEnergy();
    }
    this.seat();
    this.drawBar();
    this.lab.dataset.renders = ++this.renders;
    this.lab.dataset.steps = this.store.count;
  }

  legends() {
    const t = this.theme;
    const put = (panel, items) => {
      this.plots[panel].section.querySelector(".legend").innerHTML = items
        .map(([name, color, kind = ""]) => `<span><i class="${kind}" style="--c:${color}"></i>${name}</span>`)
        .join("");
    };
    const e = this.store.hello.edges;
    put("series", [
      ["real series", t.faint],
      ["noisy state", t.noisy],
      ["denoised estimate", t.colors[1]],
    ]);
    put("spectrum", [
      ["real data, median", t.faint],
      ["noisy state", t.noisy],
      ["denoised estimate", t.colors[1]],
    ]);
    put("map", [
      ...[1, 2, 3, 4].map((i) => [REASONS[i], t.colors[i - 1], "box"]),
      ["reused", t.reused, "box"],
      ["policy changed", t.text, "dash"],
    ]);
    put("scores", [
      ["reused", t.axis, "box"],
      ["computed (color: why)", t.colors[3], "box"],
      ["τ in force", t.colors[1], "dash"],
    ]);
    put("intensity", [
      ["this sample", t.colors[0]],
      ["mean of the batch", t.noisy],
    ]);
    put(
      "energy",
      e.slice(0, -1).map((a, i) => {
        const last = e[i + 1] - 1;
        return [`${i ? "" : "k "}${a === last ? a : `${a}–${last}`}`, this.bandColor(i)];
      }),
    );
  }

  bandColor(i) {
    return this.theme.colors[[0, 5, 3, 4, 1, 2, 6, 8][i % 8]];
  }

  drawSeries() {
    const { hello, fan, latest } = this.store;
    const plot = this.plots.series;
    const t = this.theme;
    const { N, M } = hello;
    const m = this.channel;
    if (this.fanRange?.[0] !== this.store || this.fanRange[1] !== m) {
      let lo = Infinity;
      let hi = -Infinity;
      for (let i = m; i < fan.length; i += M) {
        lo = Math.min(lo, fan[i]);
        hi = Math.max(hi, fan[i]);
      }
      const pad = (hi - lo || 1) * 0.18;
      this.fanRange = [this.store, m, lo - pad, hi + pad];
    }
    const unit = hello.units[m];
    plot.layer(`${this.shown} ${m}`, () => {
      plot.axes(
        t,
        { domain: [0, (N - 1) * hello.time.step], title: hello.time.title },
        { domain: this.fanRange.slice(2), title: `${hello.channels[m]}${unit ? ` (${unit})` : ""}` },
      );
      for (let f = 0; f * N * M < fan.length; f++)
        plot.line(N, (i) => fan[(f * N + i) * M + m], t.faint, {
          width: 1,
          alpha: 0.55,
          step: hello.time.step,
        });
    });
    if (!latest.x0) return;
    plot.line(N, (i) => latest.series[i * M + m], t.noisy, { width: 1, step: hello.time.step });
    plot.line(N, (i) => latest.x0[i * M + m], t.colors[1], { width: 2.2, step: hello.time.step });
  }

  drawSpectrum() {
    const { hello, real, latest } = this.store;
    const plot = this.plots.spectrum;
    const t = this.theme;
    const { n, M } = hello;
    const m = this.channel;
    let lo = Infinity;
    let hi = 0;
    for (let k = 0; k < n; k++) {
      const v = real[k * M + m];
      if (v > 1e-9) lo = Math.min(lo, v);
      hi = Math.max(hi, v);
    }
    plot.axes(
      t,
      { domain: [0, n], title: "frequency k (cycles a window)" },
      {
        domain: decadeRange(Math.max(lo, hi * 1e-5, 1e-9) / 2, Math.max(hi, 4)),
        log: true,
        title: "|Xₖ| (standard deviations)",
      },
    );
    if (this.active("k_low"))
      plot.clipped((c) => {
        c.fillStyle = t.colors[0];
        c.globalAlpha = 0.12;
        c.fillRect(plot.left, plot.top, plot.x(this.value("k_low") + 1) - plot.left, plot.bottom - plot.top);
      });
    plot.line(n, (k) => real[k * M + m], t.faint, { width: 2.5, start: 0.5 });
    if (!latest.x0) return;
    plot.line(n, (k) => latest.spectrum[k * M + m], t.noisy, { width: 1, start: 0.5 });
    plot.line(n, (k) => latest.x0_spectrum[k * M + m], t.colors[1], { width: 1.8, start: 0.5 });
  }

  drawMap() {
    const { hello, count, reasons } = this.store;
    const plot = this.plots.map;
    const t = this.theme;
    const { n, steps } = hello;
    plot.axes(t, { domain: [0, steps], title: "step" }, { domain: [0, n], title: "frequency k" });
    const columns = Math.max(1, Math.min(steps, Math.floor((plot.right - plot.left) * plot.ratio)));
    if (!this.picture || this.picture.columns !== columns) {
      const sheet = document.createElement("canvas");
      sheet.width = columns;
      sheet.height = n;
      this.picture = {
        columns,
        sheet,
        ctx: sheet.getContext("2d"),
        cells: new Uint8Array(columns * n),
        done: 0,
        tints: [t.reused, ...t.colors.slice(0, 4)].map(rgb),
      };
    }
    const pic = this.picture;
    if (pic.done < count) {
      const first = Math.floor((pic.done * columns) / steps);
      const last = Math.floor(((count - 1) * columns) / steps);
      // Several steps may share one column of pixels: a recompute must not vanish behind a reuse.
      for (let s = pic.done; s < count; s++) {
        const at = Math.floor((s * columns) / steps) * n;
        const from = s * n;
        for (let k = 0; k < n; k++)
          if (reasons[from + k] > pic.cells[at + k]) pic.cells[at + k] = reasons[from + k];
      }
      const image = pic.ctx.createImageData(last - first + 1, n);
      for (let col = first; col <= last; col++)
        for (let k = 0; k < n; k++) {
          const tint = pic.tints[pic.cells[col * n + k]] || pic.tints[0];
          const to = ((n - 1 - k) * image.width + col - first) * 4;
          image.data[to] = tint[0];
          image.data[to + 1] = tint[1];
          image.data[to + 2] = tint[2];
          image.data[to + 3] = 255;
        }
      pic.ctx.putImageData(image, first, 0);
      pic.done = count;
    }
    const c = plot.ctx;
    if (count) plot.cells(pic.sheet, CODES, count, n, (s, k) => reasons[s * n + k]);
    else if (ENDED.has(this.store.now?.status)) plot.note(t, "no step was taken");
    else
      plot.note(
        t,
        hello.run
          ? "waiting for the first step"
          : "Each column is one step, each row one frequency: colored where the network computes, gray where it reuses.",
      );
    c.strokeStyle = t.text;
    c.setLineDash([2, 3]);
    for (let s = 1; s < count; s++)
      if (this.store.cell("policy_version", s) !== this.store.cell("policy_version", s - 1)) {
        const x = Math.round(plot.x(s)) + 0.5;
        c.beginPath();
        c.moveTo(x, plot.top);
        c.lineTo(x, plot.bottom);
        c.stroke();
        c.fillStyle = t.text;
        c.beginPath();
        c.moveTo(x - 4, plot.top - 7);
        c.lineTo(x + 4, plot.top - 7);
        c.lineTo(x, plot.top - 1);
        c.fill();
      }
    c.setLineDash([]);
    const merged = steps > columns ? Math.ceil(steps / columns) : 1;
    plot.section.querySelector("h3").textContent =
      `Decisions: step × frequency${merged > 1 ? ` (one column shows up to ${merged} steps)` : ""}`;
    this.drawTip();
  }

  drawTip() {
    const tip = this.plots.map.box.querySelector(".tip");
    const plot = this.plots.map;
    const c = plot.ctx;
    tip.hidden = !this.cursor;
    if (!this.cursor) return;
    const { hello, reasons, scores } = this.store;
    const [step, k] = this.cursor;
    const at = step * hello.n + k;
    const x = plot.x(step + 0.5);
    const y = plot.y(k + 0.5);
    const age = this.store.age(step, k);
    c.strokeStyle = this.theme.text;
    c.lineWidth = 1;
    c.globalAlpha = 0.7;
    c.beginPath();
    c.moveTo(x, plot.top);
    c.lineTo(x, plot.bottom);
    c.moveTo(plot.left, y);
    c.lineTo(plot.right, y);
    c.stroke();
    c.globalAlpha = 1;
    tip.innerHTML =
      `<b>step ${step + 1}, k ${k}</b> · ${REASONS[reasons[at]]}<br>e = ${short(scores[at])} against τ = ${short(this.store.cell("tau", step))}<br>` +
      (age ? `features ${age} step${age > 1 ? "s" : ""} old` : "features computed at this step");
    tip.style.left = `${x > plot.width * 0.6 ? x - tip.offsetWidth - 12 : x + 12}px`;
    tip.style.top = `${Math.max(0, Math.min(plot.height - tip.offsetHeight, y - tip.offsetHeight / 2))}px`;
  }

  // Decades around what was seen lately and the thresholds; held still during a drag, else the handle would run away.
  span(name, values, extra) {
    let lo = Infinity;
    let hi = 0;
    const see = (v) => {
      if (v > 0 && Number.isFinite(v)) {
        if (v < lo) lo = v;
        if (v > hi) hi = v;
      }
    };
    values(see);
    extra.forEach(see);
    if (!hi) {
      lo = 1e-3;
      hi = 1;
    }
    lo = Math.max(lo, hi * 1e-8);
    const old = this.range[name];
    if (old && this.held) return old.domain;
    const [a, b] = decadeRange(lo / 1.5, hi * 1.5);
    if (!old || a < old.domain[0] || b > old.domain[1] || this.renders - old.since > 90)
      this.range[name] = { domain: [a, b], since: this.renders };
    return this.range[name].domain;
  }

  drawScores() {
    const { hello, count, scores, reasons } = this.store;
    const plot = this.plots.scores;
    const t = this.theme;
    const n = hello.n;
    const from = Math.max(0, count - 40) * n;
    const on = this.active("tau");
    const force = count ? this.store.cell("tau", count - 1) : NaN;
    const domain = this.span(
      "scores",
      (see) => {
        for (let i = from; i < count * n; i++) see(scores[i]);
      },
      on ? [this.value("tau"), force] : [],
    );
    plot.axes(t, { domain: [0, n], title: "frequency k" }, { domain, log: true, title: "eₖ" });
    if (!count) {
      plot.note(t, on || this.store.hello.run ? "drag τ: above the line is recomputed" : "");
      return;
    }
    const at = (count - 1) * n;
    plot.dots(
      Array.from({ length: n }, (_, k) => {
        const why = reasons[at + k];
        return [
          k + 0.5,
          scores[at + k],
          why ? t.colors[why - 1] : t.axis,
          why ? `computed: ${REASONS[why]}` : "reused",
          why ? 2.8 : 2.2,
        ];
      }),
    );
    plot.clipped((c) => {
      if (on && Number.isFinite(force)) {
        c.strokeStyle = t.colors[1];
        c.setLineDash([5, 4]);
        c.beginPath();
        c.moveTo(plot.left, plot.y(force));
        c.lineTo(plot.right, plot.y(force));
        c.stroke();
        c.setLineDash([]);
      }
    });
  }

  drawIntensity() {
    const { hello, count } = this.store;
    const plot = this.plots.intensity;
    const t = this.theme;
    const r = (i) => {
      const v = this.store.cell("r", i);
      return v > 0 ? v : NaN;
    };
    const mean = (i) => {
      const v = this.store.cell("r_mean", i);
      return v > 0 ? v : NaN;
    };
    const extra = ["tau_safe", "tau_warn"].filter((f) => this.active(f)).map((f) => this.value(f));
    const domain = this.span(
      "intensity",
      (see) => {
        for (let i = 0; i < count; i++) {
          see(r(i));
          see(mean(i));
        }
      },
      extra,
    );
    plot.axes(
      t,
      { domain: [0, hello.steps], title: "step" },
      { domain, log: true, title: "r = |C − C_prev|² / |C_prev|²" },
    );
    plot.clipped((c) => {
      for (const { field, color } of HANDLES.filter(
        (h) => h.panel === "intensity" && this.active(h.field) && this.value(h.field) > 0,
      )) {
        c.strokeStyle = t.colors[color];
        c.lineWidth = 2;
        c.beginPath();
        c.moveTo(plot.left, plot.y(this.value(field)));
        c.lineTo(plot.right, plot.y(this.value(field)));
        c.stroke();
      }
    });
    plot.line(count, mean, t.noisy, { width: 1, start: 0.5 });
    plot.line(count, r, t.colors[0], { width: 1.6, start: 0.5 });
  }

  drawEnergy() {
    const { hello, count, bands, bandCount } = this.store;
    const plot = this.plots.energy;
    const t = this.theme;
    const domain = this.span(
      "energy",
      (see) => {
        for (let i = 0; i < count * bandCount; i++) see(bands[i]);
      },
      [],
    );
    plot.axes(
      t,
      { domain: [0, hello.steps], title: "step" },
      { domain, log: true, title: "mean |Xₖ|² (variances)" },
    );
    if (!count) return;
    for (let b = 0; b < bandCount; b++)
      plot.line(
        count,
        (i) => {
          const v = bands[i * bandCount + b];
          return v > 0 ? v : NaN;
        },
        this.bandColor(b),
        { start: 0.5 },
      );
  }

  // ---- what a saved picture says of itself
  title() {
    return "A live run";
  }
  caption() {
    const { hello, count, policy } = this.store;
    return `${hello.channels[this.channel]} · step ${count} of ${hello.steps} · ${policy.trigger}, τ = ${short(policy.tau)}, K = ${policy.k_low}`;
  }
  file() {
    return `live-step${this.store.count}`;
  }

  drawBar() {
    const { store } = this;
    const { now, hello, count, sums } = store;
    const status = now ? now.status : hello.run ? "loading" : "ready";
    const [name, tone] = STATUS[status] || [status, "muted"];
    const pill = this.el("status");
    if (pill.textContent !== name) pill.textContent = name;
    pill.style.setProperty("--dot", this.theme[tone]);
    this.lab.dataset.status = status;
    const button = (act) => this.lab.querySelector(`[data-act="${act}"]`);
    const live = LIVE.has(status) && !!this.link;
    button("pause").disabled = !live || !now || status === "loading";
    const pauseText = status === "paused" ? "Resume" : "Pause";
    if (button("pause").textContent !== pauseText) button("pause").textContent = pauseText;
    button("step").disabled = !live || !now || status === "loading";
    button("stop").disabled = !live;
    button("skip_compare").hidden = status !== "comparing";
    this.el("pace").disabled = !LIVE.has(status);
    if (now && document.activeElement !== this.el("pace") && this.root.activeElement !== this.el("pace"))
      this.el("pace").value = String(now.pace);
    if (now?.error) this.fault(now.error);
    const done = status === "comparing" ? now.progress : hello.steps ? count / hello.steps : 0;
    const bar = this.lab.querySelector(".progress");
    bar.firstElementChild.style.width = `${(100 * done).toFixed(1)}%`;
    bar.setAttribute("aria-valuenow", (100 * done).toFixed(0));
    if (status === "comparing") {
      const [v, unit] = duration(now.eta);
      this.note(
        `Running the same noise without a cache, to compare: ${percent(now.progress)} %${v === "–" ? "" : `, ${v} ${unit} left`}`,
      );
    } else if (LIVE.has(status) || status === "done") this.note("");
    else if (status === "stopped")
      this.note(count < hello.steps ? "Stopped before the end: no samples." : "");
    const tile = (key, value, unit = "") => {
      const html = `${value}${unit ? `<small>${unit}</small>` : ""}`;
      if (this.tiles[key].dataset.html !== html) {
        this.tiles[key].innerHTML = html;
        this.tiles[key].dataset.html = html;
      }
    };
    const share = count ? sums.tokens / (count * hello.num * hello.n) : NaN;
    tile("step", count, `of ${hello.steps}`);
    tile("share", percent(share), "%");
    tile("hits", percent(1 - share), "%");
    tile("flops", count ? percent(1 - sums.flops / sums.full) : "–", "%");
    let ms = 0;
    const window_ = Math.min(50, count);
    for (let i = count - window_; i < count; i++) ms += (store.cell("seconds", i) * 1000) / window_;
    tile("ms", count ? short(ms) : "–", "ms");
    const speed = store.speed();
    tile("speed", status === "running" && speed ? speed.toFixed(speed < 10 ? 1 : 0) : "–", "steps/s");
    const left =
      status === "running" || status === "comparing"
        ? duration(now.eta ?? (speed ? (hello.steps - count) / speed : null))
        : ["–", ""];
    tile("left", ...left);
    tile("version", hello.run ? store.version : "–");
    const phase = !hello.run || LIVE.has(status) ? "live" : ENDED.has(status) ? "ended" : status;
    if (phase !== "live" && phase !== hello.phase && phase !== this.phase) {
      this.phase = phase;
      this.trigger("phase", { phase, n: Math.random() });
    }
  }
}

export default mounted(Lab);
