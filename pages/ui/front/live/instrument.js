// The instrument: turn a setting, and the sample, its error and its price answer. All that is drawn of an answer
// comes from one packet, so no picture shows two policies.

import { Board } from "../shared/board.js";
import { element, setText } from "../shared/dom.js";
import { mounted } from "../shared/mount.js";
import { readPacket } from "../shared/packet.js";
import { percent, short } from "../shared/text.js";
import { AskLink } from "./asking.js";
import { dialOf, placeOf, Reports, sameSetting, switched, valueAt } from "./dial.js";
import { drawKnobs } from "./knobs.js";
import { drawBands, drawPair, drawWholeMap, pairLegends } from "./pair.js";
import { Pins, unknownOf } from "./pins.js";
import { drawPlane, markNear, planeLegend, UNITS } from "./plane.js";

const REST_MS = 300;
const TRAIL = 60;
const PHONE = 760;
const TILES = {
  error: ["Error to the twin", "Relative L2 over all samples to an uncached run on the same noise"],
  cost: ["Cost, against no cache", "Whole forwards: all tokens of every sample once is 1"],
  ms: [
    "Compute time, against no cache",
    "Of the whole batch, on this machine; the uncached run was timed when it was first made, not again",
  ],
  tokens: ["Tokens, against no cache", "Frequencies that the network computed for each sample"],
};

const timesText = (ratio) => {
  if (Math.abs(ratio - 1) < 0.02) return "as without a cache";
  return `${+Math.max(ratio, 1 / ratio).toPrecision(2)} × ${ratio < 1 ? "more" : "less"}`;
};

const settingOf = ({ policy, solver, grid, steps }) => ({ policy, solver, grid, steps });

class Instrument extends Board {
  constructor(root) {
    super(root);
    Object.assign(this, { channel: 0, unit: "cost", spans: {}, trail: [], marks: [], shown: 0 });
    this.addPlots();
    this.pins = new Pins(this);
    this.reports = new Reports();
    this.tiles = {};
    for (const [key, [label, help]] of Object.entries(TILES)) {
      const box = element("div");
      this.tiles[key] = element("dd", "–");
      box.title = help;
      box.append(element("dt", label), this.tiles[key]);
      this.lab.querySelector(".tiles").append(box);
    }
    this.el("unit").append(...Object.entries(UNITS).map(([key, { name }]) => new Option(name, key)));
    this.wire();
  }

  wire() {
    const threshold = this.el("threshold");
    threshold.addEventListener("input", () => {
      const dial = this.dial();
      this.turn({ policy: dial.turned(valueAt(dial, +threshold.value)) });
    });
    this.button("pin").addEventListener("click", () => {
      if (this.answer) this.pins.add();
    });
    this.button("calibrate").addEventListener("click", () => {
      this.button("calibrate").disabled = true;
      this.link.calibrate();
    });
    this.el("unit").addEventListener("change", ({ target }) => {
      this.unit = target.value;
      this.dirty();
    });
    this.el("channel").addEventListener("change", ({ target }) => {
      this.channel = +target.value;
      this.dirty();
    });
    this.wirePlane();
  }

  wirePlane() {
    const plot = this.plots.plane;
    const tip = plot.box.querySelector(".tip");
    const near = (event) => {
      const box = plot.canvas.getBoundingClientRect();
      return plot.x ? markNear(plot, this.marks, event.clientX - box.left, event.clientY - box.top) : null;
    };
    plot.canvas.addEventListener("pointermove", (event) => {
      const mark = near(event);
      tip.hidden = !mark;
      plot.canvas.style.cursor = mark?.tau || mark?.pin ? "pointer" : "default";
      if (!mark) return;
      setText(tip, mark.text);
      const x = plot.x(mark.x);
      tip.style.left = `${x > plot.width * 0.55 ? x - tip.offsetWidth - 12 : x + 12}px`;
      tip.style.top = `${Math.max(0, Math.min(plot.y(mark.y) - 30, plot.height - 34))}px`;
    });
    plot.canvas.addEventListener("pointerleave", () => {
      tip.hidden = true;
    });
    plot.canvas.addEventListener("click", (event) => {
      const mark = near(event);
      if (mark?.pin) this.restore(mark.pin);
      else if (mark?.tau) this.turn({ policy: { ...this.state.policy, tau: +mark.tau.toPrecision(3) } });
    });
  }

  ready() {
    return !!this.state;
  }

  close() {
    super.close();
    clearTimeout(this.rest);
    this.link?.close();
  }

  dial() {
    return dialOf(this.hello, this.state.policy, this.state.steps);
  }

  // What Python passes at every rerun. A setting that the page changed is taken over; one that it only
  // repeats, or confirms, must not undo what the hand has done since.
  update({ data, setTriggerValue }) {
    this.trigger = setTriggerValue;
    this.useTheme();
    const { head, arrays } = readPacket(data);
    const before = this.hello;
    const sent = settingOf(head);
    this.hello = head;
    this.fan = arrays.fan;
    this.shown += 1;
    const moved = !before || before.checkpoint !== head.checkpoint || before.seed !== head.seed;
    if (moved) this.open();
    this.pins.update(head.pins, moved);
    const repeated = this.reports.echo(sent) || (before && sameSetting(sent, settingOf(before)));
    if (moved || !repeated) {
      this.reports.taken(sent);
      this.take(sent);
    } else this.showDial();
    this.light(head.spotlight);
    pairLegends(this);
    planeLegend(this);
    this.redrawLayers();
    this.dirty();
  }

  // Frames the panel that a tour points at, and brings it into view once.
  light(panel) {
    if (panel === this.spotlight) return;
    this.spotlight = panel;
    for (const [name, { section }] of Object.entries(this.plots))
      section.classList.toggle("lit", name === panel);
    // On a phone the words of the tour would scroll away.
    if (panel && window.innerWidth > PHONE) this.plots[panel].section.scrollIntoView({ block: "nearest" });
  }

  // Another network or other noise: nothing that was measured holds any longer.
  open() {
    const { channels, M, socket } = this.hello;
    Object.assign(this, { answer: null, curve: null, anchors: null, trail: [], spans: {} });
    this.channel = Math.min(this.channel, M - 1);
    this.lab.querySelector(".channel").hidden = M < 2;
    this.el("channel").replaceChildren(...channels.map((name, i) => new Option(name, i)));
    this.el("channel").value = String(this.channel);
    // Answers that are on their way belong to the old one.
    this.since = this.link?.newest.serial ?? 0;
    if (this.link) return;
    this.link = new AskLink(socket, {
      onPacket: (packet) => this.receive(packet),
      onFault: (text) => this.fault(text),
      onPoll: () => {
        if (socket) this.trigger("feed", "poll");
      },
      onOpen: () => this.state && this.ask(false),
      trigger: (name, value) => this.trigger(name, value),
    });
  }

  // A whole setting: from the page, from a pin.
  take(setting) {
    const plan = ({ solver, grid, steps }) => `${solver} ${grid} ${steps}`;
    if (this.state && plan(this.state) !== plan(setting)) this.newPlan();
    this.state = { ...setting };
    drawKnobs(this.el("knobs"), this.hello, this.state, this.setters());
    this.showDial();
    this.ask(false);
  }

  restore({ policy, solver, grid, steps }) {
    this.take({ policy, solver, grid, steps });
  }

  newPlan() {
    Object.assign(this, { curve: null, anchors: null, trail: [], spans: {} });
  }

  setters() {
    return {
      set: (name, value) => this.turn({ policy: { ...this.state.policy, [name]: value } }),
      rule: (trigger) => {
        this.curve = null;
        this.turn({ policy: switched(this.hello.triggers, this.state.policy, trigger) }, true);
      },
      plan: (change) => {
        this.newPlan();
        if (change.solver) change.grid = change.solver === "euler_maruyama" ? "linear" : "profile";
        this.turn(change, true);
      },
    };
  }

  // One move of the hand.
  turn(change, redraw = false) {
    Object.assign(this.state, change);
    this.fault(null);
    if (redraw) drawKnobs(this.el("knobs"), this.hello, this.state, this.setters());
    this.showDial();
    this.ask(false);
  }

  // Asks now with few samples, and again with more once the hand rests.
  ask(settle) {
    clearTimeout(this.rest);
    const { checkpoint, seed } = this.hello;
    const pins = settle ? unknownOf(this.pins.list) : "";
    this.link?.ask({ type: "ask", checkpoint, seed, settle, pins, ...settingOf(this.state) });
    if (settle) {
      const setting = settingOf(this.state);
      if (this.reports.news(setting)) this.trigger("setting", { ...setting, n: Math.random() });
      return;
    }
    this.status("Answering", "warn");
    this.rest = setTimeout(() => this.ask(true), REST_MS);
  }

  receive({ head, arrays }) {
    if (head.serial <= this.since) return;
    if (head.kind === "answer") this.settleOn({ head, arrays });
    else if (head.kind === "pin") this.pins.learn(head);
    else if (head.kind === "curve") this.curve = head;
    else if (head.kind === "anchors") this.anchors = head;
    else if (head.kind === "fault") this.fault(head.text);
    else if (head.kind === "uncalibrated") this.uncalibrated();
    else if (head.kind === "calibrating") this.note(`Measuring this network: ${percent(head.done)} %`);
    planeLegend(this);
    this.dirty();
  }

  settleOn(answer) {
    if (answer.head.serial < (this.answer?.head.serial ?? 0)) return;
    const { head } = answer;
    this.answer = answer;
    this.el("unmeasured").hidden = true;
    this.fault(null);
    this.stale(false);
    if (!head.settled) this.trail = [...this.trail, answer].slice(-TRAIL);
    this.status(`${head.num} samples, ${short(head.ms)} ms`, head.settled ? "good" : "warn");
    this.showTiles(head);
    if (head.settled)
      setText(this.el("said"), `Error ${short(head.error.pooled[0])} at ${short(head.cost)} whole forwards`);
    if (head.settled) this.pins.learn(head);
    this.pins.draw();
  }

  uncalibrated() {
    this.el("unmeasured").hidden = false;
    this.button("calibrate").disabled = false;
    this.status("Not measured yet", "warn");
    this.note("This rule plans by the network's own errors, which are measured once: 1 to 2 minutes.");
    this.stale(true);
  }

  fault(text) {
    const box = this.lab.querySelector(".fault");
    box.hidden = !text;
    box.textContent = text || "";
    if (!text) return;
    this.status("No answer", "bad");
    this.stale(true);
  }

  // Whether what is drawn belongs to an earlier setting than the one on the dial.
  stale(yes) {
    this.lab.classList.toggle("stale", yes);
  }

  note(text) {
    setText(this.el("note"), text);
  }

  status(text, tone) {
    const pill = this.el("status");
    setText(pill, text);
    pill.style.setProperty("--dot", this.theme[tone]);
  }

  showDial() {
    const dial = this.dial();
    const threshold = this.el("threshold");
    const { policy } = this.state;
    threshold.disabled = !dial;
    setText(this.el("name"), dial?.name ?? "No threshold");
    setText(this.el("value"), dial ? short(dial.value) : "–");
    setText(this.el("meaning"), this.hello.triggers[policy.trigger].meaning);
    if (!dial) return;
    const position = String(placeOf(dial));
    if (threshold.value !== position && !threshold.matches(":active")) threshold.value = position;
    threshold.setAttribute("aria-valuetext", `${dial.name} ${short(dial.value)}`);
  }

  showTiles(head) {
    const [value, low, high] = head.error.pooled;
    const times = (key) => timesText(head.full[key] / head[key]);
    this.tile("error", short(value), head.settled ? `95%: ${short(low)} to ${short(high)}` : "");
    this.tile("cost", short(head.cost), `forwards · ${times("cost")}`);
    this.tile("ms", short(head.ms), `ms · ${times("ms")}`);
    this.tile("tokens", short(head.tokens), `of ${head.full.tokens} · ${times("tokens")}`);
  }

  tile(key, value, more) {
    this.tiles[key].replaceChildren(value, element("small", more));
  }

  draw() {
    drawPlane(this);
    drawPair(this);
    drawBands(this);
    drawWholeMap(this);
    this.renders += 1;
    const { serial = 0, policy, cost, error, settled = false } = this.answer?.head ?? {};
    Object.assign(this.lab.dataset, {
      renders: this.renders,
      serial,
      settled,
      whole: this.anchors?.whole ?? false,
      tau: policy?.tau ?? "",
      cost: cost ?? "",
      error: error?.pooled[0] ?? "",
    });
  }

  title() {
    return "A setting of the sampler";
  }

  caption() {
    const head = this.answer?.head;
    if (!head) return "";
    return (
      `${this.hello.checkpoint}, ${head.solver}, ${head.steps} steps, ${head.policy.trigger}, ` +
      `τ = ${short(head.policy.tau)}: error ${short(head.error.pooled[0])} at ${short(head.cost)} whole forwards`
    );
  }

  file() {
    return `setting-${this.hello.checkpoint}`;
  }
}

export default mounted(Instrument);
