// Marks, ticks and legend of a study's charts. Shape and color both say what a point is.

import { svgElement } from "../shared/dom.js";

export const SHAPES = {
  cached: (r) => `M ${-r} 0 A ${r} ${r} 0 1 0 ${r} 0 A ${r} ${r} 0 1 0 ${-r} 0 Z`,
  solver: (r) => `M 0 ${-1.35 * r} L ${1.35 * r} 0 L 0 ${1.35 * r} L ${-1.35 * r} 0 Z`,
  reference: (r) => `M ${-1.1 * r} ${-1.1 * r} H ${1.1 * r} V ${1.1 * r} H ${-1.1 * r} Z`,
  early: (r) => `M ${-r} ${-r} L ${r} ${r} M ${-r} ${r} L ${r} ${-r}`,
  above: (r) => `M 0 ${-1.2 * r} L ${1.2 * r} ${r} H ${-1.2 * r} Z`,
};

export const kindOf = (point) => (point.complete ? point.mark : "early");

export const looks = (theme, kind) =>
  ({
    cached: { fill: theme.colors[0], stroke: theme.colors[0] },
    solver: { fill: theme.paper, stroke: theme.colors[1] },
    reference: { fill: theme.text, stroke: theme.text },
    early: { fill: "none", stroke: theme.muted },
  })[kind];

export const setSvgLegend = (lab, items) => {
  const entries = items.map(([name, shape, attributes]) => {
    const entry = document.createElement("span");
    const icon = svgElement("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" });
    svgElement("path", { d: shape, ...attributes }, icon);
    entry.append(icon, name);
    return entry;
  });
  lab.querySelector(".legend").replaceChildren(...entries);
};
