// Elements that stay where they are while what they say changes. Text is only ever set as text.

/** An element with attributes and children (nodes or text). */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Sets text and touches nothing if it is there. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function set(node, name, value) {
  if (value === undefined || value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Names come from devices: what turns text around or cannot be seen is written out. */
export function name(text) {
  const hidden = /[\p{Cc}\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;
  return text.replace(hidden, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

/** Makes the children of `parent` those of `items`: the same key is the same element. */
export function list(parent, items, key, make, update) {
  const held = new Map();
  for (const child of parent.children) held.set(child.dataset.key, child);
  const wanted = new Set(items.map(key));
  for (const [known, child] of held) {
    if (!wanted.has(known)) child.remove();
  }
  let at = parent.firstElementChild;
  for (const item of items) {
    let node = held.get(key(item));
    if (!node) {
      node = make(item);
      node.dataset.key = key(item);
    }
    update(node, item);
    if (node === at) at = at.nextElementSibling;
    // Moved, not taken out and put back, where the browser can: what has the focus keeps it.
    else if (node.isConnected && parent.moveBefore) parent.moveBefore(node, at);
    else parent.insertBefore(node, at);
  }
}

/** Gives the focus to what has this key; if that is gone or hidden, to what is beside it, or to `otherwise`. */
export function focusOn(key, otherwise) {
  const node = key && document.querySelector(`[data-focus="${CSS.escape(key)}"]`);
  const at = node?.checkVisibility() ? node : node?.closest(".incident")?.querySelector("summary");
  (at?.checkVisibility() ? at : otherwise).focus({ preventScroll: true });
}

/** Renders, and gives the focus back if what had it is gone or hidden now. */
export function keepingFocus(render, otherwise) {
  const before = document.activeElement;
  const key = before?.dataset?.focus;
  render();
  const isKept = document.activeElement === before && before.isConnected && before.checkVisibility();
  if (key && !isKept) focusOn(key, otherwise);
}

/**
 * A table. `columns`: what it is called, what it means, what it says of a row (text or a node), whether it is a number.
 * On narrow screens rows become blocks, so every cell knows its column, and roles are said.
 */
export function table(box, caption, columns, rows, key, nothing) {
  if (!box.firstChild) {
    const heads = columns.map((column) => el("th", { scope: "col", role: "columnheader", title: column.means }, column.called));
    const head = el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads));
    box.append(el("p", { class: "note" }), el("table", { role: "table", "aria-label": caption }, head, el("tbody", { role: "rowgroup" })));
  }
  const [note, whole] = box.children;
  say(note, rows.length ? "" : nothing);
  note.hidden = rows.length > 0;
  whole.hidden = rows.length === 0;
  const make = () => el("tr", { role: "row" }, ...columns.map((column, n) => el(n ? "td" : "th", {
    role: n ? "cell" : "rowheader", scope: n ? undefined : "row", title: column.means, "data-called": column.called,
    class: column.number ? "number" : undefined,
  })));
  const update = (line, row) => columns.forEach((column, n) => column.fill ? column.fill(line.children[n], row) : say(line.children[n], column.of(row)));
  list(whole.tBodies[0], rows, key, make, update);
}

/** Terms with their values: `[called, means, text]`. */
export function terms(box, rows) {
  const make = ([called, means]) => el("div", { title: means }, el("dt", {}, called), el("dd"));
  list(box, rows, ([called]) => called, make, (node, [, , text]) => say(node.lastChild, text));
}

export const number = (value, digits = 0) => value === null || value === undefined ? "–"
  : value.toLocaleString("en", { maximumFractionDigits: digits });
export const percent = (share) => `${Math.round(share * 100)} %`;
export const ms = (value) => (value < 10 ? `${value.toFixed(1)} ms` : value < 10_000 ? `${Math.round(value)} ms` : duration(value / 1e3));

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${value < 10 && unit ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function duration(seconds) {
  for (const [unit, size] of [["d", 86_400], ["h", 3_600], ["min", 60]]) {
    if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

/** Nanoseconds since the Unix epoch, in UTC as eddy writes time everywhere. */
export const utc = (ns) => new Date(ns / 1e6).toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");
export const clock = (date) => date.toLocaleTimeString("en-GB");
