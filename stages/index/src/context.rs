//! What the gateway knows of an alert's window: its neighbours, and what they make of it.

use std::{collections::BTreeSet, sync::Arc};

use eddy_runtime::{
    bus::{Bus, Publication, PublishError},
    position::Position,
    store_loop::SinkError,
    telemetry::Telemetry,
};
use eddy_schemas::{
    Control, ControlKind, SeriesName,
    context::{Context, Verdict},
    names, rfc3339,
    search::{FoundLabel, FoundWindow},
};
use eddy_vectors::index::{Filter, IndexError, Label, Neighbour, Query, Recall, Searcher, WindowId};
use tokio::task::block_in_place;

use crate::{config::Config, sink::sink_error};

/// Names the alert in a context message: the incarnation of DETECTIONS, its message, which one of that message's it is.
const HEADER: &str = "Eddy-About";
/// Neighbours that are looked at beyond those that are told, since those that overlap the window are left out.
const SPARE: usize = 40;
/// A context is worth a better search than a question.
const RECALL: f32 = 0.99;
/// Who sends a label that follows from others. Such labels are no evidence themselves.
pub const ORIGIN: &str = Label::DERIVED;

/// A context that is due.
pub struct Due {
    /// The window that opened the alert.
    pub(crate) window: WindowId,
    /// See [`crate::changes::AlertEvent::opens`].
    pub(crate) nth: u32,
    /// The alert.
    pub(crate) alert: String,
}

impl Due {
    /// As it stands in the outbox.
    pub(crate) fn record(&self) -> Vec<u8> {
        [&self.nth.to_le_bytes(), self.alert.as_bytes()].concat()
    }

    /// Reads what [`Self::record`] wrote.
    pub(crate) fn read(window: WindowId, record: &[u8]) -> Option<Self> {
        let (nth, alert) = record.split_first_chunk()?;
        let alert = String::from_utf8(alert.to_vec()).ok()?;
        Some(Self { window, nth: u32::from_le_bytes(*nth), alert })
    }
}

/// Makes and publishes context messages.
pub struct Contexts<B> {
    pub(crate) bus: B,
    pub(crate) site: String,
    pub(crate) config: Config,
    pub(crate) telemetry: Arc<Telemetry>,
}

/// A window in an answer.
///
/// # Errors
/// The searcher's.
pub fn found(searcher: &Searcher, neighbour: &Neighbour) -> Result<FoundWindow, IndexError> {
    let (device, channel) = neighbour.series.split_once('/').unwrap_or((&neighbour.series, ""));
    let facts = neighbour.facts;
    Ok(FoundWindow {
        window: neighbour.window,
        device: names::decode(device),
        channel: names::decode(channel),
        start: facts.start,
        end: facts.end,
        distance: neighbour.distance,
        score: facts.score,
        filled: facts.filled,
        sequence: facts.sequence,
        alert: searcher.tag(neighbour.window)?,
        label: neighbour.label.clone().map(|label| FoundLabel {
            name: label.name,
            origin: label.origin,
            time: label.time,
        }),
    })
}

impl<B: Bus> Contexts<B> {
    /// Publishes what is known of the window that opened an alert, once; and, under the policy, the label that follows from it.
    /// A device whose context cannot be told is `blocked` for its later ones.
    pub(crate) async fn tell(
        &self,
        searcher: &Searcher,
        due: &Due,
        blocked: &mut BTreeSet<String>,
    ) -> Result<(), SinkError> {
        let made =
            block_in_place(|| self.make(searcher, due.window, &due.alert)).map_err(|error| sink_error(&error))?;
        // A window that was deleted before its context was told has none.
        let Some(context) = made else { return Ok(()) };
        let position = block_in_place(|| searcher.position()).map_err(|error| sink_error(&error))?;
        let position: Position = position.unwrap_or_default().parse().unwrap_or_default();
        let incarnation = position.place("DETECTIONS").map_or(0, |place| place.incarnation);
        let about = (incarnation, context.window.sequence, due.nth);
        if blocked.contains(&context.device) {
            return Err(SinkError::Again(format!("context of alert {} waits for one before it", due.alert)));
        }
        let told = self.publish_once(&context, about).await;
        if told.is_err() {
            blocked.insert(context.device);
        }
        told
    }

    fn make(&self, searcher: &Searcher, window: WindowId, alert: &str) -> Result<Option<Context>, IndexError> {
        let Some((own, vector, model)) = searcher.window(window)? else { return Ok(None) };
        let told = self.config.context_neighbours;
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        let (device, channel) = own.series.split_once('/').unwrap_or((&own.series, ""));
        let query = Query {
            model: &model,
            vector: &vector,
            count: told + SPARE,
            radius: f32::INFINITY,
            recall: Recall::AtLeast(RECALL),
            // What is known of one kind of channel says nothing of another.
            filter: Filter { before: Some(window), channel: Some(channel.to_owned()), ..Filter::default() },
        };
        let siblings = searcher.search(&Query {
            radius: self.config.sibling_near * length,
            recall: Recall::Exact,
            filter: Filter {
                other_than_device: Some(device.to_owned()),
                label: Some(Label::NORMAL.into()),
                since: Some(own.facts.end.saturating_sub((self.config.sibling_within_s * 1e9) as i64)),
                ..query.filter.clone()
            },
            ..query.clone()
        })?;
        let overlaps =
            |other: &Neighbour| SeriesName::device_token(&other.series) == device && other.facts.end > own.facts.start;
        let mut neighbours = searcher.search(&query)?;
        neighbours.retain(|other| !overlaps(other));
        let near: Vec<&Neighbour> =
            neighbours.iter().filter(|other| other.distance <= self.config.near * length).collect();
        let agree = siblings.iter().filter(|other| is_said(other)).count();
        let verdict = if agree >= self.config.votes {
            Verdict::KnownNormal { votes: agree, sibling: true }
        } else {
            verdict(&near, device, self.config.votes)
        };
        let segments = searcher.segments();
        let neighbours: Result<Vec<FoundWindow>, IndexError> =
            neighbours.iter().take(told).map(|neighbour| found(searcher, neighbour)).collect();
        let own = found(searcher, &own)?;
        Ok(Some(Context {
            alert: alert.to_owned(),
            site: self.site.clone(),
            device: own.device.clone(),
            opened: rfc3339(own.end),
            text: text(&verdict, near.len()),
            verdict,
            window: own,
            neighbours: neighbours?,
            windows: segments.iter().map(|segment| u64::from(segment.count)).sum(),
            bundle: model.digest,
        }))
    }

    /// The last message on the device's subject says whether this one is out; the guard keeps it from going out twice.
    async fn publish_once(&self, context: &Context, about: About) -> Result<(), SinkError> {
        let subject = format!("context.{}.{}", names::encode(&self.site), names::encode(&context.device));
        let away = |problem: String| SinkError::Again(format!("context of alert {}: {problem}", context.alert));
        let last = self.bus.last("CONTEXT", &subject).await.map_err(|error| away(error.to_string()))?;
        let reached = last.as_ref().and_then(|last| last.header(HEADER)).and_then(about_of);
        if reached.is_some_and(|reached| reached.0 == about.0 && reached >= about) {
            return Ok(());
        }
        if self.config.normal_closes && matches!(context.verdict, Verdict::KnownNormal { .. }) {
            self.say_normal(context).await?;
        }
        let payload = serde_json::to_vec(context).map_err(|error| away(error.to_string()))?;
        let message = Publication {
            stream: "CONTEXT".into(),
            subject,
            headers: vec![
                (HEADER.into(), format!("{}:{}:{}", about.0, about.1, about.2)),
                ("Content-Type".into(), "application/json".into()),
            ],
            payload: payload.into(),
            guard: Some(last.map_or(0, |last| last.sequence)),
        };
        self.bus.publish(vec![message]).await.map_err(|error| away(error.to_string()))?;
        self.telemetry.decision(kind(&context.verdict), 1);
        Ok(())
    }

    /// Sends the label as an operator would, by the alert's time. It may go out twice, if this dies before the context is out.
    async fn say_normal(&self, context: &Context) -> Result<(), SinkError> {
        let control = Control {
            id: format!("{ORIGIN}-{}", context.alert),
            origin: ORIGIN.into(),
            time: context.window.end,
            kind: ControlKind::Label {
                device: context.device.clone(),
                alert: context.alert.clone(),
                label: Label::NORMAL.into(),
            },
        };
        let message = Publication {
            stream: "CONTROL".into(),
            subject: format!("control.{}.{}", names::encode(&self.site), control.subject_token()),
            headers: vec![("Nats-Msg-Id".into(), control.id.clone())],
            payload: control.to_json().into(),
            guard: None,
        };
        match self.bus.publish(vec![message]).await {
            Ok(_) => Ok(()),
            Err(PublishError::Fatal(problem)) => Err(SinkError::Fatal(problem)),
            Err(error) => Err(SinkError::Again(format!("label of alert {}: {error}", context.alert))),
        }
    }
}

/// Incarnation and message of DETECTIONS, and which one of that message's alerts.
type About = (i64, u64, u32);

fn about_of(text: &str) -> Option<About> {
    let mut parts = text.split(':');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether somebody said it, and not index itself.
fn is_said(window: &Neighbour) -> bool {
    window.label.as_ref().is_some_and(|label| label.origin != ORIGIN)
}

/// What near windows, nearest first, say: the label that most of the nearest labelled ones carry, if enough do; else whether
/// the device or others have shown the like.
fn verdict(near: &[&Neighbour], device: &str, votes: usize) -> Verdict {
    let is_own = |other: &Neighbour| SeriesName::device_token(&other.series) == device;
    let labelled = near.iter().filter_map(|other| Some((other, other.label.as_ref()?)));
    let labelled: Vec<_> = labelled.filter(|(other, _)| is_said(other)).collect();
    if let Some((_, first)) = labelled.first() {
        let alike: Vec<_> = labelled.iter().filter(|(_, label)| label.name == first.name).collect();
        if alike.len() >= votes && 2 * alike.len() > labelled.len() {
            return match first.name.as_str() {
                Label::NORMAL => {
                    Verdict::KnownNormal { votes: alike.len(), sibling: alike.iter().any(|(other, _)| !is_own(other)) }
                }
                name => Verdict::Fault { name: name.to_owned(), votes: alike.len() },
            };
        }
    }
    if near.is_empty() {
        Verdict::NovelToGateway
    } else if near.iter().any(|other| is_own(other)) {
        Verdict::Recurring
    } else {
        Verdict::NovelToDevice
    }
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Fault { .. } => "fault",
        Verdict::KnownNormal { .. } => "known_normal",
        Verdict::Recurring => "recurring",
        Verdict::NovelToDevice => "novel_to_device",
        Verdict::NovelToGateway => "novel_to_gateway",
    }
}

fn text(verdict: &Verdict, near: usize) -> String {
    match verdict {
        Verdict::Fault { name, votes } => format!("matches fault {name} (said of {votes} windows like it)"),
        Verdict::KnownNormal { votes, sibling: true } => {
            format!("known normal on siblings (said of {votes} windows like it)")
        }
        Verdict::KnownNormal { votes, sibling: false } => format!("known normal (said of {votes} windows like it)"),
        Verdict::Recurring => format!("seen on this device before ({near} near windows, no label)"),
        Verdict::NovelToDevice => format!("new to this device, seen on others ({near} near windows, no label)"),
        Verdict::NovelToGateway => "new to this gateway".into(),
    }
}

#[cfg(test)]
mod tests {
    use eddy_vectors::index::Facts;

    use super::*;

    fn near(series: &str, label: Option<(&str, &str)>) -> Neighbour {
        let facts = Facts { start: 0, end: 1, sequence: 1, filled: 1, flags: 0, score: 0.0 };
        let label = label.map(|(name, origin)| Label { name: name.into(), origin: origin.into(), time: 0 });
        Neighbour { window: 1, distance: 0.1, series: series.into(), facts, label }
    }

    #[test]
    fn labels_count_before_neighbours_without_and_never_those_that_index_gave() {
        let of = |near: &[Neighbour], votes| verdict(&near.iter().collect::<Vec<_>>(), "d", votes);
        assert_eq!(of(&[], 1), Verdict::NovelToGateway);
        assert_eq!(of(&[near("e/t", None)], 1), Verdict::NovelToDevice);
        assert_eq!(of(&[near("e/t", None), near("d/t", None)], 1), Verdict::Recurring);
        let normal = |series| near(series, Some(("normal", "cli")));
        let leak = |series| near(series, Some(("leak", "cli")));
        assert_eq!(of(&[normal("e/t")], 1), Verdict::KnownNormal { votes: 1, sibling: true });
        assert_eq!(of(&[normal("d/t")], 1), Verdict::KnownNormal { votes: 1, sibling: false });
        assert_eq!(of(&[normal("e/t")], 2), Verdict::NovelToDevice, "one vote of two");
        assert_eq!(of(&[leak("e/t"), leak("f/t"), normal("d/t")], 2), Verdict::Fault { name: "leak".into(), votes: 2 });
        assert_eq!(of(&[leak("e/t"), normal("d/t")], 1), Verdict::Recurring, "they do not agree");
        assert_eq!(of(&[near("e/t", Some(("normal", ORIGIN)))], 1), Verdict::NovelToDevice);
    }

    #[test]
    fn what_a_message_is_about_comes_back() {
        assert_eq!(about_of("17:4:3"), Some((17, 4, 3)));
        let due = Due { window: 7, nth: 2, alert: "00ff".into() };
        let read = Due::read(7, &due.record()).unwrap();
        assert_eq!((read.nth, read.alert.as_str()), (2, "00ff"));
        assert!(Due::read(7, b"abc").is_none());
        assert_eq!(about_of("17:4"), None);
    }
}
