// Pinned settings: kept in this browser tab, shown on the plane, restored by a click.

import { element } from "../shared/dom.js";
import { short } from "../shared/text.js";

const KEY = "e2crf-pins";
const MOST = 8;

// How a pinned value compares with the present one: "2.1 × as much".
export const ratioText = (pinned, present) => {
  if (!(pinned > 0) || !(present > 0)) return "";
  const ratio = pinned / present;
  if (Math.abs(ratio - 1) < 0.005) return "equal";
  return ratio > 1 ? `${short(ratio)} × more` : `${short(1 / ratio)} × less`;
};

export class Pins {
  constructor(board) {
    this.board = board;
    this.list = [];
    try {
      this.list = JSON.parse(sessionStorage.getItem(KEY)) ?? [];
    } catch {
      // Damaged or forbidden storage: there are no pins.
    }
  }

  // Pins that belong on the plane: those of the same network and noise.
  shown() {
    const { checkpoint, seed } = this.board.hello;
    return this.list.filter((pin) => pin.checkpoint === checkpoint && pin.seed === seed);
  }

  add() {
    const { board } = this;
    const { head } = board.answer;
    const { policy, solver, grid, steps, seed, cost, ms, tokens, error } = head;
    const pin = { policy, solver, grid, steps, seed, cost, ms, tokens, error: error.pooled[0] };
    const same = (other) => JSON.stringify(other.policy) === JSON.stringify(policy) && other.steps === steps;
    this.list = this.list.filter((other) => !same(other));
    this.list.push({ ...pin, checkpoint: board.hello.checkpoint });
    this.list = this.list.slice(-MOST);
    this.changed();
  }

  remove(pin) {
    this.list = this.list.filter((other) => other !== pin);
    this.changed();
  }

  changed() {
    try {
      sessionStorage.setItem(KEY, JSON.stringify(this.list));
    } catch {
      // Pins then last as long as the page.
    }
    this.board.dirty();
    this.draw();
  }

  draw() {
    const { board } = this;
    const entries = this.shown().map((pin, i) => this.entry(pin, i + 1));
    board.el("pins").replaceChildren(...entries);
  }

  entry(pin, number) {
    const { board } = this;
    const item = element("li");
    const restore = element("button");
    const remove = element("button", "✕");
    restore.type = remove.type = "button";
    const now = board.answer?.head;
    const against = now
      ? `, error ${ratioText(pin.error, now.error.pooled[0])}, cost ${ratioText(pin.cost, now.cost)} than now`
      : "";
    restore.append(element("b", `${number}`), ` ${short(pin.error)} at ${short(pin.cost)}`);
    restore.title = `${pin.policy.trigger}, τ ${short(pin.policy.tau)}, ${pin.steps} steps${against}: click to restore`;
    restore.setAttribute("aria-label", `Restore pin ${number}: ${restore.title}`);
    remove.setAttribute("aria-label", `Remove pin ${number}`);
    restore.addEventListener("click", () => board.restore(pin));
    remove.addEventListener("click", () => this.remove(pin));
    item.append(restore, remove);
    return item;
  }
}
