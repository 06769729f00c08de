// How the gateway is: what needs somebody, and the tables below the alerts.

import { byId, bytes, duration, el, list, ms, name, number, percent, say, table, terms, utc } from "./dom.js";

const short = (digest) => (digest ? `${digest.slice(0, 12)}…` : "–");
const FULL = 0.9;
const FULL_SOON_S = 7 * 86_400;

/** What needs somebody now, in a few words each, the worst first. */
export function concerns(view) {
  const all = [];
  if (view.trouble) all.push(`The gateway does not answer since ${utc(view.at)}: ${name(view.trouble)}`);
  const { unseen, open } = view.counts;
  if (unseen) all.push(`${unseen} of ${open} open alerts: nobody looks after ${unseen === 1 ? "it" : "them"}`);
  for (const stage of view.stages) {
    if (stage.state !== "reading") all.push(`Stage ${name(stage.name)}: ${STATES[stage.state]}${stage.problem ? `: ${name(stage.problem)}` : ""}`);
  }
  const soon = view.disk?.full_in_s;
  if (soon != null && soon < FULL_SOON_S) all.push(`The disk is full in ${duration(soon)} at this pace`);
  for (const stream of view.streams) {
    if (stream.bytes_max && stream.bytes > FULL * stream.bytes_max) all.push(`Stream ${stream.name} is ${percent(stream.bytes / stream.bytes_max)} full`);
  }
  if (view.link && !view.link.connected) all.push(`No connection to the region: ${number(sum(view.link.classes, "waiting"))} entries wait`);
  if (view.wish?.phase === "refused") all.push(`A bundle was refused: ${name(view.wish.reason)}`);
  if (view.conditions.all) all.push(`${view.conditions.all} condition${view.conditions.all === 1 ? "" : "s"} of devices`);
  return all;
}

const sum = (all, field) => all.reduce((total, one) => total + one[field], 0);

const STATES = { reading: "reads", away: "does not read", unwell: "is not well", given_up: "was given up" };

const STAGES = [
  { called: "Stage", means: "In the order of the path from a reading to an alert", of: (s) => name(s.name) },
  { called: "State", means: "Whether it asks for messages, or what keeps it", of: (s) => STATES[s.state] + (s.problem ? `: ${name(s.problem)}` : "") },
  { called: "Rows/s", means: "Rows that went through, per second, over ten seconds", number: true, of: (s) => number(s.rows_per_s, 1) },
  { called: "Messages/s", means: "Messages that it was handed, per second", number: true, of: (s) => number(s.messages_per_s) },
  { called: "Lag", means: "Messages that it was not handed yet", number: true, of: (s) => number(s.lag_messages) },
  { called: "Batch", means: "From a pull to the ack of its output: median, and 99th percentile, of the last ten seconds", number: true, of: (s) => pair(s.batch_ms) },
  { called: "Age", means: "From a reading's arrival at the gateway to the ack of the output that has it: median, and 99th percentile, of the last ten seconds", number: true, of: (s) => pair(s.age_ms) },
  { called: "Memory", means: "Resident memory of its process", number: true, of: (s) => bytes(s.memory_bytes) },
];
const pair = (both) => (both ? `${ms(both[0])}, ${ms(both[1])}` : "–");

const STREAMS = [
  { called: "Stream", means: "In the order of the path", of: (s) => s.name },
  { called: "Messages", means: "Messages in it", number: true, of: (s) => number(s.messages) },
  { called: "Messages/s", means: "Messages that came, per second", number: true, of: (s) => number(s.messages_per_s) },
  { called: "Bytes", means: "Bytes in it, and its bound", number: true, of: (s) => bytes(s.bytes) + (s.bytes_max ? ` of ${bytes(s.bytes_max)}` : "") },
  { called: "Full", means: "Share of its bound", number: true, of: (s) => (s.bytes_max ? percent(s.bytes / s.bytes_max) : "–") },
];

const CONDITIONS = [
  { called: "Device", means: "The device", of: (c) => name(c.device) },
  { called: "Channel", means: "The channel; all where it is the whole device's", of: (c) => (c.channel ? name(c.channel) : "all") },
  { called: "Condition", means: "What is wrong with the device rather than with what it measures", of: (c) => WORDS[c.condition] ?? c.condition },
  { called: "Value", means: "Seconds of silence or of the clock's offset, the stuck value, or the value out of range", number: true, of: (c) => number(c.value, 3) },
  { called: "Since", means: "Event time of the reading that showed it; of silence the last one before it", of: (c) => utc(c.since) },
];
const WORDS = { silence: "silent", stuck: "stuck at a value", range: "out of range", clock_offset: "clock is off" };

const BACKLOG = [
  { called: "Class", means: "What goes to the region, most urgent first", of: (c) => c.class },
  { called: "Waiting", means: "Entries that the region has not acknowledged", number: true, of: (c) => number(c.waiting) },
  { called: "On disk", means: "What they take here", number: true, of: (c) => bytes(c.waiting_bytes) },
  { called: "Lost", means: "Entries that will never come, of which the region was not told yet", number: true, of: (c) => number(c.lost) },
];

const RECEIPTS = [
  { called: "Class", means: "What went to the region", of: (c) => c.class + (c.current ? "" : " (ended)") },
  { called: "Entries", means: "Entries that the region can prove to have", number: true, of: (c) => number(c.entries) },
  { called: "Numbers", means: "The first and the last number that it knows of", number: true, of: (c) => `${number(c.first)} to ${number(c.last)}` },
  { called: "Missing", means: "Entries that will never come, and why", number: true, of: (c) => number(sum(c.missing, "count")) + (c.missing.length ? ` (${[...new Set(c.missing.map((one) => name(one.cause)))].join(", ")})` : "") },
  { called: "Receipt", means: "The last batch's receipt: a hash over all before it", of: (c) => short(c.receipt) },
  { called: "Taken", means: "When the last batch was taken, by the hub's clock", of: (c) => utc(c.taken) },
];

const SHADOW = [
  { called: "In the shadow", means: "A bundle that runs beside, by its digest", of: (r) => short(r.bundle) },
  { called: "Series", means: "Series that it has learnt, of those that it has seen", number: true, of: (r) => `${number(r.warm)} of ${number(r.series)}` },
  { called: "Alerts", means: "Alerts that it would have opened, and that the active one opened, on the same rows", number: true, of: (r) => `${number(r.opened)} (active ${number(r.told)})` },
];

const ASIDE = [
  { called: "Stage", means: "Who put it aside", of: ([stage]) => name(stage) },
  { called: "Late", means: "Readings that came too late", number: true, of: ([, aside]) => number(aside.late_readings) },
  { called: "Refused", means: "Inputs that are kept as dead letters, by reason", of: ([, aside]) => Object.entries(aside.refused).map(([why, count]) => `${why} ${number(count)}`).join(", ") || "none" },
  { called: "Last refusal", means: "Why the last one was refused", of: ([, aside]) => (aside.last_refusal ? name(aside.last_refusal) : "–") },
];

const PHASES = { waiting: "not on the gateway yet", rehearsing: "is judged by the recent past", shadow: "runs in the shadow, and learns", active: "is what judges", refused: "was refused" };

/** Renders all but alerts. `end(device)` ends a device's maintenance. */
export function renderMachine(view, end) {
  const all = concerns(view);
  const rows = (all.length ? all : ["Nothing."]).map((text, place) => ({ place, text }));
  list(byId("now"), rows, (row) => String(row.place), () => el("li"), (node, row) => say(node, row.text));
  byId("now").classList.toggle("calm", all.length === 0);
  table(byId("stages"), "Stages", STAGES, view.stages, (stage) => stage.name, "No stage is known yet.");
  table(byId("streams"), "Streams", STREAMS, view.streams, (stream) => stream.name, "No stream is known yet.");
  const key = (one) => JSON.stringify([one.device, one.channel, one.condition]);
  table(byId("conditions"), "Conditions", CONDITIONS, view.conditions.shown, key, "No device is silent, stuck, out of range or off by its clock.");
  maintenance(view, end);
  region(view);
  bundle(view);
  store(view);
  table(byId("aside"), "Put aside", ASIDE, Object.entries(view.aside), ([stage]) => stage, "Nothing is late or was refused.");
}

function maintenance(view, end) {
  const columns = [
    { called: "Device", means: "The device", of: ([device]) => name(device) },
    { called: "Until", means: "When it ends by itself", of: ([, until]) => (until === null ? "it is ended" : utc(until)) },
    { called: "End", means: "Ends it now", fill: (cell, [device]) => {
      if (cell.firstChild) return;
      const button = el("button", { type: "button", "data-focus": `end ${device}` }, "End…", el("span", { class: "unseen" }, ` maintenance of ${name(device)}`));
      button.addEventListener("click", () => end(device));
      cell.append(button);
    } },
  ];
  table(byId("maintenance"), "Devices under maintenance", columns, view.maintenance.shown, ([device]) => device, "No device is under maintenance.");
}

function region({ link }) {
  terms(byId("link"), link
    ? [["Region", "The hub's address", name(link.hub)], ["Connection", "Whether there is one now", link.connected ? "there" : "none"]]
    : [["Region", "The hub's address", "none: this gateway is by itself, or sync does not answer"]]);
  table(byId("backlog"), "What waits for the region", BACKLOG, link?.classes ?? [], (one) => one.class, "");
  byId("receipts-box").hidden = !link;
}

/** What the region has, as it was asked last. */
export function renderReceipts(told, problem) {
  const chains = told?.chains ?? [];
  const silent = told?.missing_shards.length ? ` Shards ${told.missing_shards.join(", ")} of the hub did not answer.` : "";
  say(byId("receipts-note"), problem ? `Not known: ${name(problem)}` : silent);
  table(byId("receipts"), "Receipts", RECEIPTS, chains, (one) => `${one.class} ${one.chain}`, problem ? "" : "The region has nothing of this site yet.");
}

function bundle({ bundles, wish }) {
  const wanted = wish ? [["Rollout", "How far the bundle is that was wanted last", `${short(wish.digest)} ${PHASES[wish.phase] ?? wish.phase}${wish.reason ? `: ${name(wish.reason)}` : ""}`]] : [];
  terms(byId("bundle"), [["Judges now", "The active bundle, by its digest", bundles.active.map(short).join(", ") || "nothing was judged yet"], ...wanted]);
  table(byId("shadow"), "Bundles in the shadow", SHADOW, bundles.shadow, (report) => report.bundle, "");
}

function store({ disk, index }) {
  terms(byId("disk"), disk
    ? [["Disk", "Free, of the partition of the gateway's folder", `${bytes(disk.free)} free of ${bytes(disk.total)}`],
      ["Full in", "At the pace of the last five minutes", disk.full_in_s === null ? "it does not fill up, or it is too early to tell" : duration(disk.full_in_s)]]
    : [["Disk", "The partition of the gateway's folder", "on another machine"]]);
  terms(byId("index"), index
    ? [["Index", "Windows that can be found, of how many series", `${number(index.windows)} windows of ${number(index.series)} series`],
      ["Segments", "On disk; windows that are in memory yet; those that are scanned from disk, since too few searches came for a graph of them", `${number(index.segments)}, ${number(index.tail)} windows in memory, ${number(index.flat)} scanned from disk`],
      ["Labelled", "Windows that carry a label", number(index.labels)],
      ["On disk", "What the index takes", bytes(index.bytes)]]
    : [["Index", "Windows that can be found", "it does not answer"]]);
}
