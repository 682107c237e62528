// Anatomy of a recorded run. All steps are in the browser, so moving through them needs no server.

import { Board } from "../shared/board.js";
import { element, setAddress } from "../shared/dom.js";
import { readPacket } from "../shared/packet.js";
import { clamp } from "../shared/scales.js";
import { drawShares, drawTrace } from "./curves.js";
import { explain } from "./explain.js";
import { wire } from "./interaction.js";
import { drawLayers, look, showProgress } from "./layers.js";
import { drawMap, SHADES } from "./maps.js";
import { drawScores, drawSeries, drawSpectrum, legends } from "./panels.js";
import { Recording } from "./recording.js";
import { ASKED, askWith, foresee, showForeseen } from "./whatif.js";

const EVENT = 2;
const ADDRESS_MS = 400;

export class Anatomy extends Board {
  constructor(root) {
    super(root);
    Object.assign(this, { step: 0, k: 0, channel: 0, shade: "why", mode: "look", images: {}, stamp: 0 });
    this.addPlots();
    this.listener = ({ detail }) => {
      const { head } = readPacket(detail);
      if (head.key !== this.rec?.key) return;
      if (head.kind === "inside") showProgress(this, head);
      if (head.kind === "foreseen") showForeseen(this, head);
    };
    window.addEventListener("e2crf-news", this.listener);
    wire(this);
  }

  close() {
    super.close();
    window.removeEventListener("e2crf-news", this.listener);
    clearInterval(this.player);
    clearTimeout(this.rest);
  }

  ready() {
    return !!this.rec;
  }

  // The Save menu can film what has frames.
  get frames() {
    return this.rec.count;
  }

  update({ data, setTriggerValue }) {
    this.trigger = setTriggerValue;
    this.useTheme();
    const packet = readPacket(data);
    if (this.key === packet.head.key) this.rec.confirmable = packet.head.confirmable;
    else this.open(packet);
    look(this, packet);
    this.tints = null;
    this.images = {};
    this.stamp += 1;
    this.show();
  }

  // Another recording, at the place that the address names.
  open(packet) {
    const rec = new Recording(packet);
    const { view } = rec;
    this.rec = rec;
    this.key = packet.head.key;
    this.images = {};
    this.shadeFromAddress = false;
    this.step = clamp(view.step ?? Math.floor(rec.count * 0.4), 0, rec.count - 1);
    // Start at a decision worth a look: an event, if there is one.
    const event = rec.reasons.subarray(this.step * rec.n, (this.step + 1) * rec.n).indexOf(EVENT);
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
    askWith(this, view.policy);
  }

  // The server notices a value only if it differs from the last one.
  send(name, value) {
    this.trigger(name, { ...value, n: Math.random() });
  }

  go(step) {
    this.step = clamp(step, 0, this.rec.count - 1);
    this.dirty();
  }

  setMode(mode) {
    this.mode = mode;
    foresee(this);
    this.show();
  }

  show() {
    for (const node of this.lab.querySelectorAll("[data-for]")) node.hidden = node.dataset.for !== this.mode;
    for (const tab of this.lab.querySelectorAll("[role=tab]"))
      tab.setAttribute("aria-selected", tab.dataset.mode === this.mode);
    this.lab.dataset.mode_shown = this.mode;
    legends(this);
    this.resize();
  }

  draw() {
    drawMap(this, "map");
    drawTrace(this);
    drawShares(this);
    if (this.mode === "look") {
      drawSeries(this);
      drawSpectrum(this);
      drawScores(this);
      drawLayers(this);
      explain(this);
    } else drawMap(this, "would");
    this.showPlace();
    this.renders += 1;
    Object.assign(this.lab.dataset, { renders: this.renders, step: this.step, k: this.k });
    this.showAddress();
  }

  showPlace() {
    const { rec, step } = this;
    const slider = this.el("slider");
    const place =
      `step ${step + 1} of ${rec.total} · t = ${rec.at("t", step).toFixed(3)} · ` +
      `log(a/s) = ${rec.at("log_snr", step).toFixed(2)}`;
    if (+slider.value !== step) slider.value = step;
    slider.setAttribute("aria-valuetext", `step ${step + 1} of ${rec.total}`);
    this.el("place").textContent = place;
  }

  showAddress() {
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      const { whatif } = this.rec;
      const asked = (field) => this.policy && this.policy[field] !== whatif.policy[field];
      setAddress({
        step: this.step,
        k: this.k,
        view: this.mode === "look" ? null : this.mode,
        map: this.shade === "why" ? null : this.shade,
        channel: this.channel || null,
        ...Object.fromEntries(ASKED.map((field) => [field, asked(field) ? this.policy[field] : null])),
      });
    }, ADDRESS_MS);
  }

  // The caption of a saved picture.
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
}
