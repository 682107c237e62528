// Pinned settings: shown on the plane, restored by a click, taken to other pages. The address holds which settings are
// pinned; this browser tab remembers what was measured of them.

import { element } from "../shared/dom.js";
import { short } from "../shared/text.js";
import { Reports, sameSetting } from "./dial.js";

const KEY = "e2crf-pins";
const MOST = 8;
const REMEMBERED = 64;
// Pins that wait for their values are asked for together, in a message that has an upper limit.
const ASKED = 2000;
const WAYS = {
  compare: "Compare it on the same noise",
  tune: "Search around it in Tune",
  anatomy: "See every step in Anatomy",
};
const MENU_GAP = 4;

// How a pinned value compares with the present one: "2.1 × as much".
export const ratioText = (pinned, present) => {
  if (!(pinned > 0) || !(present > 0)) return "";
  const ratio = pinned / present;
  if (Math.abs(ratio - 1) < 0.005) return "equal";
  return ratio > 1 ? `${short(ratio)} × more` : `${short(1 / ratio)} × less`;
};

// What was measured of settings, by network, noise, and setting; the newest REMEMBERED.
export class Measured {
  constructor(storage) {
    this.storage = storage;
    this.values = {};
    try {
      const kept = JSON.parse(storage.getItem(KEY));
      if (kept && !Array.isArray(kept)) this.values = kept;
    } catch {
      // Damaged or forbidden storage: nothing is known.
    }
  }

  get(key) {
    return this.values[key] ?? {};
  }

  set(key, values) {
    delete this.values[key];
    this.values[key] = values;
    this.values = Object.fromEntries(Object.entries(this.values).slice(-REMEMBERED));
    try {
      this.storage.setItem(KEY, JSON.stringify(this.values));
    } catch {
      // What was measured is then known as long as the page.
    }
  }
}

// Settings of which nothing is known, as one text that is not too long for a message.
export const unknownOf = (pins) => {
  let text = "";
  for (const pin of pins) {
    if (pin.error !== undefined || pin.why || text.length + pin.text.length >= ASKED) continue;
    text += `${text && ";"}${pin.text}`;
  }
  return text;
};

export class Pins {
  constructor(board) {
    Object.assign(this, { board, list: [], reports: new Reports(), before: null });
    this.measured = new Measured(sessionStorage);
  }

  key(text) {
    const { checkpoint, seed } = this.board.hello;
    return `${checkpoint} ${seed} ${text}`;
  }

  // The pins that the page sends: a link's, or those that this canvas has reported before.
  update(pins, moved) {
    const texts = pins.map((pin) => pin.text);
    const repeated = this.reports.echo(texts) || sameSetting(texts, this.before);
    this.before = texts;
    if (repeated && !moved) return;
    this.reports.taken(texts);
    this.list = pins.map((pin) => ({ ...pin, ...this.measured.get(this.key(pin.text)) }));
    this.draw();
  }

  add() {
    const { board } = this;
    const { text, policy, solver, grid, steps } = board.answer.head;
    if (!text) {
      board.fault("This setting has no short form, so it cannot be pinned.");
      return;
    }
    const others = this.list.filter((pin) => pin.text !== text);
    this.list = [...others, { text, policy, solver, grid, steps }].slice(-MOST);
    this.learn(board.answer.head);
    this.changed();
  }

  // An answer, or a measurement of a pin, says what a setting costs.
  learn({ text, error, cost, ms, tokens, why }) {
    const pin = this.list.find((one) => one.text === text);
    if (!pin) return;
    const values = why ? { why } : { error: error.pooled?.[0] ?? error, cost, ms, tokens, why: undefined };
    Object.assign(pin, values);
    if (!why) this.measured.set(this.key(text), values);
    this.draw();
    this.board.dirty();
  }

  remove(pin) {
    this.list = this.list.filter((other) => other.text !== pin.text);
    this.changed();
  }

  changed() {
    const texts = this.list.map((pin) => pin.text);
    if (this.reports.news(texts)) this.board.trigger("pins", { text: texts.join(";"), n: Math.random() });
    this.board.dirty();
    this.draw();
  }

  // Entries are made anew only if they say something else: focus and open menus stay.
  draw() {
    const said = JSON.stringify(this.list.map(({ text, error, cost, why }) => [text, error, cost, why]));
    if (said !== this.said) {
      this.said = said;
      this.entries = this.list.map((pin, i) => this.entry(pin, i + 1));
      this.board.el("pins").replaceChildren(...this.entries);
    }
    this.list.forEach((pin, i) => {
      this.describe(this.entries[i].firstElementChild, pin, i + 1);
    });
  }

  describe(restore, pin, number) {
    const now = this.board.answer?.head;
    const known = pin.error !== undefined;
    const against =
      now && known
        ? `, error ${ratioText(pin.error, now.error.pooled[0])}, cost ${ratioText(pin.cost, now.cost)} than now`
        : "";
    const why = known ? "" : `, ${pin.why ?? "not measured yet"}`;
    const { trigger, tau } = pin.policy;
    restore.title = `${trigger}, τ ${short(tau)}, ${pin.solver}, ${pin.steps} steps${against}${why}: click to restore`;
    restore.setAttribute("aria-label", `Restore pin ${number}: ${restore.title}`);
  }

  entry(pin, number) {
    const { board } = this;
    const item = element("li");
    const restore = element("button");
    const remove = element("button", "✕");
    restore.type = remove.type = "button";
    const values =
      pin.error === undefined ? (pin.why ? "no value" : "…") : `${short(pin.error)} at ${short(pin.cost)}`;
    restore.append(element("b", `${number}`), ` ${values}`);
    remove.setAttribute("aria-label", `Remove pin ${number}`);
    restore.addEventListener("click", () => board.restore(pin));
    remove.addEventListener("click", () => this.remove(pin));
    item.append(restore, ...this.menu(pin, number), remove);
    return item;
  }

  // Ways to other pages, in a menu above the page: the list of pins scrolls and would cut it off.
  menu(pin, number) {
    const open = element("button", "⋯");
    const list = element("div", undefined, "ways");
    if (!("popover" in list)) return [];
    open.type = "button";
    list.popover = "auto";
    open.popoverTargetElement = list;
    open.setAttribute("aria-label", `More with pin ${number}`);
    for (const [to, label] of Object.entries(WAYS)) {
      const way = element("button", label);
      way.type = "button";
      way.addEventListener("click", () => {
        list.hidePopover();
        this.board.trigger("go", { to, text: pin.text, n: Math.random() });
      });
      list.append(way);
    }
    list.addEventListener("toggle", ({ newState }) => {
      if (newState !== "open") return;
      const box = open.getBoundingClientRect();
      const right = Math.min(box.left, window.innerWidth - list.offsetWidth - MENU_GAP);
      const below = box.bottom + MENU_GAP;
      const fits = below + list.offsetHeight < window.innerHeight;
      list.style.left = `${Math.max(MENU_GAP, right)}px`;
      list.style.top = `${fits ? below : box.top - MENU_GAP - list.offsetHeight}px`;
    });
    return [open, list];
  }
}
