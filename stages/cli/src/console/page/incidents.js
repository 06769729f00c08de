// What alerted, by device and cause: the newest alert of what needs somebody is open, with its curves.

import { byId, duration, el, list, name, number, percent, say, set, utc } from "./dom.js";
import { called, plot } from "./plot.js";

/** Of so many incidents that nobody has seen, and of the first, the newest alert is opened by itself. */
const OPENED_MAX = 4;
/** Curves that are asked for at once: a browser has six connections for all of it. */
const READS_MAX = 2;
const AGAIN_MS = 10_000;

const waiting = [];
let reads = 0;
let actions;

/** Renders all three lists. `doing` has what buttons do: `acknowledge(incident)`, `label(alert)`, `maintain(device)`. */
export function renderIncidents(view, doing) {
  actions = doing;
  const { open, over, suppressed } = view;
  const key = (incident) => JSON.stringify([incident.device, incident.cause, incident.suppressed]);
  for (const [id, listed] of [["open", open], ["over", over], ["suppressed", suppressed]]) {
    listed.shown.forEach((incident, n) => { incident.first = id === "open" && n < (incident.unseen ? OPENED_MAX : 1); });
    list(byId(id), listed.shown, key, makeIncident, (node, incident) => updateIncident(node, incident, view));
  }
  const left = open.all - open.shown.length;
  const filtered = byId("filter").value.trim() !== "";
  const none = filtered ? "Nothing open has these words." : "Nothing is open.";
  say(byId("open-count"), open.all === 0 ? none : left > 0 ? `The first ${open.shown.length} of ${open.all} incidents: filter for others.` : "");
  say(byId("over-title"), `Over: ${listed(over)}`);
  const reasons = Object.entries(view.counts.suppressed).map(([reason, count]) => `${count} by ${reason}`);
  say(byId("suppressed-title"), `Suppressed: ${reasons.length ? reasons.join(", ") : "none"}`);
}

export const counted = (alerts) => (alerts === 1 ? "1 alert" : `${alerts} alerts`);

function listed({ shown, all }) {
  const count = all === 0 ? "none" : all === 1 ? "1 incident" : `${all} incidents`;
  return shown.length < all ? `${count}, the first ${shown.length} are shown` : count;
}

function button(text, more, focus, act) {
  const node = el("button", { type: "button", "data-focus": focus }, text, el("span", { class: "unseen" }));
  say(node.lastChild, more);
  node.addEventListener("click", () => act());
  return node;
}

function makeIncident(incident) {
  const device = name(incident.device);
  const node = el("li", { class: "incident" },
    el("div", { class: "title" },
      el("h3", {}, el("span", { class: "severity", title: "How bad it was at its opening: minor, major or critical" }), " ", el("bdi", {}, device), ": ",
        el("bdi", { title: "The fault's name, where somebody or the index knows it; else the channel that contributed most" }, name(incident.cause))),
      el("p", { class: "buttons" },
        button("Acknowledge…", "", `ack ${incident.device} ${incident.cause}`, () => actions.acknowledge(node.incident)),
        button("Maintenance…", ` of ${device}`, `maintain ${incident.device} ${incident.cause}`, () => actions.maintain(node.incident.device)))),
    el("p", { class: "note" }),
    el("ol", { class: "alerts" }));
  return node;
}

function updateIncident(node, incident, view) {
  node.incident = incident;
  const [title, note, alerts] = node.children;
  node.className = `incident ${incident.severity}${incident.unseen ? " new" : ""}`;
  say(title.querySelector(".severity"), incident.severity);
  const acknowledge = title.querySelector("button");
  acknowledge.hidden = incident.unseen === 0;
  say(acknowledge.lastChild, ` ${counted(incident.unseen)} of ${name(incident.device)}, ${name(incident.cause)}`);
  const counts = [`${incident.open} open`];
  if (incident.unseen) counts.push(`${incident.unseen} that nobody looks after`);
  if (incident.suppressed) counts.push(`suppressed by ${incident.suppressed}`);
  if (incident.all > incident.alerts.length) counts.push(`the newest ${incident.alerts.length} of ${incident.all} are shown`);
  say(note, counts.join(", "));
  incident.alerts.forEach((alert, n) => { alert.first = incident.first && n === 0; });
  list(alerts, incident.alerts, (alert) => alert.alert, makeAlert, (one, alert) => updateAlert(one, alert, view));
}

const FACTS = [
  ["Opened", "Event time of its opening", (alert) => alert.opened.replace("T", " ").replace("Z", " UTC")],
  ["Score", "How far the window told last lies from its series' own past, over what is usual there: larger is stranger", (alert) => number(alert.score, 2)],
  ["Tail probability", "How rarely an ordinary window is as strange: the least of this alert; and at or below which one it opened",
    (alert) => `${alert.tail_min.toExponential(1)} (threshold ${alert.threshold.toExponential(1)})`],
  ["Channels", "How much each channel contributed", (alert) => shares(alert.channels)],
  ["Heads", "How much each of the bundle's heads contributed: the ways in which a window is looked at", (alert) => shares(alert.heads)],
  ["Verdict", "What the index knew of windows like it", (alert) => (alert.known ? name(alert.known.text) : "the index has said nothing yet")],
  ["Label", "What somebody said that it was", (alert) => (alert.label ? `${name(alert.label.what)}, by ${name(alert.label.by)} at ${utc(alert.label.time)}` : "none")],
  ["Acknowledged", "Who looks after it", (alert) => (alert.acknowledged ? `by ${name(alert.acknowledged.by)} at ${utc(alert.acknowledged.time)}` : "by nobody")],
];

const shares = (all) => all.map((one) => `${name(one.name)} ${percent(one.share)}`).join(", ");

function makeAlert(alert) {
  const facts = FACTS.map(([called, means]) => el("div", { title: means }, el("dt", {}, called), el("dd")));
  const figure = el("div", { class: "plots" });
  const summary = el("summary", { "data-focus": `alert ${alert.alert}` });
  const details = el("details", {}, summary, el("dl", {}, ...facts), figure,
    el("p", { class: "buttons" }, button("Label…", ` alert ${alert.alert}`, `label ${alert.alert}`, () => actions.label(node.alert))));
  const node = el("li", { "data-alert": alert.alert }, details);
  details.open = alert.first;
  details.addEventListener("toggle", () => show(figure, node.alert));
  new ResizeObserver(() => redraw(figure)).observe(figure);
  return node;
}

function updateAlert(node, alert, view) {
  node.alert = alert;
  const [summary, facts, figure] = node.firstChild.children;
  const ago = duration((view.at - alert.stored_at) / 1e9);
  const said = [alert.label && `label ${name(alert.label.what)}`, alert.acknowledged && `acknowledged by ${name(alert.acknowledged.by)}`];
  say(summary, [`${alert.severity} ${alert.phase}, ${ago} ago`, ...said.filter(Boolean), alert.alert].join(" · "));
  set(summary, "title", "Severity and phase, how long ago its first event was stored, what was said of it, its id");
  FACTS.forEach(([, , of], n) => say(facts.children[n].lastChild, of(alert)));
  show(figure, alert);
}

/** Asks for an alert's curves if they can be seen and are not there, or if the index has said more since. */
function show(figure, alert) {
  const known = alert.known?.neighbours.map((one) => [one.sequence, one.label]);
  const wanted = JSON.stringify([alert.alert, known]);
  if (!figure.parentNode.open || figure.wanted === wanted || Date.now() < (figure.failed ?? 0) + AGAIN_MS) return;
  figure.wanted = wanted;
  if (!figure.firstChild) figure.append(el("p", { class: "note" }, "Reading the streams…"));
  waiting.push([figure, alert.alert]);
  next();
}

async function next() {
  if (reads >= READS_MAX || waiting.length === 0) return;
  reads++;
  const [figure, id] = waiting.shift();
  try {
    const answer = await fetch(`plots/${encodeURIComponent(id)}`);
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.problem);
    figure.plots = told;
    figure.width = 0;
    redraw(figure);
  } catch (problem) {
    [figure.wanted, figure.failed] = [undefined, Date.now()];
    if (!figure.plots) figure.replaceChildren(el("p", { class: "note" }, `No curves: ${problem.message}`));
  }
  reads--;
  next();
}

/** Draws for the width that there is: text stays as large as it is elsewhere. */
function redraw(figure) {
  const room = figure.clientWidth;
  if (!figure.plots || room === 0 || figure.width === room) return;
  figure.width = room;
  const { window: own, neighbours, score, threshold } = figure.plots;
  const wide = room >= 640 ? Math.floor((room - 16) / 2) : room;
  const small = room >= 640 ? Math.floor((room - 32) / 3) : room;
  const what = `Window of ${name(own.device)} ${name(own.channel)}`;
  const drawn = [
    one(own, what, `${what}${when(own)}`, wide),
    one(score, "Score", "Score over the window: -log10 of the tail probability, higher is stranger", wide, threshold),
    ...neighbours.map((curve, n) => one(curve, `Neighbour ${n + 1}, ${called(curve)}`, `Nearest ${n + 1}: ${called(curve)}${when(curve)}`, small)),
  ];
  if (neighbours.length === 0) drawn.push(el("p", { class: "note" }, "The index has named no windows like it yet."));
  figure.replaceChildren(...drawn);
}

const when = (curve) => (curve.times_ms.length ? `, to ${utc(curve.times_ms.at(-1) * 1e6)}` : "");

function one(curve, what, caption, width, threshold) {
  const picture = plot(curve, what, width, threshold) ?? el("p", { class: "note" }, "The streams do not hold it any more.");
  const partial = curve.partial && curve.times_ms.length ? " (its beginning is not held any more)" : "";
  return el("figure", {}, picture, el("figcaption", {}, caption + partial));
}
