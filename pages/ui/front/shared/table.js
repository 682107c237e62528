// The data behind the plots of a board, as one table.

import { recorded } from "./sheet.js";
import { SvgContext } from "./svg.js";

export const COLUMNS = ["panel", "series", "x", "k", "value"];

// What each color stands for, by a plot's legend.
const legendNames = (section) => {
  const names = new Map();
  for (const item of section.querySelectorAll(".legend span")) {
    const color = item.querySelector("i").style.getPropertyValue("--c").trim();
    if (!names.has(color)) names.set(color, item.textContent);
  }
  return names;
};

// One row for each point of a line, dot, bar, or cell of a map; k is NaN for all but cells.
export const tableOf = (board) => {
  const columns = { panel: [], series: [], x: [], k: [], value: [] };
  for (const { plot, marks } of recorded(board, () => new SvgContext("data"))) {
    const names = legendNames(plot.section);
    const lines = new Map();
    const { x: xTitle, y: yTitle } = plot.titles;
    for (const { name, color, x, k, value, line } of marks) {
      const panel = `${plot.section.dataset.panel} by ${xTitle || "quantity"}${k ? ` and ${yTitle}` : ""}`;
      let series = name || names.get(String(color).trim()) || "";
      if (line) {
        const n = (lines.get(series) || 0) + 1;
        lines.set(series, n);
        if (n > 1) series += ` ${n}`;
      }
      if (!k) series = series ? `${series}: ${yTitle}` : yTitle;
      for (let i = 0; i < value.length; i++) {
        columns.panel.push(panel);
        columns.series.push(series);
        columns.x.push(x[i]);
        columns.k.push(k ? k[i] : Number.NaN);
        columns.value.push(value[i]);
      }
    }
  }
  return columns;
};

const cell = (v) => {
  if (typeof v === "number") return Number.isFinite(v) ? String(v) : "";
  return `"${String(v).replace(/"/g, '""')}"`;
};

export const csvOf = (columns) => {
  const rows = columns.x.map((_, i) => COLUMNS.map((name) => cell(columns[name][i])).join(","));
  return `${[COLUMNS.join(","), ...rows].join("\n")}\n`;
};
