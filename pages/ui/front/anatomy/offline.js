// Anatomy in a file of its own: the page holds the run, and nothing is asked of any server.

import { element } from "../shared/dom.js";
import { ungzip } from "../shared/files.js";
import { Anatomy } from "./anatomy.js";
import { ASKED } from "./whatif.js";

const PLACE = ["step", "k", "channel"];

// The policy that the address asks for; a value that no policy may have is left out.
const askedPolicy = (query, { fields, triggers }) => {
  const policy = {};
  for (const field of ASKED) {
    if (!query.has(field)) continue;
    const text = query.get(field);
    const { low, high } = fields[field] ?? {};
    if (field === "trigger" ? triggers.includes(text) : +text >= low && +text <= high)
      policy[field] = field === "trigger" ? text : +text;
  }
  return policy;
};

const addressView = ({ whatif }) => {
  const query = new URLSearchParams(location.search);
  const places = PLACE.filter((name) => /^\d{1,9}$/.test(query.get(name) ?? ""));
  return {
    ...Object.fromEntries(places.map((name) => [name, +query.get(name)])),
    mode: query.get("view"),
    shade: query.get("map"),
    policy: whatif ? askedPolicy(query, whatif) : {},
  };
};

class Offline extends Anatomy {
  open(packet) {
    packet.head.view = addressView(packet.head);
    super.open(packet);
    this.el("file").textContent = "e2crf_core/e2crf.py, as it was when this page was made";
  }
}

const start = async () => {
  const page = new Offline(document);
  const data = await ungzip(document.getElementById("run").textContent);
  const update = () => page.update({ data, setTriggerValue: () => {} });
  update();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
};

start().catch((fault) => {
  const line = element(
    "p",
    `This browser cannot show the run: ${fault.message}. A current one can.`,
    "fault",
  );
  line.setAttribute("role", "alert");
  document.querySelector("main").prepend(line);
});
