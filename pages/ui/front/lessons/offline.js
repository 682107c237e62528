// A lesson as a page of its own: guess first, then the answer. The page holds its data, and asks nothing of any server.

import { element, setAddress } from "../shared/dom.js";
import { ungzip } from "../shared/files.js";
import { Lesson } from "./lessons.js";

const root = document.documentElement;
const one = (selector) => document.querySelector(selector);
const asked = () => new URLSearchParams(location.search);

class OfflineLesson extends Lesson {
  // The address sets the controls.
  build() {
    this.data.view = Object.fromEntries(asked());
    super.build();
  }
}

// A canvas with its packets by name; where there are several, the address holds the choice.
const figure = (box) => {
  const lesson = new OfflineLesson(box);
  const packets = new Map(
    [...box.querySelectorAll("script")].map(({ dataset, textContent }) => [dataset.name, textContent]),
  );
  const [first] = packets.keys();
  const select = box.querySelector("select");
  const { key } = box.dataset;
  let chosen = packets.has(asked().get(key)) ? asked().get(key) : first;
  const show = async () => {
    const name = chosen;
    const data = await ungzip(packets.get(name));
    if (name === chosen) lesson.update({ data });
  };
  if (select) {
    select.value = chosen;
    select.addEventListener("change", () => {
      chosen = select.value;
      setAddress({ [key]: chosen === first ? null : chosen });
      show();
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  return show();
};

// The question: a choice opens the answer and says whether it was right; null takes the guess back.
const guess = (number) => {
  const card = one("#guess");
  const buttons = [...card.querySelectorAll("[data-choice]")];
  const verdict = card.querySelector(".verdict");
  const open = number !== null;
  const right = number === +card.dataset.right;
  verdict.textContent = right ? "Right:" : open ? `Not “${buttons[number].dataset.text}”, but:` : "";
  card.dataset.guess = open ? (right ? "right" : "wrong") : "";
  card.querySelector(".choices").hidden = open;
  card.querySelector("details").open = open;
  (open ? verdict : buttons[0]).focus();
};

const showPresenting = () => {
  const on = asked().get("present") === "1";
  root.classList.toggle("present", on);
  one("#present").setAttribute("aria-pressed", on);
  // The mode stays on from page to page.
  for (const link of document.querySelectorAll("a[data-page]")) link.search = on ? "?present=1" : "";
};

const present = (on) => {
  setAddress({ present: on ? "1" : null });
  showPresenting();
};

const KEYS = {
  n: () => one('a[rel="next"]')?.click(),
  p: () => one('a[rel="prev"]')?.click(),
  Escape: () => present(false),
};

const pressed = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, details.save")) return;
  const choice = one(`[data-choice="${+event.key - 1}"]`);
  if (choice && !choice.closest("[hidden]")) choice.click();
  else KEYS[event.key]?.();
};

const start = async () => {
  root.classList.add("scripted");
  for (const button of document.querySelectorAll("[data-choice]"))
    button.addEventListener("click", () => guess(+button.dataset.choice));
  one("[data-again]")?.addEventListener("click", () => guess(null));
  one("#guess details > summary")?.addEventListener("click", () => {
    one("#guess .choices").hidden = true;
  });
  one("#present").addEventListener("click", () => present(asked().get("present") !== "1"));
  document.addEventListener("keydown", pressed);
  showPresenting();
  await Promise.all([...document.querySelectorAll(".figure")].map(figure));
};

start().catch((fault) => {
  const words = `This browser cannot draw the lesson: ${fault.message}. A current one can.`;
  const line = element("p", words, "fault");
  line.setAttribute("role", "alert");
  one("main").prepend(line);
});
