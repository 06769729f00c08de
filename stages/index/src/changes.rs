//! What a message of DETECTIONS means for the store.

use std::collections::{HashMap, VecDeque};

use eddy_runtime::bus::Delivery;
use eddy_schemas::{
    ControlKind, Scores, SeriesName, Timestamp,
    alert::{CloudEvent, Phase, Share},
    flags, names,
    region::LabelNews,
};
use eddy_vectors::index::{Facts, Label, Model, Window, storable};

/// The head whose vectors stand in score rows; a bundle has one that may leave detect.
const HEAD: &str = "learned";
/// Components of a vector that another site sends, at most.
const DIMENSIONS_MAX: usize = 4_096;

/// An alert's event, as far as the store cares.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertEvent {
    /// The alert.
    pub id: String,
    /// Which one of its message's it is, from 0, if it opens with it: the same however often the message is read.
    pub opens: Option<u32>,
    /// What each channel contributed.
    pub channels: Vec<Share>,
    /// Digest of the bundle that judged.
    pub bundle: String,
}

/// A message of DETECTIONS.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its subject.
    pub subject: &'a str,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its bytes.
    pub payload: &'a [u8],
}

impl<'a> From<&'a Delivery> for Message<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        Self { subject: &delivery.subject, sequence: delivery.sequence, payload: &delivery.payload }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An alert has opened: windows of an episode of its device are its own from here on.
    Open {
        /// The device's token.
        device: String,
        /// The alert.
        alert: String,
        /// Event time of its opening.
        opened: Timestamp,
        /// What each channel contributed.
        channels: Vec<Share>,
    },
    /// A window is new.
    Add {
        /// Whose vector it has.
        model: Model,
        /// The window.
        window: Window,
        /// The alert that it opened, updated or closed.
        alert: Option<AlertEvent>,
    },
    /// Somebody says what an alert was.
    Label {
        /// The alert.
        alert: String,
        /// What they say.
        label: Label,
    },
    /// What somebody said of another site's window, with the window.
    Elsewhere {
        /// The site.
        site: String,
        /// The alert that the window opened there.
        alert: String,
        /// Whose vector it has.
        model: Model,
        /// The window; its device is `<site>/<device>`.
        window: Window,
        /// What they say.
        label: Label,
    },
    /// A device is as if it had never been seen.
    Forget {
        /// Its token.
        device: String,
    },
}

/// Events whose rows have not come yet, by device and event time: one row of a device may open an alert and the next one of the same
/// time update it.
type Events = HashMap<(String, Timestamp), VecDeque<AlertEvent>>;

/// What messages mean.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// In the messages' order.
    pub changes: Vec<Change>,
    /// Up to here they are complete: alerts come before the scores that they belong to, in one atomic batch.
    pub reached: Option<u64>,
    /// Messages that are none that detect writes.
    pub refused: Vec<String>,
}

impl Changes {
    /// Reads messages that follow each other.
    pub fn of<'a>(messages: impl IntoIterator<Item = Message<'a>>) -> Self {
        let mut read = Self::default();
        let mut alerts = Events::new();
        for message in messages {
            let subject = message.subject;
            let outcome = if subject.starts_with("alerts.") {
                alert(message.payload).map(|(key, event)| alerts.entry(key).or_default().push_back(event))
            } else {
                read.reached = Some(message.sequence);
                read.scores(message, &mut alerts)
            };
            if let Err(problem) = outcome {
                read.refused.push(format!("message {} on {subject}: {problem}", message.sequence));
            }
        }
        read
    }

    fn scores(&mut self, message: Message<'_>, alerts: &mut Events) -> Result<(), String> {
        let scores = Scores::decode(message.payload).map_err(|error| error.to_string())?;
        let mut opened = 0;
        for row in 0..scores.rows.len() {
            if let Some(control) = scores.rows.control(row) {
                match &control.kind {
                    ControlKind::RegionLabel { news, .. } if news.bundle == scores.bundle => {
                        match elsewhere(news, message.sequence) {
                            Ok(change) => self.changes.push(change),
                            // The other rows are none the worse.
                            Err(problem) => self.refused.push(format!("message {}: {problem}", message.sequence)),
                        }
                    }
                    kind => self.changes.extend(said(kind, &control.origin, control.time)),
                }
                continue;
            }
            let Some(kept) = scores.window(row) else { continue };
            let (series, end) = (scores.rows.name(row), scores.rows.time[row]);
            let key = (SeriesName::device_token(series).to_owned(), end);
            let is_alerted = scores.flags[row] & flags::ALERTED != 0;
            let mut alert = is_alerted.then(|| next_of(alerts.get_mut(&key)?, &scores.bundle)).flatten();
            if let Some(nth) = alert.as_mut().and_then(|alert| alert.opens.as_mut()) {
                *nth = opened;
                opened += 1;
                self.changes.extend(alert.as_ref().map(|alert| Change::Open {
                    device: key.0,
                    alert: alert.id.clone(),
                    opened: end,
                    channels: alert.channels.clone(),
                }));
            }
            let vector: Vec<f32> = kept.vector.iter().map(|x| x.to_f32()).collect();
            if !storable(&vector) {
                // A component beyond f16's range: such a window is near to nothing.
                continue;
            }
            let model = Model { digest: scores.bundle.clone(), head: HEAD.to_owned(), dimensions: vector.len() };
            let facts = Facts {
                start: end.saturating_sub(kept.span),
                end,
                sequence: message.sequence,
                filled: kept.filled,
                flags: scores.flags[row],
                score: scores.score[row],
            };
            self.changes.push(Change::Add {
                model,
                window: Window { series: series.to_owned(), facts, vector },
                alert,
            });
        }
        Ok(())
    }
}

/// An alert's device and event time, and what it is.
fn alert(payload: &[u8]) -> Result<((String, Timestamp), AlertEvent), String> {
    let event: CloudEvent = serde_json::from_slice(payload).map_err(|error| format!("not an alert: {error}"))?;
    let time = eddy_schemas::time_of(&event.time).ok_or_else(|| format!("{:?} is no time", event.time))?;
    let opens = (event.data.phase == Phase::Opened).then_some(0);
    Ok((
        (names::encode(&event.data.device), time),
        AlertEvent { id: event.data.alert, opens, channels: event.data.channels, bundle: event.data.bundle },
    ))
}

/// The next event of these that a row of `bundle` is about. Where bundles change places the old one's alerts are closed beside
/// rows of the new one, which are about the new one's.
fn next_of(events: &mut VecDeque<AlertEvent>, bundle: &str) -> Option<AlertEvent> {
    events.retain(|event| event.bundle == bundle);
    events.pop_front()
}

/// Another site's window, as it is stored here.
fn elsewhere(news: &LabelNews, sequence: u64) -> Result<Change, String> {
    let LabelNews { site, device, channel, alert, bundle, vector, .. } = news;
    let what = || format!("label of alert {alert:?} of site {site:?}");
    if vector.is_empty() || vector.len() > DIMENSIONS_MAX {
        return Err(format!("{}: a vector of {} components, 1 to {DIMENSIONS_MAX} are taken", what(), vector.len()));
    }
    if !storable(vector) {
        return Err(format!("{}: a component of its vector is no number, or too large", what()));
    }
    if ![site, device, channel, alert, &news.label].into_iter().all(|name| names::is_valid(name)) {
        return Err(format!("{}, {device:?}/{channel:?} {:?}: a name is empty or too long", what(), news.label));
    }
    let facts = Facts {
        start: news.start,
        end: news.end,
        sequence,
        filled: news.filled,
        flags: flags::ALERTED,
        score: news.score,
    };
    let series = SeriesName::encode(&format!("{site}/{device}"), channel);
    Ok(Change::Elsewhere {
        site: site.clone(),
        alert: alert.clone(),
        model: Model { digest: bundle.clone(), head: HEAD.to_owned(), dimensions: vector.len() },
        window: Window { series, facts, vector: vector.clone() },
        label: Label { name: news.label.clone(), origin: format!("region/{}", news.origin), time: news.time },
    })
}

fn said(kind: &ControlKind, origin: &str, time: Timestamp) -> Option<Change> {
    match kind {
        ControlKind::Label { alert, label, .. } => Some(Change::Label {
            alert: alert.clone(),
            label: Label { name: label.clone(), origin: origin.to_owned(), time },
        }),
        ControlKind::DeviceReset { device } => Some(Change::Forget { device: names::encode(device) }),
        // Windows made with the old scaling stay: what they say of the past holds. Another bundle's vectors are near to nothing here:
        // the region, which holds them all, is asked once this gateway has that bundle.
        ControlKind::Acknowledge { .. }
        | ControlKind::Maintenance { .. }
        | ControlKind::Recommission { .. }
        | ControlKind::RegionLabel { .. }
        | ControlKind::Bundle { .. } => None,
    }
}
