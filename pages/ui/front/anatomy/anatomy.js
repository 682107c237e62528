// Anatomy of a recorded run: all its steps are here, so moving through them asks nobody.

import { simulate } from "../shared/decisions.js";
import { element } from "../shared/dom.js";
import { saveMenu } from "../shared/downloads.js";
import { mounted } from "../shared/mount.js";
import { readPacket } from "../shared/packet.js";
import { Plot } from "../shared/plot.js";
import { clamp, decadeRange } from "../shared/scales.js";
import { duration, percent, short } from "../shared/text.js";
import { CODES, REASONS, readTheme, rgb } from "../shared/theme.js";

const SECONDS_A_RUN = 12;
const _NAMES = { tau: "τ", k_low: "K", refresh_every: "R" };
const FIELDS = ["tau", "k_low", "refresh_every"];
const SHADES = {
  why: "Decisions",
  e: "Event score over threshold",
  drift: "Drift dₖ of the network’s input since it was last computed",
  age: "Age of the features",
  spectrum: "Amplitude |Xₖ| of the noisy state",
  reuse: "|C_kept − C_fresh| / |C_fresh|, had it been reused",
};
const percentFine = (v) => (!Number.isFinite(v) ? "–" : v < 1e-5 ? "0 %" : `${short(100 * v)} %`);

// A recording as panels read it; `at(name, step)` is a cell of the table of columns.
class Recording {
  constructor({ head, arrays }) {
    Object.assign(this, head, arrays);
    this.cells = Object.fromEntries(head.columns.map((name, i) => [name, i]));
    const { count, n } = this;
    this.r = new Float64Array(count);
    for (let i = 0; i < count; i++) this.r[i] = this.at("r", i);
    this.age = new Uint16Array(count * n);
    const last = new Int32Array(n);
    for (let i = 0; i < count; i++)
      for (let k = 0; k < n; k++) {
        this.age[i * n + k] = i - last[k];
        if (this.reasons[i * n + k]) last[k] = i;
      }
    if (this.whatif)
      Object.assign(this, {
        clocks: head.whatif.clocks,
        factor: head.whatif.factor,
        trigger: head.whatif.policy.trigger,
        width: 2 * head.M,
      });
  }

  at(name, step) {
    return this.table[step * this.columns.length + this.cells[name]];
  }
  policyAt(step) {
    return this.policies.filter(([first]) => first <= step).at(-1);
  }
  bySample(policy) {
    return policy.trigger in this.whatif.margin || policy.tau_safe > 0 || policy.tau_warn > 0;
  }

  weight(policy, i, k) {
    if (policy.trigger === "gain") return this.w[i * this.n + k];
    if (!policy.energy_weighting) return 1;
    let energy = policy.energy_eps;
    for (let c = 0, a = (i * this.n + k) * this.width; c < this.width; c++) energy += this.p[a + c] ** 2;
    return energy;
  }

  // |X_k| of one channel of a series in data units, standardized as the network sees it.
  amplitude(values, step, m) {
    const { N, M, n } = this;
    const out = new Float64Array(n);
    const x = new Float64Array(N);
    if (!this.circle)
      this.circle = Float64Array.from({ length: N }, (_, i) => Math.cos((2 * Math.PI * i) / N));
    for (let i = 0; i < N; i++) x[i] = (values[(step * N + i) * M + m] - this.mean[m]) / this.std[m];
    const quarter =
      this.sine || (this.sine = Float64Array.from({ length: N }, (_, i) => Math.sin((2 * Math.PI * i) / N)));
    for (let k = 0; k < n; k++) {
      let re = 0;
      let im = 0;
      for (let i = 0, phase = 0; i < N; i++) {
        re += x[i] * this.circle[phase];
        im -= x[i] * quarter[phase];
        phase += k;
        if (phase >= N) phase -= N;
      }
      out[k] = Math.hypot(re, im) / Math.sqrt(N);
    }
    return out;
  }

  // Why, told apart further than a reason code does: [what the code is called, sentence].
  why(step, k) {
    const at = step * this.n + k;
    const code = this.reasons[at];
    const [, , policy] = this.policyAt(step);
    const e = this.e[at];
    const tau = this.at("tau", step);
    const before = step ? this.r[step - 1] : NaN;
    if (code === 1)
      return [
        "low",
        `k = ${k} is not above the cutoff K = ${policy.k_low}: such frequencies are computed at every step.`,
      ];
    if (code === 2)
      return ["event", `its event score eₖ = ${short(e)} exceeds the threshold τ = ${short(tau)}.`];
    if (code === 3)
      return [
        "probe",
        `it was drawn as a random probe (${percent(policy.probe_share)} % of the frequencies above K), to measure how wrong reusing is.`,
      ];
    if (code === 0) {
      if (policy.trigger === "never")
        return ["reused", "trigger “never” reuses everything after the first step."];
      if (e > tau)
        return [
          "calm",
          `its score exceeds τ, but the event intensity r = ${short(before)} lies below τ safe = ${policy.tau_safe}: the step passed without work.`,
        ];
      return ["reused", `its event score eₖ = ${short(e)} does not exceed the threshold τ = ${short(tau)}.`];
    }
    if (step === 0) return ["first", "at the first step nothing is kept yet, so everything is computed."];
    if (policy.trigger === "always") return ["always", "trigger “always” computes everything at every step."];
    if (policy.tau_warn > 0 && before > policy.tau_warn)
      return [
        "warn",
        `the event intensity r = ${short(before)} was above τ warn = ${policy.tau_warn}: everything is refreshed.`,
      ];
    if (["log_snr", "rate", "fixed"].includes(policy.trigger)) {
      let best = -Infinity;
      for (let j = 0; j < this.n; j++) best = Math.max(best, this.e[step * this.n + j]);
      if (best > tau) {
        const what = {
          log_snr: `log(a/s) has moved by ${short(best)} since the last refresh, more than`,
          fixed: "as many steps have passed as",
          rate: `the measured rate of change says an error of ${short(best)}, more than`,
        }[policy.trigger];
        return [
          "refresh",
          `${what} τ = ${short(tau)} allows. This trigger refreshes all frequencies at once.`,
        ];
      }
    }
    return [
      "interval",
      `R = ${policy.refresh_every} steps have passed since the last refresh of everything.`,
    ];
  }
}

class Anatomy {
  constructor(root) {
    this.root = root;
    this.lab = root.querySelector(".lab");
    this.el = (name) => this.lab.querySelector(`[data-el="${name}"]`);
    this.plots = {};
    for (const section of this.lab.querySelectorAll("[data-panel]"))
      this.plots[section.dataset.panel] = new Plot(section);
    this.renders = 0;
    this.step = 0;
    this.k = 0;
    this.channel = 0;
    this.shade = "why";
    this.mode = "look";
    this.images = {};
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.lab);
    for (const p of Object.values(this.plots)) this.observer.observe(p.box);
    this.el("save").append(saveMenu(this));
    this.hear = ({ detail }) => {
      const { head } = readPacket(detail);
      if (head.kind === "inside" && this.rec && head.key === this.rec.key) this.progress(head);
    };
    window.addEventListener("e2crf-news", this.hear);
    this.wire();
  }

  close() {
    window.removeEventListener("e2crf-news", this.hear);
    this.observer.disconnect();
    clearInterval(this.player);
    clearTimeout(this.later);
  }
  resize() {
    for (const p of Object.values(this.plots)) {
      p.fit();
      p.layerKey = null;
    }
    this.dirty();
  }

  update({ data, setTriggerValue }) {
    this.trigger = setTriggerValue;
    this.theme = readTheme(this.root.host || this.lab);
    this.lab.style.setProperty("--bad", this.theme.bad);
    const packet = readPacket(data);
    if (this.key !== packet.head.key) {
      this.key = packet.head.key;
      const rec = (this.rec = new Recording(packet));
      const { view } = rec;
      this.images = {};
      this.columns = null;
      this.step = clamp(view.step ?? Math.floor(rec.count * 0.4), 0, rec.count - 1);
      // A visitor's first look is at a decision that has a story: an event, where there is one.
      const event = rec.reasons.subarray(this.step * rec.n, (this.step + 1) * rec.n).indexOf(2);
      this.k = clamp(view.k ?? Math.max(0, event), 0, rec.n - 1);
      this.mode = view.mode === "whatif" ? "whatif" : "look";
      this.channel = clamp(view.channel ?? 0, 0, rec.M - 1);
      this.shade = view.shade !== "reuse" && view.shade in SHADES ? view.shade : "why";
      this.el("slider").max = rec.count - 1;
      this.el("channel").replaceChildren(...rec.channels.map((name, i) => new Option(name, i)));
      this.el("channel").value = String(this.channel);
      this.el("channel").parentElement.hidden = rec.M < 2;
      this.el("shade").value = this.shade;
      this.el("file").textContent = "e2crf_core/e2crf.py, read from the running program";
      this.el("code").replaceChildren(...rec.source.lines.map((line) => element("span", line || " ")));
      this.ask(view.policy);
    } else this.rec.confirmable = packet.head.confirmable;
    this.look(packet);
    this.tints = null;
    this.images = {};
    for (const p of Object.values(this.plots)) p.layerKey = null;
    this.stamp = (this.stamp || 0) + 1;
    this.show();
  }

  // ---- layer by layer: the server runs the record again, once, and hands over every step
  look({ head, arrays }) {
    const { rec } = this;
    Object.assign(rec, { inside: head.inside, kept: arrays.layers_kept, used: arrays.layers_used });
    this.el("shade").querySelector('[value="reuse"]').disabled = !rec.kept;
    if (this.shade === "reuse" && !rec.kept) {
      this.shade = "why";
      this.el("shade").value = "why";
    } else if (rec.kept && rec.view.shade === "reuse" && !this.wanted) {
      this.wanted = true;
      this.shade = "reuse";
      this.el("shade").value = "reuse";
    }
    const { state, text } = rec.inside;
    this.el("inside").hidden = state === "there";
    this.plots.layers.box.hidden = !rec.kept;
    this.plots.layers.fit();
    this.progress({ state, text });
  }

  progress({ state, text, share = 0, left = null }) {
    const running = state === "running";
    const [v, unit] = duration(left);
    this.lab.dataset.inside = state;
    this.lab.querySelector('[data-act="inside"]').hidden = running || state === "refused";
    this.lab.querySelector('[data-act="leave"]').hidden = !running;
    this.el("inside_progress").hidden = !running;
    this.el("inside_progress").value = share;
    this.el("inside_text").textContent = running
      ? `Running the record again: ${percent(share)} %${v === "–" ? "" : `, ${v} ${unit} left`}`
      : text;
  }

  drawLayers() {
    const { rec, step, k, theme: t } = this;
    const plot = this.plots.layers;
    const { kept, used, n, inside } = rec;
    this.el("inside_words").textContent = "";
    if (!kept || !plot.width) return;
    const { names } = inside;
    const count = names.length;
    const read = (from, q) => from[(step * count + q) * n + k];
    // One range for the whole run, so that dots move and the axis stands still.
    if (this.insideStamp !== this.stamp) {
      const seen = [];
      for (const from of [kept, used])
        for (let i = 0; i < from.length; i += 37) {
          const v = from[i];
          if (v > 1e-6 && v < 1e30) seen.push(v);
        }
      seen.sort((a, b) => a - b);
      const share = (q) => seen[Math.floor(q * (seen.length - 1))];
      this.insideRange = seen.length ? decadeRange(share(0.01), share(0.995)) : [1e-3, 1];
      this.insideStamp = this.stamp;
    }
    const [floor, top] = this.insideRange;
    const at = (v) => clamp(v, floor, top);
    plot.axes(
      t,
      {
        domain: [0, count],
        title: "",
        names: names.map((name) => name.replace(/\d+/, (d) => [...d].map((c) => "₀₁₂₃₄₅₆₇₈₉"[c]).join(""))),
      },
      { domain: this.insideRange, log: true, title: "|held − fresh| / |fresh|" },
    );
    const c = plot.ctx;
    c.strokeStyle = t.grid;
    for (let q = 3; q < count; q += q < count - 4 ? 3 : 4) {
      c.beginPath();
      c.moveTo(plot.x(q), plot.top);
      c.lineTo(plot.x(q), plot.bottom);
      c.stroke();
    }
    const marks = (from, offset, color, name, radius) =>
      names
        .map((_, q) => [q + 0.5 + offset, read(from, q), color, name, radius])
        .filter(([, v]) => Number.isFinite(v));
    const drawn = [
      ...marks(kept, -0.12, t.colors[1], "had it been reused", 4),
      ...marks(used, 0.12, t.colors[0], "as the step went on", 3.2),
    ];
    for (const [x, v, color] of drawn) {
      c.strokeStyle = color;
      c.globalAlpha = 0.5;
      c.beginPath();
      c.moveTo(plot.x(x), plot.bottom);
      c.lineTo(plot.x(x), plot.y(at(v)));
      c.stroke();
      c.globalAlpha = 1;
    }
    plot.dots(drawn.map(([x, v, ...rest]) => [x, at(v), ...rest, v]));
    const C = names.indexOf("C");
    const pc = (from, name) => percentFine(read(from, names.indexOf(name)));
    const would = step
      ? `Reused, it would have been off by ${pc(kept, "C")} in C, ${pc(kept, "F")} in F, ${pc(kept, "D")} in D and ${pc(kept, "score")} in the score.`
      : "Before the first step nothing was kept.";
    const is =
      read(used, C) < 1e-5
        ? "As it is, the step went on with what a fresh forward gives."
        : `As it is, the step went on with ${pc(used, "C")} in C, ${pc(used, "F")} in F, ${pc(used, "D")} in D and ${pc(used, "score")} in the score${rec.reasons[step * n + k] ? ": this frequency was computed, but looked at others that were old" : ""}.`;
    this.el("inside_words").textContent =
      `${would} ${is} Values outside of the axis are drawn at its ends.${inside.changed === null ? "" : ` This machine did not repeat the run: decisions differ from step ${inside.changed + 1} on, so what is shown from there is another run's.`}`;
  }

  // ---- what if
  ask(changes) {
    const { whatif } = this.rec;
    this.policy = whatif ? { ...whatif.policy, ...changes } : null;
    this.el("refusal").hidden = !!whatif;
    this.el("refusal").textContent = this.rec.refusal || "";
    for (const node of this.lab.querySelectorAll(".ask label, .ask button")) node.hidden = !whatif;
    if (!whatif) {
      this.would = null;
      return;
    }
    this.el("trigger").replaceChildren(...whatif.triggers.map((name) => new Option(name, name)));
    const { tau } = whatif.fields;
    this.span = [Math.max(tau.low, whatif.policy.tau / 100), Math.min(tau.high, whatif.policy.tau * 100)];
    this.el("k_low").max = this.rec.n - 1;
    this.predict();
  }

  predict() {
    const { rec, policy } = this;
    if (!policy) return;
    if (policy.trigger === "fixed" && policy.refresh_every < 1) policy.refresh_every = 10;
    const begin = performance.now();
    this.would = simulate(rec, policy);
    this.lab.dataset.thought = (performance.now() - begin).toFixed(2);
    this.images.would = null;
    this.plots.would.layerKey = this.plots.shares.layerKey = this.plots.trace.layerKey = null;
    this.controls();
  }

  controls() {
    const { policy, rec } = this;
    const acts = (f) => rec.whatif.fields[f].triggers.includes(policy.trigger);
    this.el("trigger").value = policy.trigger;
    const [lo, hi] = this.span;
    this.el("tau").value = (1000 * Math.log(clamp(policy.tau, lo, hi) / lo)) / Math.log(hi / lo);
    this.el("k_low").value = policy.k_low;
    this.el("refresh_every").value = policy.refresh_every
      ? (1000 * Math.log(policy.refresh_every)) / Math.log(rec.count)
      : 0;
    this.el("tau_text").textContent = short(policy.tau);
    this.el("k_low_text").textContent = policy.k_low < 0 ? "none" : String(policy.k_low);
    this.el("refresh_every_text").textContent = policy.refresh_every
      ? `${policy.refresh_every} steps`
      : "never";
    for (const f of FIELDS) this.el(f).closest("label").hidden = !acts(f);
    const cost = rec.whatif.cost;
    const exact = !rec.bySample(policy);
    const mean = this.would.shares.reduce((a, b) => a + b, 0) / rec.count;
    // As core's whatif.margin: the logarithm of a factor.
    const { margin, margin_by_tau, recorded_tau, intensity_margin } = rec.whatif;
    const error = exact
      ? 0
      : (margin[policy.trigger] ?? 0) +
        (policy.tau_safe || policy.tau_warn ? intensity_margin[policy.trigger] : 0) +
        (margin_by_tau[policy.trigger] ?? 0) * Math.abs(Math.log(policy.tau / recorded_tau));
    const less = Math.exp(-error);
    const more = Math.exp(error);
    const seconds = cost.base * rec.count + cost.slope * mean * rec.count;
    this.lab.dataset.share = mean;
    this.lab.dataset.seconds = seconds;
    const band = (_v, lo_, hi_, text) => (hi_ - lo_ < 1e-12 ? "" : `${text(lo_)} to ${text(hi_)}`);
    const tile = (label, value, small) => {
      const box = element("div");
      const dd = element("dd", value);
      dd.append(element("small", small));
      box.append(element("dt", label), dd);
      return box;
    };
    const pc = (v) => `${(100 * v).toFixed(1)} %`;
    const sec = (v) => duration(v).join(" ");
    this.el("tiles").replaceChildren(
      tile(
        "Tokens computed, predicted",
        pc(mean),
        exact ? "exact" : band(mean, mean * less, Math.min(1, mean * more), pc),
      ),
      tile("Tokens computed, recorded", pc(rec.share), ""),
      tile(
        "Compute time, predicted",
        sec(seconds),
        band(seconds, seconds * cost.low * less, seconds * cost.high * more, sec),
      ),
      tile("Compute time, recorded", sec(rec.seconds), `whole batch of ${rec.num}`),
    );
    this.el("basis").textContent = exact
      ? "This trigger decides by the clock alone, so its decisions are known exactly. Time is a straight line through the recorded steps, on this machine as busy as it was then; quality is not predicted: confirm with a real run."
      : `Decided on the recorded path of one sample: another policy’s run would take a slightly different path, so allow a factor of ${more.toFixed(2)} either way${margin_by_tau[policy.trigger] ? ", which grows with the change of τ: a frequency’s gain falls when the others are computed less often" : ""}. Time is a straight line through the recorded steps, on this machine as busy as it was then; quality is not predicted: confirm with a real run.`;
    const same = FIELDS.concat("trigger").every((f) => policy[f] === rec.whatif.policy[f]);
    this.lab.querySelector('[data-act="reset"]').disabled = same;
    this.lab.querySelector('[data-act="confirm"]').disabled = !rec.confirmable;
  }

  // ---- controls
  wire() {
    const act = {
      inside: () => {
        this.progress({ state: "running" });
        this.trigger("inside", { act: "start", n: Math.random() });
      },
      leave: () => this.trigger("inside", { act: "stop", n: Math.random() }),
      back: () => this.go(this.step - 1),
      next: () => this.go(this.step + 1),
      play: () => this.play(),
      reset: () => {
        this.policy = { ...this.rec.whatif.policy };
        this.predict();
        this.dirty();
      },
      confirm: () =>
        this.trigger("confirm", {
          changes: Object.fromEntries(FIELDS.concat("trigger").map((f) => [f, this.policy[f]])),
          n: Math.random(),
        }),
    };
    this.lab.addEventListener("click", ({ target }) => {
      const { act: name, mode } = target.dataset || {};
      if (mode) {
        this.mode = mode;
        this.show();
      } else if (name && this.rec) act[name]();
    });
    this.el("slider").addEventListener("input", ({ target }) => this.go(+target.value));
    this.el("channel").addEventListener("change", ({ target }) => {
      this.channel = +target.value;
      this.dirty();
    });
    this.el("shade").addEventListener("change", ({ target }) => {
      this.shade = target.value;
      this.plots.map.layerKey = null;
      this.show();
    });
    this.el("trigger").addEventListener("change", ({ target }) => {
      this.policy.trigger = target.value;
      this.predict();
      this.dirty();
    });
    this.el("tau").addEventListener("input", ({ target }) => {
      const [lo, hi] = this.span;
      this.policy.tau = +(lo * (hi / lo) ** (target.value / 1000)).toPrecision(3);
      this.predict();
      this.dirty();
    });
    this.el("k_low").addEventListener("input", ({ target }) => {
      this.policy.k_low = +target.value;
      this.predict();
      this.dirty();
    });
    this.el("refresh_every").addEventListener("input", ({ target }) => {
      const least = this.policy.trigger === "fixed" ? 1 : 0;
      this.policy.refresh_every = +target.value
        ? Math.max(1, Math.round(this.rec.count ** (target.value / 1000)))
        : least;
      this.predict();
      this.dirty();
    });
    for (const name of ["map", "trace", "would"]) this.drag(this.plots[name], name !== "trace");
    for (const name of ["scores", "spectrum"])
      this.plots[name].canvas.addEventListener("pointerdown", (event) => {
        const p = this.plots[name];
        if (p.x) {
          this.k = clamp(
            Math.floor(p.x.invert(event.clientX - p.canvas.getBoundingClientRect().left)),
            0,
            this.rec.n - 1,
          );
          this.dirty();
        }
      });
    this.plots.map.canvas.addEventListener("keydown", (event) => {
      const move = {
        ArrowLeft: [-1, 0],
        ArrowRight: [1, 0],
        ArrowUp: [0, 1],
        ArrowDown: [0, -1],
        Home: [-1e9, 0],
        End: [1e9, 0],
      }[event.key];
      if (!move || !this.rec) return;
      event.preventDefault();
      const far = event.shiftKey ? 10 : 1;
      this.k = clamp(this.k + move[1] * far, 0, this.rec.n - 1);
      this.go(this.step + move[0] * far);
    });
  }

  drag(plot, both) {
    const { canvas } = plot;
    const place = (event) => {
      if (!plot.x) return;
      const box = canvas.getBoundingClientRect();
      if (both) this.k = clamp(Math.floor(plot.y.invert(event.clientY - box.top)), 0, this.rec.n - 1);
      this.go(Math.floor(plot.x.invert(event.clientX - box.left)));
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      place(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) place(event);
    });
  }

  go(step) {
    this.step = clamp(step, 0, this.rec.count - 1);
    this.dirty();
  }

  play() {
    const button = this.lab.querySelector('[data-act="play"]');
    if (this.player) {
      clearInterval(this.player);
      this.player = null;
      button.textContent = "Play";
      return;
    }
    if (this.step >= this.rec.count - 1) this.step = 0;
    const begin = performance.now();
    const first = this.step;
    const speed = Math.max(5, this.rec.count / SECONDS_A_RUN) / 1000;
    button.textContent = "Pause";
    this.player = setInterval(() => {
      this.go(first + Math.floor((performance.now() - begin) * speed));
      if (this.step >= this.rec.count - 1 || !this.lab.isConnected) this.play();
    }, 33);
  }

  // ---- what a saved picture says of itself
  title() {
    return this.mode === "look" ? "Anatomy of a run" : "What if: another policy over a recorded run";
  }
  caption() {
    return `${this.key} · ${this.el("place").textContent} · k = ${this.k}`;
  }
  file() {
    return `anatomy-step${this.step + 1}-k${this.k}`;
  }
  words() {
    return this.mode === "look"
      ? this.el("why").querySelector("p + p").textContent
      : this.el("basis").textContent;
  }

  // What is shown is in the address, so that a link opens it; the server need not know before a reload.
  address() {
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      const query = new URLSearchParams(location.search);
      const put = (name, value) => (value === null ? query.delete(name) : query.set(name, value));
      put("step", this.step);
      put("k", this.k);
      put("view", this.mode === "look" ? null : this.mode);
      put("map", this.shade === "why" ? null : this.shade);
      put("channel", this.channel || null);
      for (const f of FIELDS.concat("trigger"))
        put(f, this.policy && this.policy[f] !== this.rec.whatif.policy[f] ? this.policy[f] : null);
      history.replaceState(history.state, "", `${location.pathname}?${query}`);
    }, 400);
  }

  show() {
    for (const node of this.lab.querySelectorAll("[data-for]")) node.hidden = node.dataset.for !== this.mode;
    for (const tab of this.lab.querySelectorAll("[data-mode]"))
      if (tab.dataset.mode && tab.role === "tab")
        tab.setAttribute("aria-selected", tab.dataset.mode === this.mode);
    this.lab.dataset.mode_shown = this.mode;
    this.legends();
    this.resize();
  }

  // ---- drawing
  dirty() {
    if (this.frame || !this.rec) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    if (!this.lab.isConnected || !this.plots.map.width) return;
    this.drawMap("map");
    this.drawTrace();
    this.drawShares();
    if (this.mode === "look") {
      this.drawSeries();
      this.drawSpectrum();
      this.drawScores();
      this.drawLayers();
      this.explain();
    } else this.drawMap("would");
    const { rec, step } = this;
    const slider = this.el("slider");
    if (+slider.value !== step) slider.value = step;
    this.el("place").textContent =
      `step ${step + 1} of ${rec.total} · t = ${rec.at("t", step).toFixed(3)} · log(a/s) = ${rec.at("log_snr", step).toFixed(2)}`;
    Object.assign(this.lab.dataset, { renders: ++this.renders, step, k: this.k });
    this.address();
  }

  legends() {
    const t = this.theme;
    const put = (panel, items) => {
      this.plots[panel].section.querySelector(".legend").innerHTML = items
        .map(([name, color, kind = ""]) => `<span><i class="${kind}" style="--c:${color}"></i>${name}</span>`)
        .join("");
    };
    const codes = [
      ...[1, 2, 3, 4].map((i) => [REASONS[i], t.colors[i - 1], "box"]),
      ["reused", t.reused, "box"],
    ];
    put(
      "map",
      this.shade === "why"
        ? [...codes, ["policy changed", t.text, "dash"]]
        : [
            ["low", t.reused, "box"],
            ["high (log scale)", t.colors[0], "box"],
          ],
    );
    put("would", codes);
    put("series", [
      ["real series", t.faint],
      ["noisy state", t.noisy],
      ["denoised estimate", t.colors[1]],
    ]);
    put("spectrum", [
      ["real data, median", t.faint],
      ["noisy state", t.noisy],
      ["denoised estimate", t.colors[1]],
      ["chosen k", t.text, "dash"],
    ]);
    put(
      "layers",
      this.rec.kept
        ? [
            ["had it been reused", t.colors[1], "box"],
            ["as the step went on", t.colors[0], "box"],
          ]
        : [],
    );
    put("scores", [
      ["reused", t.axis, "box"],
      ["computed (color: why)", t.colors[3], "box"],
      ["τ in force", t.colors[1], "dash"],
    ]);
    put("trace", [
      ["eₖ", t.colors[0]],
      ["computed", t.colors[3], "box"],
      ["τ in force", t.colors[1], "dash"],
      ...(this.mode === "whatif" ? [["τ asked for", t.colors[2]]] : []),
    ]);
    put("shares", [
      ["recorded, batch", t.colors[0]],
      ...(this.mode === "whatif" ? [["predicted", t.colors[1]]] : []),
    ]);
  }

  // n rows by as many columns as there are pixels: where several steps share one, the largest value shows.
  image(name, cell, color) {
    const plot = this.plots[name];
    const { rec } = this;
    const { count, n, total } = rec;
    const columns = Math.max(1, Math.min(total, Math.floor((plot.right - plot.left) * plot.ratio)));
    const key = `${name} ${columns} ${this.shade} ${this.stamp}`;
    const old = this.images[name];
    if (old && old.key === key) return old.sheet;
    const values = new Float32Array(columns * n).fill(-1);
    for (let s = 0; s < count; s++) {
      const at = Math.floor((s * columns) / total) * n;
      for (let k = 0; k < n; k++) values[at + k] = Math.max(values[at + k], cell(s * n + k, s));
    }
    const sheet = document.createElement("canvas");
    sheet.width = columns;
    sheet.height = n;
    const context = sheet.getContext("2d");
    const image = context.createImageData(columns, n);
    const words = new Uint32Array(image.data.buffer);
    for (let c = 0; c < columns; c++)
      for (let k = 0; k < n; k++)
        if (values[c * n + k] >= 0) words[(n - 1 - k) * columns + c] = color(values[c * n + k]);
    context.putImageData(image, 0, 0);
    this.images[name] = { key, sheet };
    return sheet;
  }

  shades() {
    if (this.tints) return this.tints;
    const word = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
    const t = this.theme;
    const low = rgb(t.reused);
    const high = rgb(t.colors[0]);
    this.tints = {
      codes: [t.reused, ...t.colors.slice(0, 4)].map((c) => word(rgb(c))),
      ramp: Array.from({ length: 256 }, (_, i) =>
        word(low.map((v, c) => Math.round(v + ((high[c] - v) * i) / 255))),
      ),
    };
    return this.tints;
  }

  picture(name) {
    const { rec } = this;
    const { codes, ramp } = this.shades();
    const shown = name === "would" ? (i) => this.would.reasons[i] : (i) => rec.reasons[i];
    if (name === "would" || this.shade === "why")
      return [this.image(name, shown, (v) => codes[v]), CODES, shown];
    const read = {
      e: (i, s) => rec.e[i] / rec.at("tau", s),
      drift: (i) => rec.drift[i],
      age: (i) => rec.age[i],
      spectrum: (i) => rec.spectrum[i * rec.M + this.channel],
      reuse: (i, s) => {
        const { names } = rec.inside;
        return rec.kept[(s * names.length + names.indexOf("C")) * rec.n + i - s * rec.n];
      },
    }[this.shade];
    const some = [];
    for (let i = 0; i < rec.count * rec.n; i += 7) {
      const v = read(i, Math.floor(i / rec.n));
      if (v > 0 && Number.isFinite(v)) some.push(v);
    }
    some.sort((a, b) => a - b);
    const lo = Math.log(some[Math.floor(some.length * 0.02)] || 1e-6);
    const hi = Math.log(some[Math.floor(some.length * 0.995)] || 1);
    return [
      this.image(
        name,
        (i, s) => {
          const v = read(i, s);
          return v > 0 ? clamp((Math.log(v) - lo) / (hi - lo || 1), 0, 1) : 0;
        },
        (v) => ramp[Math.round(v * 255)],
      ),
      SHADES[this.shade],
      read,
    ];
  }

  drawMap(name) {
    const plot = this.plots[name];
    const { rec, theme: t } = this;
    const { n, total } = rec;
    if (name === "would" && !this.would) {
      plot.axes(t, { domain: [0, total], title: "step" }, { domain: [0, n], title: "frequency k" });
      return;
    }
    plot.layer(`${this.stamp} ${this.shade} ${this.channel}`, () => {
      plot.axes(t, { domain: [0, total], title: "step" }, { domain: [0, n], title: "frequency k" });
      const c = plot.ctx;
      const [sheet, what, value] = this.picture(name);
      plot.cells(sheet, what, rec.count, n, (s, k) => value(s * n + k, s));
      if (name === "map") {
        plot.section.querySelector("h3").textContent =
          `${SHADES[this.shade]}: step × frequency. Drag, or use the arrow keys.`;
        c.strokeStyle = t.text;
        c.setLineDash([2, 3]);
        for (const [first] of rec.policies.slice(1)) {
          const x = Math.round(plot.x(first)) + 0.5;
          c.beginPath();
          c.moveTo(x, plot.top);
          c.lineTo(x, plot.bottom);
          c.stroke();
        }
        c.setLineDash([]);
      }
    });
    this.crosshair(plot, plot.y(this.k + 0.5));
  }

  crosshair(plot, y) {
    const c = plot.ctx;
    const x = Math.round(plot.x(this.step + 0.5)) + 0.5;
    c.lineWidth = 1;
    for (const [color, width] of [
      [this.theme.dark ? "#000" : "#fff", 3],
      [this.theme.text, 1],
    ]) {
      c.strokeStyle = color;
      c.lineWidth = width;
      c.beginPath();
      c.moveTo(x, plot.top);
      c.lineTo(x, plot.bottom);
      if (y !== undefined) {
        c.moveTo(plot.left, Math.round(y) + 0.5);
        c.lineTo(plot.right, Math.round(y) + 0.5);
      }
      c.stroke();
    }
    if (y !== undefined) {
      c.lineWidth = 2;
      c.beginPath();
      c.arc(x, y, 5, 0, 6.3);
      c.stroke();
    }
  }

  drawTrace() {
    const { rec, theme: t, k } = this;
    const plot = this.plots.trace;
    const { n, count } = rec;
    plot.layer(`${this.stamp} ${k} ${this.mode}`, () => {
      let lo = Infinity;
      let hi = 0;
      const see = (v) => {
        if (v > 0 && v < 1e30) {
          lo = Math.min(lo, v);
          hi = Math.max(hi, v);
        }
      };
      for (let i = 1; i < count; i++) {
        see(rec.e[i * n + k]);
        see(rec.at("tau", i));
      }
      if (this.mode === "whatif" && this.policy) see(this.policy.tau);
      if (!hi) {
        lo = 0.1;
        hi = 1;
      }
      plot.section.querySelector("h3").textContent = `Event score of k = ${k} over the run`;
      plot.axes(
        t,
        { domain: [0, rec.total], title: "step" },
        { domain: decadeRange(Math.max(lo, hi * 1e-6) / 1.3, hi * 1.3), log: true, title: "eₖ" },
      );
      plot.line(
        count,
        (i) => {
          const v = rec.e[i * n + k];
          return v > 0 && v < 1e30 ? v : NaN;
        },
        t.colors[0],
        { width: 1.2, start: 0.5 },
      );
      const computed = [];
      for (let i = 1; i < count; i++) {
        const why = rec.reasons[i * n + k];
        const v = rec.e[i * n + k];
        if (why && v > 0) computed.push([i + 0.5, v, t.colors[why - 1], `computed: ${REASONS[why]}`, 2.2]);
      }
      plot.dots(computed);
      plot.ctx.setLineDash([5, 4]);
      plot.line(
        count,
        (i) => {
          const v = rec.at("tau", i);
          return v > 0 && v < 1e30 ? v : NaN;
        },
        t.colors[1],
        { width: 1.4, start: 0.5, name: "τ in force" },
      );
      plot.ctx.setLineDash([]);
      if (
        this.mode === "whatif" &&
        this.policy &&
        this.policy.trigger === rec.trigger &&
        this.policy.tau !== rec.whatif.policy.tau
      )
        plot.line(2, () => this.policy.tau, t.colors[2], { width: 2, step: rec.total });
    });
    this.crosshair(plot);
  }

  drawShares() {
    const { rec, theme: t } = this;
    const plot = this.plots.shares;
    const { count } = rec;
    plot.layer(`${this.stamp} ${this.mode}`, () => {
      const mean = (value) => {
        let sum = 0;
        return Float64Array.from({ length: count }, (_, i) => {
          sum += value(i);
          return sum / (i + 1);
        });
      };
      const real = mean((i) => rec.at("share", i));
      const said = this.mode === "whatif" && this.would ? mean((i) => this.would.shares[i]) : null;
      let hi = 0;
      for (let i = Math.floor(count / 20); i < count; i++) hi = Math.max(hi, real[i], said ? said[i] : 0);
      plot.axes(
        t,
        { domain: [0, rec.total], title: "step" },
        { domain: [0, Math.min(100, hi * 130) || 1], title: "% of tokens computed so far" },
      );
      plot.line(count, (i) => 100 * real[i], t.colors[0], { start: 0.5 });
      if (said) plot.line(count, (i) => 100 * said[i], t.colors[1], { width: 2, start: 0.5 });
    });
    this.crosshair(plot);
  }

  drawSeries() {
    const { rec, theme: t, step, channel: m } = this;
    const plot = this.plots.series;
    const { N, M, fan } = rec;
    plot.layer(`${this.stamp} ${m}`, () => {
      let lo = Infinity;
      let hi = -Infinity;
      const source = fan?.length ? fan : rec.x0.subarray((rec.count - 1) * N * M);
      for (let i = m; i < source.length; i += M) {
        lo = Math.min(lo, source[i]);
        hi = Math.max(hi, source[i]);
      }
      const pad = (hi - lo || 1) * 0.18;
      plot.axes(
        t,
        { domain: [0, (N - 1) * rec.time.step], title: rec.time.title },
        { domain: [lo - pad, hi + pad], title: rec.channels[m] + (rec.units[m] ? ` (${rec.units[m]})` : "") },
      );
      for (let f = 0; fan && f * N * M < fan.length; f++)
        plot.line(N, (i) => fan[(f * N + i) * M + m], t.faint, {
          width: 1,
          alpha: 0.55,
          step: rec.time.step,
        });
    });
    plot.line(N, (i) => rec.series[(step * N + i) * M + m], t.noisy, { width: 1, step: rec.time.step });
    plot.line(N, (i) => rec.x0[(step * N + i) * M + m], t.colors[1], { width: 2.2, step: rec.time.step });
  }

  drawSpectrum() {
    const { rec, theme: t, step, channel: m } = this;
    const plot = this.plots.spectrum;
    const { n, M, real } = rec;
    plot.layer(`${this.stamp} ${m}`, () => {
      let lo = Infinity;
      let hi = 0;
      for (let k = 0; k < n; k++) {
        const v = rec.spectrum[((rec.count - 1) * n + k) * M + m];
        if (v > 1e-9) lo = Math.min(lo, v);
        hi = Math.max(hi, v);
      }
      plot.axes(
        t,
        { domain: [0, n], title: "frequency k (cycles a window)" },
        {
          domain: decadeRange(Math.max(lo, hi * 1e-4, 1e-9) / 2, Math.max(hi, 4)),
          log: true,
          title: "|Xₖ| (standard deviations)",
        },
      );
      if (real) plot.line(n, (k) => real[k * M + m], t.faint, { width: 2.5, start: 0.5 });
    });
    plot.line(n, (k) => rec.spectrum[(step * n + k) * M + m], t.noisy, { width: 1, start: 0.5 });
    // Imported networks may have tokens of another kind: there the amplitude of x0 is not known here.
    if (n === Math.floor(rec.N / 2) + 1) {
      const clean = rec.amplitude(rec.x0, step, m);
      plot.line(n, (k) => clean[k], t.colors[1], { width: 1.8, start: 0.5 });
    }
    this.mark(plot);
  }

  mark(plot) {
    const c = plot.ctx;
    const x = Math.round(plot.x(this.k + 0.5)) + 0.5;
    c.strokeStyle = this.theme.text;
    c.lineWidth = 1;
    c.setLineDash([3, 3]);
    c.beginPath();
    c.moveTo(x, plot.top);
    c.lineTo(x, plot.bottom);
    c.stroke();
    c.setLineDash([]);
  }

  drawScores() {
    const { rec, theme: t, step } = this;
    const plot = this.plots.scores;
    const { n } = rec;
    const tau = rec.at("tau", step);
    if (this.scoreStamp !== this.stamp) {
      let lo = Infinity;
      let hi = 0;
      for (let i = n; i < rec.count * n; i += 3) {
        const v = rec.e[i];
        if (v > 0 && v < 1e30) {
          lo = Math.min(lo, v);
          hi = Math.max(hi, v);
        }
      }
      this.scoreRange = hi ? decadeRange(Math.max(lo, hi * 1e-8), hi) : [0.01, 1];
      this.scoreStamp = this.stamp;
    }
    plot.layer(`${this.stamp}`, () =>
      plot.axes(
        t,
        { domain: [0, n], title: "frequency k" },
        { domain: this.scoreRange, log: true, title: "eₖ" },
      ),
    );
    plot.dots(
      Array.from({ length: n }, (_, k) => {
        const why = rec.reasons[step * n + k];
        return [
          k + 0.5,
          rec.e[step * n + k],
          why ? t.colors[why - 1] : t.axis,
          why ? `computed: ${REASONS[why]}` : "reused",
          why ? 2.8 : 2.2,
        ];
      }),
    );
    plot.clipped((c) => {
      if (tau > 0 && tau < 1e30) {
        c.strokeStyle = t.colors[1];
        c.setLineDash([5, 4]);
        c.beginPath();
        c.moveTo(plot.left, plot.y(tau));
        c.lineTo(plot.right, plot.y(tau));
        c.stroke();
        c.setLineDash([]);
      }
    });
    this.mark(plot);
  }

  explain() {
    const { rec, step, k, theme: t } = this;
    const at = step * rec.n + k;
    const code = rec.reasons[at];
    const key = `${step} ${k} ${this.stamp}`;
    if (this.told === key) return;
    this.told = key;
    const [kind, sentence] = rec.why(step, k);
    const [_first, version, policy] = rec.policyAt(step);
    const e = rec.e[at];
    const tau = rec.at("tau", step);
    const head = element("p", `Step ${step + 1}, frequency k = ${k}`);
    const chip = element("span", code ? `computed: ${REASONS[code]}` : "reused", "chip");
    chip.style.setProperty("--c", code ? t.colors[code - 1] : t.axis);
    head.append(chip);
    const facts = element("dl");
    const fact = (name, value) => {
      const box = element("div");
      box.append(element("dt", name), element("dd", value));
      facts.append(box);
    };
    const judged = step > 0 && tau > 0 && tau < 1e30;
    fact("score eₖ", step ? short(e) : "–");
    fact("threshold τ", judged ? short(tau) : "–");
    fact("input drift dₖ", step ? short(rec.drift[at]) : "–");
    fact("age", step ? `${rec.age[at]} step${rec.age[at] === 1 ? "" : "s"}` : "–");
    fact("|Xₖ|", short(rec.spectrum[at * rec.M + this.channel]));
    fact("r before", step ? short(rec.r[step - 1]) : "–");
    fact("this step", `${percent(rec.at("share", step))} % of tokens`);
    fact("took", `${short(1000 * rec.at("seconds", step))} ms`);
    fact("policy", `${policy.trigger}${version ? `, change ${version}` : ""}`);
    const parts = [head, element("p", `${code ? "Computed" : "Reused"} because ${sentence}`), facts];
    if (judged && e > 0) {
      const other =
        code === 2
          ? `With τ above ${short(e)} (${short(e / tau)} times the present one) it would have been reused, and its features would be ${rec.age[at]} step${rec.age[at] === 1 ? "" : "s"} old.`
          : code === 0 && kind === "reused"
            ? `With τ below ${short(e)} (${short(e / tau)} times the present one) it would have been computed.`
            : code === 1 || code === 3
              ? e > tau
                ? "It would have been computed anyway: its score exceeds τ."
                : `Left to its score it would have been reused: eₖ is ${short(e / tau)} of τ.`
              : code === 4 && kind !== "refresh"
                ? e > tau
                  ? "Its own score exceeded τ as well."
                  : "By its own score it would have been reused."
                : "";
      if (other) parts.push(element("p", other));
    }
    let next = -1;
    for (let i = step + 1; i < rec.count && next < 0; i++) if (rec.reasons[i * rec.n + k]) next = i;
    parts.push(
      element(
        "p",
        next < 0
          ? "It was not computed again in this run."
          : `It was computed ${code ? "again" : "next"} at step ${next + 1}.`,
      ),
    );
    this.el("why").replaceChildren(...parts);
    const lines = new Set(rec.source.marks[kind]);
    this.el("code").style.setProperty("--c", code ? t.colors[code - 1] : t.muted);
    let top = null;
    [...this.el("code").children].forEach((line, i) => {
      const hit = lines.has(i);
      if (line.classList.contains("hit") !== hit) line.classList.toggle("hit", hit);
      if (hit && top === null) top = line;
    });
    if (this.marked !== kind && top) {
      this.marked = kind;
      this.el("code").scrollTop = Math.max(0, top.offsetTop - 90);
    }
  }
}

export default mounted(Anatomy);
