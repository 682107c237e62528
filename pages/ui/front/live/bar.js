// The bar and the tiles of the live view: status, controls, progress, and measurements of the run so far.

import { element, setText } from "../shared/dom.js";
import { duration, percent, short } from "../shared/text.js";

const STATUS = {
  ready: ["Ready", "muted"],
  waiting: ["In line", "warn"],
  loading: ["Loading", "warn"],
  running: ["Running", "good"],
  paused: ["Paused", "warn"],
  comparing: ["Comparing", "warn"],
  done: ["Done", "good"],
  stopped: ["Stopped", "muted"],
  failed: ["Failed", "bad"],
};
const TILES = {
  step: ["Step", "Steps taken, from noise to series"],
  recent: ["Tokens now", "Share of all frequencies, of all samples, that the last 20 steps computed"],
  share: ["Tokens so far", "Share that the network has computed since the first step"],
  flops: ["Less work now", "Operations of an uncached run over those of the last 20 steps"],
  error: [
    "Error now",
    "Relative L2 of this sample's denoised estimate to that of its uncached twin at the same step",
  ],
  ms: ["Compute per step", "Mean of the last 20 steps, without the pauses that the pace adds"],
  left: ["Time left", "For the current phase, at the speed so far"],
  version: ["Policy changes", "Changes of the policy during this run"],
};
const RECENT_STEPS = 20;

export class Bar {
  constructor(lab) {
    this.lab = lab;
    this.tiles = {};
    for (const [key, [label, help]] of Object.entries(TILES)) {
      const box = element("div");
      const value = element("dd");
      box.title = help;
      box.append(element("dt", label), value);
      lab.lab.querySelector(".tiles").append(box);
      this.tiles[key] = value;
    }
    this.wire();
  }

  wire() {
    const { lab } = this;
    lab.lab.querySelector(".bar").addEventListener("click", ({ target }) => {
      const act = target.dataset?.act;
      if (!act || !lab.link) return;
      const paused = lab.store.now?.status === "paused";
      lab.link.send({ type: act === "pause" && paused ? "resume" : act });
    });
    lab.el("pace").addEventListener("change", ({ target }) => {
      lab.link?.send({ type: "pace", value: +target.value });
      lab.trigger("pace", { value: +target.value, n: Math.random() });
    });
    lab.el("channel").addEventListener("change", ({ target }) => {
      lab.channel = +target.value;
      lab.dirty();
    });
  }

  // Choices that depend on the run.
  options() {
    const { lab } = this;
    const { paces, pace, channels, M } = lab.store.hello;
    lab
      .el("pace")
      .replaceChildren(...paces.map((p) => new Option(p ? `${p} steps/s` : "unlimited", String(p))));
    lab.el("pace").value = String(pace);
    lab.lab.querySelector(".channel").hidden = M < 2;
    lab.el("channel").replaceChildren(...channels.map((name, i) => new Option(name, i)));
    lab.el("channel").value = String(lab.channel);
  }

  fault(text) {
    const box = this.lab.lab.querySelector(".fault");
    box.hidden = !text;
    box.textContent = text || "";
  }

  note(text) {
    setText(this.lab.el("note"), text);
  }

  draw() {
    const { now, hello } = this.lab.store;
    const status = now ? now.status : hello.run ? "loading" : "ready";
    this.showStatus(status);
    this.showControls(status);
    this.showProgress(status);
    this.showTiles(status);
    if (now?.error) this.fault(now.error);
  }

  showStatus(status) {
    const [name, tone] = STATUS[status] || [status, "muted"];
    const pill = this.lab.el("status");
    setText(pill, name);
    pill.style.setProperty("--dot", this.lab.theme[tone]);
    this.lab.lab.dataset.status = status;
  }

  showControls(status) {
    const { lab } = this;
    const { now } = lab.store;
    const live = lab.isLive(status) && !!lab.link;
    const waiting = !live || !now || status === "loading" || status === "waiting";
    const pace = lab.el("pace");
    lab.button("pause").disabled = waiting;
    lab.button("step").disabled = waiting;
    lab.button("stop").disabled = !live;
    lab.button("skip_compare").hidden = status !== "comparing";
    setText(lab.button("pause"), status === "paused" ? "Resume" : "Pause");
    pace.disabled = !lab.isLive(status);
    const focused = document.activeElement === pace || lab.root.activeElement === pace;
    if (now && !focused) pace.value = String(now.pace);
  }

  showProgress(status) {
    const { lab } = this;
    const { now, hello, count } = lab.store;
    const share = status === "comparing" ? now.progress : hello.steps ? count / hello.steps : 0;
    const bar = lab.lab.querySelector(".progress");
    bar.firstElementChild.style.width = `${(100 * share).toFixed(1)}%`;
    bar.setAttribute("aria-valuenow", (100 * share).toFixed(0));
    if (status === "comparing") {
      const [value, unit] = duration(now.eta);
      const left = value === "–" ? "" : `, ${value} ${unit} left`;
      this.note(`Running the same noise without a cache for comparison: ${percent(now.progress)} %${left}`);
    } else if (status === "waiting") this.note(now.line);
    else if (lab.isLive(status) || status === "done") this.note("");
    else if (status === "stopped")
      this.note(count < hello.steps ? "Stopped before the end: no samples." : "");
  }

  showTiles(status) {
    const { store } = this.lab;
    const { now, hello, count, sums, version } = store;
    const share = count ? sums.tokens / (count * hello.num * hello.n) : Number.NaN;
    const speed = store.speed();
    const recent = Math.min(RECENT_STEPS, count);
    const lately = (name) => {
      let sum = 0;
      for (let i = count - recent; i < count; i++) sum += store.cell(name, i);
      return sum;
    };
    const error = store.errors.at(-1);
    const timed = status === "running" || status === "comparing";
    const left = timed ? (now.eta ?? (speed ? (hello.steps - count) / speed : null)) : null;
    this.tile("step", count, `of ${hello.steps}`);
    this.tile("share", percent(share), "%");
    this.tile("recent", percent(lately("tokens") / (recent * hello.num * hello.n)), "%");
    this.tile("flops", count ? short(lately("flops_full") / lately("flops")) : "–", "times");
    this.tile("error", short(error));
    this.tile("ms", count ? short((1000 * lately("seconds")) / recent) : "–", "ms");
    this.tile("left", ...duration(left));
    this.tile("version", hello.run ? version : "–");
  }

  tile(key, value, unit = "") {
    const node = this.tiles[key];
    const shown = `${value} ${unit}`;
    if (node.dataset.shown === shown) return;
    node.dataset.shown = shown;
    node.replaceChildren(String(value), ...(unit ? [element("small", unit)] : []));
  }
}
