// Controls of the instrument beside the big slider: rule, solver, steps, and the fields that the rule reads.

import { element, setText } from "../shared/dom.js";
import { decimal, short } from "../shared/text.js";

const NAMES = {
  k_low: "K",
  detail: "Detail",
  start: "Start",
  refresh_every: "Refresh",
  predictor: "Predictor",
};
const STEPS = [5, 8, 10, 12, 16, 20, 30, 40, 60, 80, 100, 150, 200, 300, 500, 1000, 2000];

const labeled = (text, node, help) => {
  const label = element("label", `${text} `);
  label.title = help ?? "";
  node.setAttribute("aria-label", text);
  label.append(node);
  return label;
};

const select = (options, value, set) => {
  const node = element("select");
  node.append(...options.map(([key, name]) => new Option(name, key)));
  node.value = String(value);
  node.addEventListener("change", () => set(node.value));
  return node;
};

const slider = (text, { low, high, value, step, help }, set, shown = short) => {
  const node = element("input");
  Object.assign(node, { type: "range", min: decimal(low), max: decimal(high), step: decimal(step) });
  node.value = decimal(value);
  const output = element("output", shown(value));
  node.addEventListener("input", () => {
    setText(output, shown(+node.value));
    node.setAttribute("aria-valuetext", shown(+node.value));
    set(+node.value);
  });
  const label = labeled(text, node, help);
  label.append(output);
  return label;
};

const bandSliders = (policy, { low, high, help }, n, set) =>
  policy.bands.map(([edge, width], i) => {
    const first = i ? policy.bands[i - 1][0] : 0;
    const name = edge >= n ? `k from ${first}` : `k below ${edge}`;
    const span = { low: Math.log10(low), high: Math.log10(high), value: Math.log10(width), step: 0.01, help };
    const shown = (v) => short(10 ** v);
    return slider(
      name,
      span,
      (v) => {
        const bands = policy.bands.map((pair) => [...pair]);
        bands[i][1] = +(10 ** v).toPrecision(3);
        policy.bands = bands;
        set("bands", bands);
      },
      shown,
    );
  });

const fieldControl = (name, knob, policy, steps, set) => {
  if (knob.choices.length)
    return labeled(
      NAMES[name],
      select(
        knob.choices.map((c) => [c, c]),
        policy[name],
        (v) => set(name, v),
      ),
      knob.help,
    );
  const whole = name !== "detail";
  const high = name === "refresh_every" || name === "start" ? Math.min(knob.high, steps) : knob.high;
  const off = (v) => (name === "k_low" && v < 0) || (name !== "k_low" && whole && v === 0);
  const span = { low: knob.low, high, value: policy[name], step: whole ? 1 : 0.05, help: knob.help };
  return slider(
    NAMES[name],
    span,
    (v) => set(name, v),
    (v) => (off(v) ? "off" : short(v)),
  );
};

// Draws all controls anew; `set` takes a changed field, `plan` a changed solver or number of steps.
export const drawKnobs = (place, hello, state, { rule, set, plan }) => {
  const { policy } = state;
  const n = hello.n;
  const solvers = { ...hello.solvers, [state.solver]: hello.solvers[state.solver] ?? state.solver };
  const counts = [...new Set([...STEPS, state.steps])].sort((a, b) => a - b);
  const nodes = [
    labeled(
      "Rule",
      select(
        Object.keys(hello.triggers).map((t) => [t, t]),
        policy.trigger,
        rule,
      ),
      hello.triggers[policy.trigger].help,
    ),
    labeled(
      "Solver",
      select(Object.entries(solvers), state.solver, (solver) => plan({ solver })),
    ),
    labeled(
      "Steps",
      select(
        counts.map((s) => [s, s]),
        state.steps,
        (steps) => plan({ steps: +steps }),
      ),
    ),
  ];
  for (const [name, knob] of Object.entries(hello.knobs)) {
    if (!knob.triggers.includes(policy.trigger)) continue;
    if (name === "refresh_every" && policy.trigger === "fixed") continue;
    if (name === "bands") nodes.push(...bandSliders({ ...policy }, knob, n, set));
    else nodes.push(fieldControl(name, knob, policy, state.steps, set));
  }
  place.replaceChildren(...nodes);
};
