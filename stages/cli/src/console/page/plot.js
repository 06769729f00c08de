// Curves as SVG: an axis of time in a unit that fits, one of values, and the same in words.

import { name, number } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 10, 8, 34];
const HEIGHT = 150;
const UNITS = [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000], ["s", 1_000]];

function draw(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

/** About `count` round numbers from `low` to `high`. */
export function ticks(low, high, count) {
  const rough = (high - low) / count;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => size >= rough * 0.8);
  const all = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 1e-9; n++) all.push(n * step);
  return all;
}

const short = (value) => Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(1)
  : String(Number(value.toPrecision(4)));

function points(curve) {
  const last = curve.times_ms.at(-1);
  return curve.times_ms.map((time, n) => [time - last, curve.values[n]]).filter(([, value]) => value !== null);
}

/** What a curve shows, in a sentence. */
function words(what, all, unit, size, threshold) {
  const values = all.map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const span = `${number(-all[0][0] / size, 1)} ${unit}`;
  const line = threshold === undefined ? ""
    : `, the threshold is ${short(threshold)}, ${high >= threshold ? "which it passed" : "which it did not reach"}`;
  return `${what}: ${all.length} points over ${span}, lowest ${short(low)}, highest ${short(high)}, last ${short(values.at(-1))}${line}`;
}

/** A curve as a figure's picture, `width` pixels wide; `null` if there is nothing to draw. */
export function plot(curve, what, width, threshold) {
  const all = points(curve);
  if (all.length < 2) return null;
  const [unit, size] = UNITS.find(([, size]) => -all[0][0] >= 2 * size) ?? UNITS.at(-1);
  const values = all.map(([, value]) => value).concat(threshold ?? []);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (threshold !== undefined) low = Math.min(low, 0);
  if (low === high) [low, high] = [low - 1, high + 1];
  const x = (time) => LEFT + (1 - time / all[0][0]) * (width - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const label = words(what, all, unit, size, threshold);
  const picture = draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": label });
  for (const tick of ticks(low, high, 4)) {
    picture.append(draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }));
    picture.append(draw("text", { x: LEFT - 5, y: y(tick) + 4, "text-anchor": "end" }, short(tick)));
  }
  for (const tick of ticks(all[0][0] / size, 0, Math.max(2, Math.floor(width / 110)))) {
    const at = x(tick * size);
    picture.append(draw("line", { class: "grid", x1: at, x2: at, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }));
    const anchor = at > width - 30 ? "end" : "middle";
    picture.append(draw("text", { x: at, y: HEIGHT - BOTTOM + 16, "text-anchor": anchor }, short(Math.abs(tick))));
  }
  picture.append(draw("text", { x: LEFT, y: HEIGHT - 4 }, `${unit} before the end of the window`));
  if (threshold !== undefined) {
    picture.append(draw("line", { class: "threshold", x1: LEFT, x2: width - RIGHT, y1: y(threshold), y2: y(threshold) }));
    picture.append(draw("text", { x: LEFT + 4, y: Math.max(y(threshold) - 4, 11) }, `threshold ${short(threshold)}`));
  }
  const path = all.map(([time, value], n) => `${n ? "L" : "M"}${x(time).toFixed(1)},${y(value).toFixed(1)}`).join("");
  picture.append(draw("path", { class: "curve", d: path }));
  return picture;
}

/** What a neighbour is called. */
export function called(curve) {
  const label = curve.label ? `, labelled ${name(curve.label)}` : curve.alert ? ", of an alert" : "";
  return `${name(curve.device)} ${name(curve.channel)}, distance ${short(curve.distance)}${label}`;
}
