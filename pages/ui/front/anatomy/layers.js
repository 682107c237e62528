// Layer by layer: the server runs the record again, once, and hands over what the cache held at every step.

import { clamp, decadeRange } from "../shared/scales.js";
import { duration, percent, short } from "../shared/text.js";

const SUBSCRIPT = "₀₁₂₃₄₅₆₇₈₉";
const percentFine = (v) => {
  if (!Number.isFinite(v)) return "–";
  return v < 1e-5 ? "0 %" : `${short(100 * v)} %`;
};

// Adds what the server has computed about the layers so far.
export const look = (page, { head, arrays }) => {
  const { rec } = page;
  const shade = page.el("shade");
  Object.assign(rec, { inside: head.inside, kept: arrays.layers_kept, used: arrays.layers_used });
  shade.querySelector('[value="reuse"]').disabled = !rec.kept;
  if (page.shade === "reuse" && !rec.kept) page.shade = "why";
  else if (rec.kept && rec.view.shade === "reuse" && !page.shadeFromAddress) {
    page.shadeFromAddress = true;
    page.shade = "reuse";
  }
  shade.value = page.shade;
  const { state, text } = rec.inside;
  page.el("inside").hidden = state === "there";
  page.plots.layers.box.hidden = !rec.kept;
  page.plots.layers.fit();
  showProgress(page, { state, text });
};

export const showProgress = (page, { state, text, share = 0, left = null }) => {
  const running = state === "running";
  const [v, unit] = duration(left);
  page.lab.dataset.inside = state;
  page.lab.querySelector('[data-act="inside"]').hidden = running || state === "refused";
  page.lab.querySelector('[data-act="leave"]').hidden = !running;
  page.el("inside_progress").hidden = !running;
  page.el("inside_progress").value = share;
  page.el("inside_text").textContent = running
    ? `Running the record again: ${percent(share)} %${v === "–" ? "" : `, ${v} ${unit} left`}`
    : text;
};

// One range for the whole run, so that dots move and the axis stands still.
const layerRange = (page) => {
  const { kept, used } = page.rec;
  if (page.insideStamp === page.stamp) return page.insideRange;
  const values = [];
  for (const from of [kept, used])
    for (let i = 0; i < from.length; i += 37) if (from[i] > 1e-6 && from[i] < 1e30) values.push(from[i]);
  values.sort((a, b) => a - b);
  const quantile = (q) => values[Math.floor(q * (values.length - 1))];
  page.insideRange = values.length ? decadeRange(quantile(0.01), quantile(0.995)) : [1e-3, 1];
  page.insideStamp = page.stamp;
  return page.insideRange;
};

const drawDots = (plot, dots, [floor, top]) => {
  const at = (v) => clamp(v, floor, top);
  const c = plot.ctx;
  for (const [x, v, color] of dots) {
    c.globalAlpha = 0.5;
    plot.straight([plot.x(x), plot.bottom, plot.x(x), plot.y(at(v))], color);
    c.globalAlpha = 1;
  }
  plot.dots(dots.map(([x, v, ...rest]) => [x, at(v), ...rest, v]));
};

// What the chosen dots say, in words; `read(array, name)` is the value of one layer.
const sentences = (page, read) => {
  const { rec, step, k } = page;
  const { kept, used, n, inside } = rec;
  const list = (from) =>
    `${percentFine(read(from, "C"))} in C, ${percentFine(read(from, "F"))} in F, ` +
    `${percentFine(read(from, "D"))} in D and ${percentFine(read(from, "score"))} in the score`;
  const would = step
    ? `Reused, it would have been off by ${list(kept)}.`
    : "Nothing was cached before the first step.";
  const stale = rec.reasons[step * n + k]
    ? ": this frequency was computed, but it attended to stale ones"
    : "";
  const was =
    read(used, "C") < 1e-5
      ? "The step used what a full recompute gives."
      : `The step used values that were off by ${list(used)}${stale}.`;
  const other =
    inside.changed === null
      ? ""
      : ` This machine did not reproduce the run exactly: decisions differ from step ${inside.changed + 1} on, ` +
        "and from there a different run is shown.";
  return `${would} ${was} Values beyond the axis are drawn at its ends.${other}`;
};

export const drawLayers = (page) => {
  const { rec, step, k, theme: t } = page;
  const plot = page.plots.layers;
  const { kept, used, n, inside } = rec;
  page.el("inside_words").textContent = "";
  if (!kept || !plot.width) return;
  const { names } = inside;
  const count = names.length;
  const read = (from, q) => from[(step * count + q) * n + k];
  const range = layerRange(page);
  const labels = names.map((name) => name.replace(/\d/g, (d) => SUBSCRIPT[d]));
  plot.axes(
    t,
    { domain: [0, count], title: "", names: labels },
    { domain: range, log: true, title: "|held − fresh| / |fresh|" },
  );
  for (let q = 3; q < count; q += q < count - 4 ? 3 : 4) plot.vertical(plot.x(q), t.grid);
  const dots = (from, offset, ...look) =>
    names.map((_, q) => [q + 0.5 + offset, read(from, q), ...look]).filter(([, v]) => Number.isFinite(v));
  const wouldBe = dots(kept, -0.12, t.colors[1], "if it had been reused", 4);
  drawDots(plot, [...wouldBe, ...dots(used, 0.12, t.colors[0], "as the step used it", 3.2)], range);
  page.el("inside_words").textContent = sentences(page, (from, name) => read(from, names.indexOf(name)));
};
