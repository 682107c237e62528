// What every board of canvases does: plots in sections, one drawing for each animation frame, theme, Save
// menu.

import { saveMenu } from "./downloads.js";
import { Plot } from "./plot.js";
import { readTheme } from "./theme.js";

export class Board {
  constructor(root) {
    this.root = root;
    this.lab = root.querySelector(".lab");
    this.plots = {};
    this.renders = 0;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.lab);
    this.el("save")?.append(saveMenu(this));
  }

  el(name) {
    return this.lab.querySelector(`[data-el="${name}"]`);
  }

  button(act) {
    return this.lab.querySelector(`[data-act="${act}"]`);
  }

  addPlots() {
    for (const section of this.lab.querySelectorAll("[data-panel]")) {
      const plot = new Plot(section);
      this.plots[section.dataset.panel] = plot;
      this.observer.observe(plot.box);
    }
  }

  useTheme() {
    this.theme = readTheme(this.root.host || this.lab);
    this.lab.style.setProperty("--bad", this.theme.bad);
  }

  resize() {
    for (const plot of Object.values(this.plots)) plot.fit();
    this.redrawLayers();
    this.dirty();
  }

  redrawLayers() {
    for (const plot of Object.values(this.plots)) plot.layerKey = null;
  }

  // Draws at the next animation frame, once `ready()`.
  dirty() {
    if (this.frame || !this.ready()) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      if (this.lab.isConnected && Object.values(this.plots)[0].width) this.draw();
    });
  }

  close() {
    this.observer.disconnect();
    clearTimeout(this.later);
  }
}
