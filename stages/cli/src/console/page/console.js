// The page of `eddy console`: takes views as they come, says when none come any more, and asks before anything is done.

import { byId, clock, duration, el, focusOn, keepingFocus, name, say, utc } from "./dom.js";
import { counted, renderIncidents } from "./incidents.js";
import { renderMachine, renderReceipts } from "./machine.js";

const SILENT_MS = 12_000;
const RETRY_MS = 2_000;
const TELL_MS = 5_000;
const RECEIPTS_MS = 60_000;
const FILTER_MS = 250;

let source;
let view;
let heard = Date.now();
let lost = Date.now();

// --- the stream of views ------------------------------------------------------
function connect() {
  source?.close();
  source = new EventSource(`events?filter=${encodeURIComponent(byId("filter").value.trim())}`);
  const own = source;
  own.onmessage = (event) => {
    if (own === source) take(JSON.parse(event.data));
  };
  own.onerror = () => {
    if (own !== source) return;
    lost ??= Date.now();
    tellLive();
    // Refused rather than interrupted: a browser does not try again by itself.
    if (own.readyState === EventSource.CLOSED) setTimeout(() => own === source && refused(), RETRY_MS);
  };
}

async function refused() {
  const answer = await fetch("receipts", { method: "HEAD" }).catch(() => undefined);
  if (answer?.status === 401) location.reload();
  else connect();
}

function take(told) {
  view = told;
  heard = Date.now();
  lost = undefined;
  tellLive();
  tellNew();
  keepingFocus(render, byId("incidents"));
}

function render() {
  say(byId("site"), name(view.site));
  say(byId("who"), `You act as ${name(view.who)}`);
  document.title = `${view.counts.unseen ? `(${view.counts.unseen}) ` : ""}${name(view.site)}: eddy console`;
  renderMachine(view, (device) => endMaintenance(device));
  renderIncidents(view, { acknowledge, label, maintain });
}

function tellLive() {
  if (!lost && Date.now() - heard > SILENT_MS) lost = heard;
  const node = byId("live");
  node.className = lost ? "lost" : "";
  say(node, !lost ? "Live" : view ? `Not live since ${clock(new Date(heard))}: what you see is of then; trying again` : "Connecting");
}

setInterval(tellLive, 1_000);

// --- new alerts, aloud but not each by itself -----------------------------------
let known;
let fresh = [];

function tellNew() {
  const open = view.open.shown.flatMap((incident) => incident.alerts.filter((alert) => alert.phase !== "closed"));
  if (known && !byId("filter").value.trim()) fresh.push(...open.filter((alert) => !known.has(alert.alert)));
  known = new Set([...(known ?? []), ...open.map((alert) => alert.alert)].slice(-5_000));
}

setInterval(() => {
  if (fresh.length === 0) return;
  const [first] = fresh;
  say(byId("told"), fresh.length === 1 ? `New alert: ${first.severity}, ${name(first.device)}` : `${fresh.length} new alerts, the first: ${first.severity}, ${name(first.device)}`);
  fresh = [];
}, TELL_MS);

// --- the filter, and receipts -----------------------------------------------------
let typing;
byId("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(connect, FILTER_MS);
});

async function receipts() {
  if (!view?.link) return;
  try {
    const answer = await fetch("receipts");
    const told = await answer.json();
    renderReceipts(answer.ok ? told : undefined, told.problem);
  } catch (problem) {
    renderReceipts(undefined, problem.message);
  }
}
setInterval(receipts, RECEIPTS_MS);
setTimeout(receipts, 3_000);

// --- what somebody decides ----------------------------------------------------------
const dialog = byId("dialog");
let asked;

/**
 * Asks. `what()` says exactly what will be done, or `undefined` while something is missing; `act()` is what is sent; `fields` are
 * what can be chosen.
 */
function ask(question) {
  asked = { ...question, from: document.activeElement?.dataset.focus };
  say(byId("dialog-title"), question.title);
  byId("dialog-fields").replaceChildren(...(question.fields ?? []));
  say(byId("dialog-result"), "");
  say(byId("dialog-yes"), question.yes);
  byId("dialog-yes").hidden = false;
  say(byId("dialog-no"), "Cancel");
  describe();
  dialog.showModal();
}

function describe() {
  const what = asked.what();
  say(byId("dialog-what"), what ?? asked.missing ?? "");
  byId("dialog-yes").disabled = what === undefined;
}

byId("dialog-fields").addEventListener("input", describe);
byId("dialog-no").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  const at = document.activeElement;
  if (at === document.body || !at.checkVisibility()) focusOn(asked.from, byId("incidents"));
});

byId("dialog-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (byId("dialog-yes").disabled || byId("dialog-yes").hidden) return;
  const result = byId("dialog-result");
  byId("dialog-yes").disabled = true;
  say(result, "Sending…");
  try {
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch("act", { method: "POST", headers, body: JSON.stringify(asked.act()) });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.problem);
    result.className = "";
    say(result, `Done. ${name(told.said)}`);
    byId("dialog-yes").hidden = true;
    say(byId("dialog-no"), "Close");
    byId("dialog-no").focus();
  } catch (problem) {
    result.className = "failed";
    say(result, `Failed. ${name(problem.message)}`);
    byId("dialog-yes").disabled = false;
    byId("dialog-yes").focus();
  }
});

const audited = () => `It is said to the gateway by ${name(view.who)}, and stands in its audit log where that is on this machine.`;

function acknowledge(incident) {
  const alerts = incident.alerts.filter((alert) => alert.phase !== "closed" && !alert.acknowledged && !alert.label);
  const many = counted(alerts.length);
  ask({
    title: `Acknowledge ${many} of ${name(incident.device)}`,
    what: () => `${name(view.who)} looks after ${many} of ${name(incident.device)} (${name(incident.cause)}): ${alerts.map((alert) => alert.alert).join(", ")}. Detection goes on as before. ${audited()}`,
    yes: "Acknowledge",
    act: () => ({ act: "acknowledge", alerts: alerts.map((alert) => alert.alert) }),
  });
}

function label(alert) {
  const fault = el("input", { id: "fault", type: "text", maxlength: "100", autocomplete: "off", spellcheck: "false" });
  const choice = (value, text) => el("label", {}, el("input", { type: "radio", name: "kind", value, ...(value === "fault" && { checked: "" }) }), ` ${text}`);
  const fields = el("fieldset", {}, el("legend", {}, "It was"), choice("fault", "a fault"), choice("normal", "normal"));
  const named = el("p", {}, el("label", { for: "fault" }, "Name of the fault"), fault);
  const isNormal = () => fields.querySelector("[value=normal]").checked;
  const chosen = () => (isNormal() ? "normal" : fault.value.trim());
  ask({
    title: `Label alert ${alert.alert}`,
    fields: [fields, named],
    missing: "A fault needs a name.",
    what: () => {
      named.hidden = isNormal();
      const of = `alert ${alert.alert} of ${name(alert.device)}`;
      if (isNormal()) return `The ${of} was normal: it closes, and windows like it do not alert again. ${audited()}`;
      if (!chosen() || chosen() === "normal" || chosen() === "*") return undefined;
      return `The ${of} was the fault “${name(chosen())}”: it has that name from now on, and alerts like it say so. ${audited()}`;
    },
    yes: "Label",
    act: () => ({ act: "label", alert: alert.alert, label: chosen() }),
  });
}

const LENGTHS = [["30", "30 minutes"], ["120", "2 hours"], ["480", "8 hours"], ["1440", "1 day"], ["10080", "7 days"], ["", "until it is ended"]];

function maintain(device) {
  const which = el("input", { id: "device", type: "text", maxlength: "128", autocomplete: "off", spellcheck: "false" });
  which.value = device ?? "";
  const length = el("select", { id: "length" }, ...LENGTHS.map(([minutes, text]) => el("option", { value: minutes }, text)));
  length.value = "120";
  const field = (called, input) => el("p", {}, el("label", { for: input.id }, called), input);
  ask({
    title: device ? `Put ${name(device)} under maintenance` : "Put a device under maintenance",
    fields: [...(device ? [] : [field("Device", which)]), field("For", length)],
    missing: "Which device?",
    what: () => {
      if (!which.value) return undefined;
      const until = length.value ? `until its readings are ${duration(length.value * 60)} past now (${utc((Date.now() + length.value * 60_000) * 1e6)})` : "until it is ended";
      return `${name(which.value)} neither alerts nor learns ${until}; its open alerts are shown as suppressed. ${audited()}`;
    },
    yes: "Put under maintenance",
    act: () => ({ act: "maintain", device: which.value, on: true, minutes: length.value ? Number(length.value) : null }),
  });
}

function endMaintenance(device) {
  ask({
    title: `End maintenance of ${name(device)}`,
    what: () => `${name(device)} alerts and learns again from now on. ${audited()}`,
    yes: "End it",
    act: () => ({ act: "maintain", device, on: false, minutes: null }),
  });
}

byId("maintain").addEventListener("click", () => maintain());
connect();
