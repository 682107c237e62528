// The live view of a run: panels, handles, tiles and controls around one Store and one Link.

import { Board } from "../shared/board.js";
import { mounted } from "../shared/mount.js";
import { readPacket } from "../shared/packet.js";
import { short } from "../shared/text.js";
import { Bar } from "./bar.js";
import { Handles } from "./handles.js";
import { Link } from "./link.js";
import { DecisionMap } from "./map.js";
import {
  drawEnergy,
  drawError,
  drawIntensity,
  drawScores,
  drawSeries,
  drawSpectrum,
  legends,
} from "./panels.js";
import { Store } from "./store.js";

const LIVE = new Set(["ready", "waiting", "loading", "running", "paused"]);
const OVER = new Set(["done", "stopped", "failed"]);
const SLOW_MS = 90;

class Lab extends Board {
  constructor(root) {
    super(root);
    Object.assign(this, { channel: 0, phase: "live", range: {}, shown: 0 });
    this.addPlots();
    this.map = new DecisionMap(this);
    this.handles = new Handles(this);
    this.bar = new Bar(this);
  }

  close() {
    super.close();
    this.link?.close();
  }

  ready() {
    return !!this.store;
  }

  isLive(status) {
    return LIVE.has(status);
  }

  isOver(status) {
    return OVER.has(status);
  }

  resize() {
    super.resize();
    this.map?.restart();
  }

  // What Python passes at every rerun.
  update({ data, setTriggerValue }) {
    this.trigger = setTriggerValue;
    this.useTheme();
    const hello = readPacket(data);
    const { run, fields, phase } = hello.head;
    if (run && this.store?.hello.run === run) Object.assign(this.store.hello, { fields, phase });
    else this.open(hello);
    this.map.restart();
    this.shown += 1;
    this.handles.dress();
    legends(this);
    this.dirty();
  }

  // Another run, or the settings of one that has not begun.
  open(hello) {
    const { run, socket, M } = hello.head;
    this.link?.close();
    this.store = new Store(hello);
    this.phase = "live";
    this.range = {};
    this.handles.reset();
    this.map.moveTo(null);
    this.bar.fault(null);
    this.bar.note("");
    this.channel = Math.min(this.channel, M - 1);
    this.bar.options();
    this.link = run ? this.connect(run, socket) : null;
  }

  connect(run, socket) {
    return new Link(run, socket, {
      onPacket: (packet) => {
        const complete = this.store.take(packet);
        if (packet.head.policy) this.bar.fault(null);
        this.dirty();
        return complete;
      },
      onFault: (text) => this.bar.fault(text),
      onGone: (text) => this.bar.note(text),
      onPoll: () => this.trigger("feed", "poll"),
      trigger: (name, value) => this.trigger(name, value),
      cursor: () => this.store.count,
    });
  }

  draw() {
    drawSeries(this);
    drawSpectrum(this);
    drawError(this);
    this.map.draw();
    drawScores(this);
    // Long curves that grow by a pixel: ten times a second is as good, and leaves the processor to the
    // sampler.
    const time = performance.now();
    if (this.handles.held || this.store.now?.status !== "running" || time - (this.slow || 0) > SLOW_MS) {
      this.slow = time;
      drawIntensity(this);
      drawEnergy(this);
    }
    this.handles.seat();
    this.bar.draw();
    this.renders += 1;
    Object.assign(this.lab.dataset, { renders: this.renders, steps: this.store.count });
    this.showPhase();
  }

  // Notifies the page once when the run enters another phase.
  showPhase() {
    const { hello } = this.store;
    const { status } = this.lab.dataset;
    const phase = !hello.run || LIVE.has(status) ? "live" : OVER.has(status) ? "ended" : status;
    if (phase === "live" || phase === hello.phase || phase === this.phase) return;
    this.phase = phase;
    this.trigger("phase", { phase, n: Math.random() });
  }

  // The caption of a saved picture.
  title() {
    return "A live run";
  }

  caption() {
    const { hello, count, policy } = this.store;
    return (
      `${hello.channels[this.channel]} · step ${count} of ${hello.steps} · ` +
      `${policy.trigger}, τ = ${short(policy.tau)}, K = ${policy.k_low}`
    );
  }

  file() {
    return `live-step${this.store.count}`;
  }
}

export default mounted(Lab);
