//! What is known of an alert's window: its neighbours here and in the region, and what they make of it.

use std::{collections::BTreeSet, sync::Arc};

use eddy_runtime::{
    bus::{Bus, Publication, PublishError},
    position::Position,
    store_loop::SinkError,
    telemetry::Telemetry,
};
use eddy_schemas::{
    Control, ControlKind, SeriesName,
    context::{Context, RegionContext, Tier, Verdict},
    names, rfc3339,
    search::{FoundLabel, FoundWindow},
};
use eddy_vectors::index::{Filter, IndexError, Label, Neighbour, Query, Recall, Searcher, WindowId};
use tokio::{task::block_in_place, time::Instant};

use crate::{
    config::Config,
    region::{Asking, Question, Region},
    sink::sink_error,
    verdict,
};

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

/// A context that the region's part is missing of, and what it is to be asked.
pub struct Draft {
    context: Context,
    about: About,
    /// How many windows here are near.
    near: usize,
    question: Question,
}

impl Draft {
    /// The window that opened the alert.
    pub(crate) fn window(&self) -> WindowId {
        self.context.window.window
    }

    /// The alert.
    pub(crate) fn alert(&self) -> &str {
        &self.context.alert
    }
}

/// Makes and publishes context messages.
pub struct Contexts<B, R> {
    pub(crate) bus: B,
    pub(crate) asking: Asking<R>,
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

impl<B: Bus, R: Region> Contexts<B, R> {
    /// What the gateway itself knows of the window that opened an alert; `None` of one that was deleted before that was told.
    pub(crate) fn draft(&self, searcher: &Searcher, due: &Due) -> Result<Option<Draft>, SinkError> {
        block_in_place(|| self.make(searcher, due)).map_err(|error| sink_error(&error))
    }

    /// What the region knows of them; all are asked about at the same time, and none is waited for past `until`.
    pub(crate) async fn ask(&self, drafts: &mut [Draft], until: Instant) -> Vec<Option<RegionContext>> {
        let questions = drafts.iter_mut().map(|draft| std::mem::replace(&mut draft.question, Question::None));
        self.asking.ask(questions.collect(), until).await
    }

    /// When what is asked now must be answered.
    pub(crate) fn until(&self) -> Instant {
        self.asking.until()
    }

    /// Publishes a context, once; and, under the policy, the label that follows from it. A device whose context cannot be told is
    /// `blocked` for its later ones. Returns the kind of its verdict.
    pub(crate) async fn tell(
        &self,
        draft: Draft,
        region: Option<RegionContext>,
        blocked: &mut BTreeSet<String>,
        headers: &[(String, String)],
    ) -> Result<&'static str, SinkError> {
        let Draft { mut context, about, near, .. } = draft;
        if blocked.contains(&context.device) {
            return Err(SinkError::Again(format!("context of alert {} waits for one before it", context.alert)));
        }
        if let Some(region) = region {
            context.verdict = verdict::with_region(context.verdict, &region, self.config.votes);
            context.text = verdict::text(&context.verdict, near, Some(&region));
            context.region = Some(region);
        }
        let told = self.publish_once(&context, about, headers).await;
        let kind = verdict::kind(&context.verdict);
        if told.is_err() {
            blocked.insert(context.device);
        }
        told.map(|()| kind)
    }

    fn make(&self, searcher: &Searcher, due: &Due) -> Result<Option<Draft>, IndexError> {
        let window = due.window;
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
        let mut agree = 0;
        for sibling in siblings.iter().filter(|sibling| verdict::is_said(sibling)) {
            // What another site's devices show has nothing to do with the weather here.
            agree += usize::from(!is_elsewhere(searcher, sibling.window)?);
        }
        let verdict = if agree >= self.config.votes {
            Verdict::KnownNormal { votes: agree, sibling: true, tier: Tier::Gateway }
        } else {
            verdict::of_gateway(&near, device, self.config.votes)
        };
        let near_count = near.len();
        let radius = self.config.near * length;
        let question = self.asking.question(&model.digest, &vector, radius, &names::decode(channel));
        let segments = searcher.segments();
        let neighbours: Result<Vec<FoundWindow>, IndexError> =
            neighbours.iter().take(told).map(|neighbour| found(searcher, neighbour)).collect();
        let own = found(searcher, &own)?;
        let position: Position = searcher.position()?.unwrap_or_default().parse().unwrap_or_default();
        let incarnation = position.place("DETECTIONS").map_or(0, |place| place.incarnation);
        let about = (incarnation, own.sequence, due.nth);
        let context = Context {
            alert: due.alert.clone(),
            site: self.site.clone(),
            device: own.device.clone(),
            opened: rfc3339(own.end),
            text: verdict::text(&verdict, near_count, None),
            verdict,
            window: own,
            neighbours: neighbours?,
            windows: segments.iter().map(|segment| u64::from(segment.count)).sum(),
            bundle: model.digest,
            region: None,
        };
        Ok(Some(Draft { context, about, near: near_count, question }))
    }

    /// The last message on the device's subject says whether this one is out; the guard keeps it from going out twice.
    async fn publish_once(
        &self,
        context: &Context,
        about: About,
        headers: &[(String, String)],
    ) -> Result<(), SinkError> {
        let subject = format!("context.{}.{}", names::encode(&self.site), names::encode(&context.device));
        let away = |problem: String| SinkError::Again(format!("context of alert {}: {problem}", context.alert));
        let last = self.bus.last("CONTEXT", &subject).await.map_err(|error| away(error.to_string()))?;
        let reached = last.as_ref().and_then(|last| last.header(HEADER)).and_then(about_of);
        if reached.is_some_and(|reached| reached.0 == about.0 && reached >= about) {
            return Ok(());
        }
        if self.config.normal_closes && matches!(context.verdict, Verdict::KnownNormal { tier: Tier::Gateway, .. }) {
            self.say_normal(context).await?;
        }
        let payload = serde_json::to_vec(context).map_err(|error| away(error.to_string()))?;
        let own = [
            (HEADER.into(), format!("{}:{}:{}", about.0, about.1, about.2)),
            ("Content-Type".into(), "application/json".into()),
        ];
        let message = Publication {
            stream: "CONTEXT".into(),
            subject,
            headers: own.into_iter().chain(headers.iter().cloned()).collect(),
            payload: payload.into(),
            guard: Some(last.map_or(0, |last| last.sequence)),
        };
        self.bus.publish(vec![message]).await.map_err(|error| away(error.to_string()))?;
        self.telemetry.decision(verdict::kind(&context.verdict), 1);
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

/// What another site's window is filed under; an alert of this site has no `/` in its name.
pub fn elsewhere_tag(site: &str, alert: &str) -> String {
    format!("{}/{}", names::encode(site), names::encode(alert))
}

/// Whether a window is another site's.
fn is_elsewhere(searcher: &Searcher, window: WindowId) -> Result<bool, IndexError> {
    Ok(searcher.tag(window)?.is_some_and(|tag| tag.contains('/')))
}

/// Incarnation and message of DETECTIONS, and which one of that message's alerts.
type About = (i64, u64, u32);

fn about_of(text: &str) -> Option<About> {
    let mut parts = text.split(':');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

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
