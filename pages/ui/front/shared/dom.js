// Small pieces of a page.

export const element = (tag, text, name) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
};

export const svgElement = (tag, attributes, parent, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
};

// Text is written only if it changed; otherwise a screen reader would read it again.
export const setText = (node, text) => {
  if (node.textContent !== String(text)) node.textContent = text;
};

// Legend of a panel: [name, color, "box" | "dash" | nothing for a line].
export const setLegend = (section, items) => {
  const entries = items.map(([name, color, kind = ""]) => {
    const entry = element("span");
    const key = element("i", undefined, kind);
    key.style.setProperty("--c", color);
    entry.append(key, name);
    return entry;
  });
  section.querySelector(".legend").replaceChildren(...entries);
};

// Writes the view into the address, so that a link opens it; null removes a name. The server is not told.
export const setAddress = (values) => {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(values)) {
    if (value === null) query.delete(name);
    else query.set(name, value);
  }
  history.replaceState(history.state, "", `${location.pathname}?${query}`);
};
