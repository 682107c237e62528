// Lessons: each is a small machine to play with. All it needs is in the browser, so a control needs no
// server.

import { Board } from "../shared/board.js";
import { element, setAddress, setLegend, setText } from "../shared/dom.js";
import { readPacket } from "../shared/packet.js";
import { Plot } from "../shared/plot.js";
import { clamp } from "../shared/scales.js";
import { change } from "./change.js";
import { events } from "./events.js";
import { mirror } from "./mirror.js";
import { noise } from "./noise.js";
import { spectrum } from "./spectrum.js";
import { study } from "./study.js";
import { Tone } from "./tone.js";

// A lesson has panels [name, title, wide, control that dragging moves], controls, and functions of data and
// state: compute, values [symbol, value, help, traces it lights up], draw, legend, and perhaps sound.
const LESSONS = { spectrum, mirror, noise, change, events, study };
const ADDRESS_MS = 400;

export class Lesson extends Board {
  constructor(root) {
    super(root);
    this.stamp = 0;
    this.tone = new Tone();
  }

  close() {
    super.close();
    this.tone.silence();
  }

  ready() {
    return !!this.data;
  }

  update({ data }) {
    this.useTheme();
    const { head, arrays } = readPacket(data);
    this.stamp += 1;
    this.sheets = {};
    if (this.key !== head.key) {
      this.key = head.key;
      this.data = { ...head, ...arrays };
      this.lesson = LESSONS[head.lesson];
      this.tone.silence();
      this.build();
    }
    for (const [name, items] of Object.entries(this.lesson.legend(this.theme, this.data)))
      setLegend(this.plots[name].section, items);
    this.dirty();
  }

  build() {
    this.plots = {};
    this.state = { channel: 0, series: 0 };
    this.inputs = {};
    this.lab
      .querySelector(".grid")
      .replaceChildren(...this.lesson.panels.map((panel) => this.section(panel)));
    const controls = this.lesson.controls(this.data);
    this.lab.querySelector(".inputs").replaceChildren(...controls.map((control) => this.control(control)));
    for (const plot of Object.values(this.plots)) plot.fit();
  }

  section([name, title, wide, dragged]) {
    const section = element("section");
    section.dataset.panel = name;
    section.classList.toggle("wide", wide);
    section.classList.toggle("grab", !!dragged);
    section.innerHTML = '<h3></h3><p class="legend"></p><div class="plot"><canvas role="img"></canvas></div>';
    section.querySelector("h3").textContent = title;
    section.querySelector("canvas").setAttribute("aria-label", title);
    this.plots[name] = new Plot(section);
    if (dragged) this.grab(this.plots[name], dragged);
    return section;
  }

  // A slider or a check box, set to what the address asks for.
  control(control) {
    const { name, label: title, low, high, start } = control;
    const check = control.kind === "check";
    const label = element("label", title);
    const input = element("input");
    const text = element("b");
    const asked = Number(this.data.view[name]);
    const value = this.data.view[name] !== undefined && Number.isFinite(asked) ? Math.round(asked) : start;
    input.type = check ? "checkbox" : "range";
    input.setAttribute("aria-label", title);
    if (!check) Object.assign(input, { min: low, max: high, step: 1 });
    this.state[name] = check ? +!!value : clamp(value, low, high);
    input.addEventListener("input", () => {
      this.state[name] = check ? +input.checked : +input.value;
      this.dirty();
    });
    label.append(input);
    if (!check) label.append(text);
    this.inputs[name] = { input, text, control };
    return label;
  }

  // Dragging over a panel, or the arrow keys on it, moves one of the controls.
  grab({ canvas, section }, name) {
    const move = (value) => {
      const { low, high } = this.inputs[name].control;
      this.state[name] = clamp(value, low, high);
      this.dirty();
    };
    const place = (event) => {
      const plot = this.plots[section.dataset.panel];
      const at = plot.x.invert(event.clientX - canvas.getBoundingClientRect().left);
      move(name === "t" ? Math.round((1 - at) * 1000) : Math.floor(at) - (name === "K" ? 1 : 0));
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.inputs[name]) return;
      canvas.setPointerCapture(event.pointerId);
      place(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) place(event);
    });
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "slider");
    canvas.addEventListener("keydown", (event) => {
      const right = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (!right) return;
      event.preventDefault();
      // On the map of lesson 3 time runs to the left.
      move(this.state[name] + (name === "t" ? -10 : 1) * right * (event.shiftKey ? 10 : 1));
    });
  }

  draw() {
    const { lesson, data, state, theme } = this;
    const result = lesson.compute(data, state, this);
    this.showControls();
    lesson.draw(this, data, state, result, theme);
    this.showValues(lesson.values(data, state, result, theme));
    this.tone.play(lesson.sound ? lesson.sound(data, state, result) : null);
    this.renders += 1;
    Object.assign(this.lab.dataset, { renders: this.renders, lesson: data.lesson });
    this.showAddress();
  }

  showControls() {
    for (const [name, { input, text, control }] of Object.entries(this.inputs)) {
      const value = this.state[name];
      if (control.kind === "check") {
        input.checked = !!value;
        continue;
      }
      if (+input.value !== value) input.value = value;
      setText(text, (control.text || String)(value));
      input.setAttribute("aria-valuetext", text.textContent);
    }
    for (const [panel, , , name] of this.lesson.panels) if (name) this.showHandle(panel, name);
  }

  // A canvas that moves a control is a slider to those who cannot see it.
  showHandle(panel, name) {
    const { canvas } = this.plots[panel];
    const { control, text } = this.inputs[name];
    canvas.setAttribute("aria-valuemin", control.low);
    canvas.setAttribute("aria-valuemax", control.high);
    canvas.setAttribute("aria-valuenow", this.state[name]);
    canvas.setAttribute("aria-valuetext", `${control.label} ${text.textContent}`);
  }

  // Symbols of the formula with their values; one that stands for a trace highlights it while pointed at or
  // focused.
  showValues(values) {
    const list = this.lab.querySelector(".values");
    while (list.children.length > values.length) list.lastElementChild.remove();
    values.forEach(([symbol, value, help, lights], i) => {
      const box = list.children[i] ?? this.valueBox(list);
      setText(box.querySelector("dt"), symbol);
      setText(box.querySelector("span"), value);
      setText(box.querySelector("small"), help);
      box.lights = lights;
      box.classList.toggle("lights", !!lights);
      if (lights) {
        box.tabIndex = 0;
        box.style.setProperty("--c", Object.values(lights)[0]);
        box.title = "Point here to highlight its trace";
      } else {
        box.removeAttribute("tabindex");
        box.removeAttribute("title");
      }
    });
  }

  valueBox(list) {
    const box = element("div");
    box.innerHTML = "<dt></dt><dd><span></span><small></small></dd>";
    for (const event of ["pointerenter", "focus"]) box.addEventListener(event, () => this.light(box));
    for (const event of ["pointerleave", "blur"]) box.addEventListener(event, () => this.light(null));
    list.append(box);
    return box;
  }

  light(box) {
    const lights = box?.lights ?? {};
    for (const [name, plot] of Object.entries(this.plots)) plot.lit = lights[name] ?? null;
    this.lab.dataset.lit = Object.keys(lights).join(" ");
    this.dirty();
  }

  showAddress() {
    clearTimeout(this.later);
    this.later = setTimeout(() => {
      const value = (name, control) => (this.state[name] === control.start ? null : this.state[name]);
      const entries = Object.entries(this.inputs).map(([name, { control }]) => [name, value(name, control)]);
      setAddress(Object.fromEntries(entries));
    }, ADDRESS_MS);
  }

  // The caption of a saved picture.
  title() {
    return `Lesson: ${this.key}`;
  }

  caption() {
    const sliders = Object.values(this.inputs).filter(({ control }) => control.kind !== "check");
    return [this.key, ...sliders.map(({ text, control }) => `${control.label} ${text.textContent}`)].join(
      " · ",
    );
  }

  file() {
    return `lesson-${this.data.lesson}`;
  }
}
