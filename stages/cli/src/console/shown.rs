//! What of a view a page gets: bounded, however much there is, and in the order in which it needs somebody.

use std::collections::BTreeMap;

use eddy_schemas::Timestamp;
use serde::Serialize;

use crate::{
    rollout::seen::Seen,
    status::{Aside, StreamUse},
    watch::view::{AlertView, Disk, Incident, StageView, Suppression, View},
};

/// Incidents of each kind.
const INCIDENTS_MAX: usize = 50;
/// Alerts of an incident.
const ALERTS_MAX: usize = 4;
/// Shares of channels, and of heads.
const SHARES_MAX: usize = 8;
/// The curves of so many are drawn.
const NEIGHBOURS_MAX: usize = 3;
/// Conditions, and devices under maintenance.
const LISTED_MAX: usize = 200;

/// What a page asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// Who acts there.
    pub who: String,
    /// Words that must stand in an incident.
    pub filter: String,
}

#[derive(Serialize)]
struct Shown<'a> {
    number: u64,
    who: &'a str,
    site: &'a str,
    url: &'a str,
    at: Timestamp,
    trouble: Option<&'a str>,
    open: Listed<ShownIncident>,
    over: Listed<ShownIncident>,
    suppressed: Listed<ShownIncident>,
    counts: Counts<'a>,
    stages: &'a [StageView],
    streams: &'a [StreamUse],
    disk: Option<Disk>,
    link: &'a Option<eddy_schemas::sync::UplinkStats>,
    index: &'a Option<eddy_schemas::search::IndexStats>,
    bundles: &'a Seen,
    wish: &'a Option<eddy_schemas::models::State>,
    conditions: Listed<&'a eddy_schemas::health::Health>,
    aside: &'a BTreeMap<String, Aside>,
    maintenance: Listed<(&'a String, &'a Option<Timestamp>)>,
}

/// Without the filter.
#[derive(Serialize)]
struct Counts<'a> {
    open: usize,
    unseen: usize,
    suppressed: &'a BTreeMap<Suppression, usize>,
    held: usize,
}

#[derive(Serialize)]
struct Listed<T> {
    shown: Vec<T>,
    /// How many there are.
    all: usize,
}

impl<T> Listed<T> {
    fn of(all: impl Iterator<Item = T>, most: usize) -> Self {
        let (mut shown, mut count) = (Vec::new(), 0);
        for one in all {
            count += 1;
            if shown.len() < most {
                shown.push(one);
            }
        }
        Self { shown, all: count }
    }

    fn map<U>(self, make: impl Fn(T) -> U) -> Listed<U> {
        Listed { shown: self.shown.into_iter().map(make).collect(), all: self.all }
    }
}

#[derive(Serialize)]
struct ShownIncident {
    #[serde(flatten)]
    incident: Incident,
    /// How many alerts there are.
    all: usize,
}

/// A view as JSON.
pub(super) fn json(number: u64, view: &View, asked: &Asked) -> String {
    let words: Vec<String> = asked.filter.to_lowercase().split_whitespace().map(str::to_owned).collect();
    let of = |kind: Kind| {
        let all =
            view.alerts.incidents.iter().filter(|incident| kind_of(incident) == kind && matches(incident, &words));
        Listed::of(all, INCIDENTS_MAX).map(incident)
    };
    let alerts = &view.alerts;
    let shown = Shown {
        number,
        who: &asked.who,
        site: &view.site,
        url: &view.url,
        at: view.at,
        trouble: view.trouble.as_deref(),
        open: of(Kind::Open),
        over: of(Kind::Over),
        suppressed: of(Kind::Suppressed),
        counts: Counts { open: alerts.open, unseen: alerts.unseen, suppressed: &alerts.suppressed, held: alerts.held },
        stages: &view.stages,
        streams: &view.streams,
        disk: view.disk,
        link: &view.link,
        index: &view.index,
        bundles: &view.bundles,
        wish: &view.wish,
        conditions: Listed::of(view.conditions.iter(), LISTED_MAX),
        aside: &view.aside,
        maintenance: Listed::of(view.maintenance.iter(), LISTED_MAX),
    };
    serde_json::to_string(&shown).expect("plain data with keys of text is JSON")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Over,
    Suppressed,
}

fn kind_of(incident: &Incident) -> Kind {
    match (incident.suppressed, incident.open) {
        (Some(_), _) => Kind::Suppressed,
        (None, 0) => Kind::Over,
        (None, _) => Kind::Open,
    }
}

/// Whether every word stands somewhere in it.
fn matches(incident: &Incident, words: &[String]) -> bool {
    if words.is_empty() {
        return true;
    }
    let mut text = format!("{} {} {}", incident.device, incident.cause, incident.severity.as_str());
    for alert in &incident.alerts {
        let said =
            [&alert.label, &alert.acknowledged].into_iter().flatten().map(|said| format!("{} {}", said.what, said.by));
        let known = alert.known.iter().map(|known| known.text.clone());
        let channels = alert.channels.iter().map(|share| share.name.clone());
        for part in said.chain(known).chain(channels).chain([alert.alert.clone()]) {
            text.push(' ');
            text.push_str(&part);
        }
    }
    let text = text.to_lowercase();
    words.iter().all(|word| text.contains(word))
}

fn incident(held: &Incident) -> ShownIncident {
    let alerts: Vec<AlertView> = held.alerts.iter().take(ALERTS_MAX).cloned().map(alert).collect();
    // Not all of them are copied to be cut.
    let incident = Incident {
        device: held.device.clone(),
        cause: held.cause.clone(),
        severity: held.severity,
        suppressed: held.suppressed,
        open: held.open,
        unseen: held.unseen,
        alerts,
    };
    ShownIncident { incident, all: held.alerts.len() }
}

fn alert(mut alert: AlertView) -> AlertView {
    alert.channels.truncate(SHARES_MAX);
    alert.heads.truncate(SHARES_MAX);
    if let Some(known) = &mut alert.known {
        known.neighbours.truncate(NEIGHBOURS_MAX);
    }
    alert
}
