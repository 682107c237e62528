// Controls of Anatomy: buttons, sliders, dragging over the maps, arrow keys, playing the run.

import { clamp } from "../shared/scales.js";
import { showProgress } from "./layers.js";
import { changesOf, predict, refreshAt, tauAt } from "./whatif.js";

const SECONDS_A_RUN = 12;
const FRAME_MS = 33;
const MOVES = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
  Home: [-Infinity, 0],
  End: [Infinity, 0],
};

export const wire = (page) => {
  wireButtons(page);
  wireViews(page);
  wireQuestion(page);
  wireMaps(page);
};

const wireButtons = (page) => {
  const act = {
    inside: () => {
      showProgress(page, { state: "running" });
      page.send("inside", { act: "start" });
    },
    leave: () => page.send("inside", { act: "stop" }),
    back: () => page.go(page.step - 1),
    next: () => page.go(page.step + 1),
    play: () => play(page),
    reset: () => ask(page, page.rec.whatif.policy),
    confirm: () => page.send("confirm", { changes: changesOf(page.policy) }),
  };
  page.lab.addEventListener("click", ({ target }) => {
    const { act: name, mode } = target.dataset || {};
    if (mode) page.setMode(mode);
    else if (name && page.rec) act[name]();
  });
};

const wireViews = (page) => {
  page.el("slider").addEventListener("input", ({ target }) => page.go(+target.value));
  page.el("channel").addEventListener("change", ({ target }) => {
    page.channel = +target.value;
    page.dirty();
  });
  page.el("shade").addEventListener("change", ({ target }) => {
    page.shade = target.value;
    page.plots.map.layerKey = null;
    page.show();
  });
};

const ask = (page, changes) => {
  page.policy = { ...page.policy, ...changes };
  predict(page);
  page.dirty();
};

const wireQuestion = (page) => {
  const on = (name, event, change) =>
    page.el(name).addEventListener(event, ({ target }) => ask(page, { [name]: change(target.value) }));
  on("trigger", "change", (value) => value);
  on("tau", "input", (value) => tauAt(page.span, +value));
  on("k_low", "input", (value) => +value);
  on("refresh_every", "input", (value) => {
    if (+value) return refreshAt(page.rec.count, +value);
    return page.policy.trigger === "fixed" ? 1 : 0;
  });
};

const frequencyAt = (page, at) => clamp(Math.floor(at), 0, page.rec.n - 1);

const wireMaps = (page) => {
  for (const name of ["map", "trace", "would"]) drag(page, page.plots[name], name !== "trace");
  for (const plot of [page.plots.scores, page.plots.spectrum])
    plot.canvas.addEventListener("pointerdown", (event) => {
      if (!plot.x) return;
      page.k = frequencyAt(page, plot.x.invert(event.clientX - plot.canvas.getBoundingClientRect().left));
      page.dirty();
    });
  page.plots.map.canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (!move || !page.rec) return;
    event.preventDefault();
    const far = event.shiftKey ? 10 : 1;
    page.k = clamp(page.k + move[1] * far, 0, page.rec.n - 1);
    page.go(page.step + move[0] * far);
  });
};

const drag = (page, plot, both) => {
  const { canvas } = plot;
  const place = (event) => {
    if (!plot.x) return;
    const box = canvas.getBoundingClientRect();
    if (both) page.k = frequencyAt(page, plot.y.invert(event.clientY - box.top));
    page.go(Math.floor(plot.x.invert(event.clientX - box.left)));
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    place(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) place(event);
  });
};

// Plays the run from the present step, or from the start if it has ended; a second call stops it.
const play = (page) => {
  const button = page.button("play");
  if (page.player) {
    clearInterval(page.player);
    page.player = null;
    button.textContent = "Play";
    return;
  }
  const last = page.rec.count - 1;
  if (page.step >= last) page.step = 0;
  const begin = performance.now();
  const first = page.step;
  const speed = Math.max(5, page.rec.count / SECONDS_A_RUN) / 1000;
  button.textContent = "Pause";
  page.player = setInterval(() => {
    page.go(first + Math.floor((performance.now() - begin) * speed));
    if (page.step >= last || !page.lab.isConnected) play(page);
  }, FRAME_MS);
};
