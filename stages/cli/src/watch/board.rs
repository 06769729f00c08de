//! The alerts that there are, what was said of each, and which of them somebody should look at: a fold over four streams.
//!
//! Nothing here asks anybody: what comes in comes by the functions, in any order between the streams. What is shown is made anew
//! each time, so that a late word (a context, a label) moves an alert to where it belongs.

use std::collections::{BTreeMap, HashMap, VecDeque};

use eddy_schemas::{
    Control, ControlKind, Timestamp,
    alert::{CloudEvent, Phase, Severity},
    context::{Context, Verdict},
    models::{self, State},
    search::FoundWindow,
};

use super::view::{AlertView, Alerts, Incident, Known, Said, Stretch, Suppression};

/// Alerts that are held; the oldest closed ones go first.
const ALERTS_MAX: usize = 2_000;
/// Words that are held of alerts which are not there (yet).
const WORDS_MAX: usize = 10_000;
/// Alerts of an incident that are shown.
const SHOWN_MAX: usize = 20;
/// For so long after another bundle became the one that judges its alerts are taken for the change's.
pub const SETTLE_NS: Timestamp = 600_000_000_000;
/// Switches that are remembered.
const SWITCHES_MAX: usize = 100;

/// Where an event was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its sequence in DETECTIONS.
    pub sequence: u64,
    /// When it was stored, by the server's clock.
    pub stored_at: Timestamp,
}

/// The fold.
#[derive(Debug, Default)]
pub struct Board {
    alerts: HashMap<String, AlertView>,
    /// Ids in the order of their opening.
    order: VecDeque<String>,
    known: HashMap<String, Known>,
    labels: HashMap<String, Said>,
    acknowledged: HashMap<String, Said>,
    /// Devices under maintenance, and until when.
    maintenance: BTreeMap<String, Option<Timestamp>>,
    /// Bundles that became the ones that judge, and when.
    switches: VecDeque<(String, Timestamp)>,
}

impl Board {
    /// An alert's event.
    pub fn alert(&mut self, event: CloudEvent, place: Place) {
        let alert = event.data;
        if let Some(held) = self.alerts.get_mut(&alert.alert) {
            (held.phase, held.told) = (alert.phase, event.time);
            (held.score, held.tail_min) = (alert.score, alert.tail_min);
            return;
        }
        self.order.push_back(alert.alert.clone());
        let view = AlertView {
            alert: alert.alert.clone(),
            device: alert.device,
            severity: alert.severity,
            phase: alert.phase,
            opened: alert.opened,
            told: event.time,
            stored_at: place.stored_at,
            score: alert.score,
            tail_min: alert.tail_min,
            threshold: alert.threshold,
            channels: alert.channels,
            heads: alert.heads,
            bundle: alert.bundle,
            sequence: place.sequence,
            known: None,
            label: None,
            acknowledged: None,
            suppressed: None,
        };
        self.alerts.insert(alert.alert, view);
        self.forget();
    }

    /// Keeps to the bound: the oldest closed alert goes, or the oldest of all.
    fn forget(&mut self) {
        while self.order.len() > ALERTS_MAX {
            let closed = |id: &String| self.alerts.get(id).is_none_or(|alert| alert.phase == Phase::Closed);
            let at = self.order.iter().position(closed).unwrap_or(0);
            let Some(id) = self.order.remove(at) else { return };
            self.alerts.remove(&id);
            self.known.remove(&id);
        }
        // A context may come before its alert does, but not by much.
        if self.known.len() > ALERTS_MAX * 2 {
            self.known.retain(|id, _| self.alerts.contains_key(id));
        }
    }

    /// What the index knows of an alert.
    pub fn context(&mut self, context: Context) {
        let fault = match context.verdict {
            Verdict::Fault { name, .. } => Some(name),
            _ => None,
        };
        let neighbours = context.neighbours.iter().map(stretch).collect();
        let known = Known { text: context.text, fault, window: stretch(&context.window), neighbours };
        self.known.insert(context.alert, known);
    }

    /// An operator's or another tier's word, and when it was stored: no clock's word on it is later than that.
    pub fn control(&mut self, control: Control, stored_at: Timestamp) {
        let Control { origin, time, kind, .. } = control;
        let time = time.min(stored_at);
        match kind {
            ControlKind::Label { alert, label, .. } => {
                say(&mut self.labels, alert, Said { what: label, by: speaker(origin), time });
            }
            ControlKind::Acknowledge { alert, .. } => {
                say(&mut self.acknowledged, alert, Said { what: String::new(), by: speaker(origin), time });
            }
            ControlKind::Maintenance { device, on: true, until } => drop(self.maintenance.insert(device, until)),
            ControlKind::Maintenance { device, on: false, .. } | ControlKind::DeviceReset { device } => {
                self.maintenance.remove(&device);
            }
            ControlKind::RegionLabel { .. } | ControlKind::Recommission { .. } | ControlKind::Bundle { .. } => {}
        }
    }

    /// How far a bundle is that was wanted.
    pub fn rollout(&mut self, state: &State) {
        if state.phase == models::Phase::Active {
            self.switches.push_back((state.digest.clone(), state.time));
            if self.switches.len() > SWITCHES_MAX {
                self.switches.pop_front();
            }
        }
    }

    /// Devices under maintenance at `now`.
    pub fn maintenance(&self, now: Timestamp) -> BTreeMap<String, Option<Timestamp>> {
        let holds = |until: &Option<Timestamp>| until.is_none_or(|until| now < until);
        self.maintenance.iter().filter(|(_, until)| holds(until)).map(|(d, u)| (d.clone(), *u)).collect()
    }

    /// What is to be seen at `now`.
    pub fn show(&self, now: Timestamp) -> Alerts {
        let maintained = self.maintenance(now);
        let mut groups: BTreeMap<(String, String, Option<Suppression>), Vec<AlertView>> = BTreeMap::new();
        let mut shown = Alerts { held: self.alerts.len(), ..Alerts::default() };
        for id in self.order.iter().rev() {
            let Some(held) = self.alerts.get(id) else { continue };
            let mut alert = held.clone();
            alert.known = self.known.get(id).cloned();
            alert.label = self.labels.get(id).cloned();
            alert.acknowledged = self.acknowledged.get(id).cloned();
            alert.suppressed = self.suppression(&alert, maintained.contains_key(&alert.device));
            if let Some(reason) = alert.suppressed {
                *shown.suppressed.entry(reason).or_default() += 1;
            }
            groups.entry((alert.device.clone(), cause(&alert), alert.suppressed)).or_default().push(alert);
        }
        shown.incidents = groups.into_iter().map(|((_, cause, _), alerts)| incident(cause, alerts)).collect();
        let heard = || shown.incidents.iter().filter(|incident| incident.suppressed.is_none());
        (shown.open, shown.unseen) = (heard().map(|i| i.open).sum(), heard().map(|i| i.unseen).sum());
        shown.incidents.sort_by_key(|incident| std::cmp::Reverse(urgency(incident)));
        shown
    }

    /// A critical alert is always heard but where somebody is at work on its device.
    fn suppression(&self, alert: &AlertView, maintained: bool) -> Option<Suppression> {
        if maintained && alert.phase != Phase::Closed {
            return Some(Suppression::Maintenance);
        }
        let settles = |(digest, since): &(String, Timestamp)| {
            *digest == alert.bundle && (*since..since.saturating_add(SETTLE_NS)).contains(&alert.stored_at)
        };
        (alert.severity < Severity::Critical && self.switches.iter().any(settles)).then_some(Suppression::Rollout)
    }
}

/// Who said a control, by its origin: the name behind the way by which it came, where there is one.
fn speaker(origin: String) -> String {
    origin.split_once('/').map(|(_, who)| who.to_owned()).unwrap_or(origin)
}

/// Keeps the last word by its sender's clock.
fn say(words: &mut HashMap<String, Said>, alert: String, said: Said) {
    if words.len() >= WORDS_MAX
        && !words.contains_key(&alert)
        && let Some(oldest) = words.iter().min_by_key(|(_, said)| said.time).map(|(id, _)| id.clone())
    {
        words.remove(&oldest);
    }
    match words.get_mut(&alert) {
        Some(held) if held.time > said.time => {}
        Some(held) => *held = said,
        None => drop(words.insert(alert, said)),
    }
}

fn stretch(window: &FoundWindow) -> Stretch {
    Stretch {
        device: window.device.clone(),
        channel: window.channel.clone(),
        start: window.start,
        end: window.end,
        distance: window.distance,
        sequence: window.sequence,
        alert: window.alert.clone(),
        label: window.label.as_ref().map(|label| label.name.clone()),
    }
}

/// What is said to be behind an alert.
fn cause(alert: &AlertView) -> String {
    let said = alert.label.as_ref().map(|said| said.what.clone());
    let known = || alert.known.as_ref().and_then(|known| known.fault.clone());
    let loudest = || alert.channels.first().map_or_else(String::new, |share| share.name.clone());
    said.or_else(known).unwrap_or_else(loudest)
}

/// `alerts` is not empty, newest first.
fn incident(cause: String, mut alerts: Vec<AlertView>) -> Incident {
    let is_open = |alert: &&AlertView| alert.phase != Phase::Closed;
    let worst = |severity: Option<Severity>| severity.unwrap_or(Severity::Minor);
    let open: Vec<&AlertView> = alerts.iter().filter(is_open).collect();
    let unseen = open.iter().filter(|alert| alert.acknowledged.is_none() && alert.label.is_none()).count();
    let severity = match open.iter().map(|alert| alert.severity).max() {
        None => worst(alerts.iter().map(|alert| alert.severity).max()),
        open => worst(open),
    };
    let open = open.len();
    let (device, suppressed) = alerts.first().map(|alert| (alert.device.clone(), alert.suppressed)).unwrap_or_default();
    // Open ones stay however many came since.
    let mut kept = 0;
    alerts.retain(|alert| {
        kept += 1;
        alert.phase != Phase::Closed || kept <= SHOWN_MAX
    });
    Incident { device, cause, severity, suppressed, open, unseen, alerts }
}

/// What is to be heard before what is not, what nobody has seen first, then by severity, then the newest.
fn urgency(incident: &Incident) -> (bool, bool, bool, Severity, Timestamp) {
    let heard = incident.suppressed.is_none();
    let (unseen, open) = (incident.unseen > 0, incident.open > 0);
    let severity = if open { incident.severity } else { Severity::Minor };
    (heard, heard && unseen, open, severity, incident.alerts.first().map_or(0, |alert| alert.stored_at))
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
