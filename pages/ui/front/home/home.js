// The landing page's recorded run, in motion. It was recorded long ago: the server only hands it over.

import { Board } from "../shared/board.js";
import { setLegend } from "../shared/dom.js";
import { mounted } from "../shared/mount.js";
import { readPacket } from "../shared/packet.js";
import { reasonColors, reasonLegend } from "../shared/reasons.js";
import { sampleLines, seriesAxes, seriesRange } from "../shared/series.js";
import { packed } from "../shared/theme.js";

const RUN_MS = 9000;
const REST_MS = 1500;
const FUTURE = 0.12;

class Home extends Board {
  constructor(root) {
    super(root);
    this.addPlots();
    this.frameAt = 0;
    this.button("play").addEventListener("click", () => this.play(!this.playing));
  }

  ready() {
    return !!this.rec;
  }

  update({ data }) {
    this.useTheme();
    if (!this.rec) {
      const { head, arrays } = readPacket(data);
      this.rec = { ...head, ...arrays };
      this.range = seriesRange(this.rec.fan ?? this.rec.x0, this.rec.M, 0);
      this.el("caption").textContent = head.caption;
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      if (still) this.frameAt = head.frames - 1;
      this.play(!still);
    }
    this.map = null;
    this.legends();
    this.resize();
  }

  legends() {
    const { theme: t, plots } = this;
    setLegend(plots.series.section, [
      ["real series", t.faint],
      ["noisy state", t.noisy],
      ["denoised estimate", t.colors[1]],
    ]);
    setLegend(plots.map.section, reasonLegend(t));
  }

  // Plays from the present frame on, or from the first if the run has ended.
  play(on) {
    this.playing = on;
    this.button("play").textContent = on ? "Pause" : "Play";
    if (!on) return;
    const { frames } = this.rec;
    if (this.frameAt >= frames - 1) this.frameAt = 0;
    let begin = performance.now() - (this.frameAt / frames) * RUN_MS;
    const tick = (now) => {
      if (!this.playing || !this.lab.isConnected) return;
      if (now - begin > RUN_MS + REST_MS) begin = now;
      const next = Math.max(0, Math.min(frames - 1, Math.floor(((now - begin) / RUN_MS) * frames)));
      if (next !== this.frameAt) {
        this.frameAt = next;
        this.dirty();
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  draw() {
    this.drawSeries();
    this.drawMap();
    const { rec, frameAt } = this;
    this.el("place").textContent = `step ${rec.steps[frameAt] + 1} of ${rec.total}`;
    this.renders += 1;
    Object.assign(this.lab.dataset, { renders: this.renders, frame: frameAt });
  }

  drawSeries() {
    const { rec, theme, frameAt } = this;
    const plot = this.plots.series;
    plot.layer("fan", () => seriesAxes(plot, theme, rec, 0, this.range, rec.fan));
    sampleLines(plot, theme, rec, 0, rec, frameAt * rec.N * rec.M);
  }

  // The whole map, faint where the run has not yet come.
  drawMap() {
    const { rec, theme, frameAt } = this;
    const plot = this.plots.map;
    const { n, frames, total } = rec;
    plot.axes(theme, { domain: [0, total], title: "step" }, { domain: [0, n], title: "frequency k" });
    this.map ??= this.picture();
    const c = plot.ctx;
    const [left, width, height] = [plot.left + 1, plot.right - plot.left - 1, plot.bottom - plot.top];
    const seen = frameAt + 1;
    c.imageSmoothingEnabled = false;
    c.globalAlpha = FUTURE;
    c.drawImage(this.map, left, plot.top, width, height);
    c.globalAlpha = 1;
    c.drawImage(this.map, 0, 0, seen, n, left, plot.top, (width * seen) / frames, height);
    plot.vertical(left + (width * seen) / frames, theme.text);
  }

  picture() {
    const { n, frames, reasons } = this.rec;
    const colors = reasonColors(this.theme).map(packed);
    const sheet = Object.assign(document.createElement("canvas"), { width: frames, height: n });
    const context = sheet.getContext("2d");
    const image = context.createImageData(frames, n);
    const words = new Uint32Array(image.data.buffer);
    for (let i = 0; i < frames; i++)
      for (let k = 0; k < n; k++) words[(n - 1 - k) * frames + i] = colors[reasons[i * n + k]];
    context.putImageData(image, 0, 0);
    return sheet;
  }
}

export default mounted(Home);
