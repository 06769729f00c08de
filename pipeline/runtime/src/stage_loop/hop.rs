//! Where an output comes from, told in its headers: when the oldest reading in it arrived, and the traces that it is part of.
//!
//! Noted for each call of the stage, never for a row, and never for rows whose output is out already. What gave no output yet is
//! kept for the next one; an empty checkpoint ends it.

use eddy_schemas::names;

use super::*;
use crate::{
    stage::{AlertMessage, Batch},
    trace::{Contexts, Kind, Open, Provenance, Span, Value, current},
};

/// Alerts of an output that get spans of their own; later ones carry the output's.
const ALERT_SPANS_MAX: usize = 64;

/// What is in hand.
#[derive(Debug, Default)]
pub(super) struct Hop {
    provenance: Provenance,
    /// When each of its traces came: the pull of the first message that is part of it.
    since: Vec<Timestamp>,
    /// The messages with traces: stream, first and last sequence.
    messages: Option<(String, u64, u64)>,
    /// When the pull in hand came.
    pulled: Timestamp,
}

impl Hop {
    /// Rows of a message are processed.
    pub(super) fn note(&mut self, provenance: &Provenance, stream: &str, sequence: u64) {
        let own = &mut self.provenance;
        own.arrived = match (own.arrived, provenance.arrived) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        if provenance.contexts.is_empty() {
            return;
        }
        for context in provenance.contexts.iter() {
            if own.contexts.add(context) {
                self.since.push(self.pulled);
            }
        }
        match &mut self.messages {
            Some((known, _, last)) if known == stream => *last = (*last).max(sequence),
            Some(_) => {}
            None => self.messages = Some((stream.to_owned(), sequence, sequence)),
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self { pulled: self.pulled, ..Self::default() };
    }
}

/// An output on its way.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    arrived: Option<Timestamp>,
    /// Its spans, where there are a tracer and traces.
    open: Option<Open>,
    messages: Option<(String, u64, u64)>,
    /// Headers of the output: none of one that is empty.
    pub(super) headers: Vec<(String, String)>,
    alerts: Vec<(Open, Vec<(&'static str, Value)>)>,
    rows: usize,
    alert_count: usize,
    /// The traces as they came, where there is no tracer.
    passed: Contexts,
}

impl Leaving {
    /// The trace that it is logged with: its first.
    pub(super) fn trace(&self) -> Option<u128> {
        self.open.as_ref().map_or(&self.passed, Open::contexts).first().map(|context| context.trace)
    }

    /// Headers of the alert at `index`.
    pub(super) fn alert_headers(&self, index: usize, headers: &mut Vec<(String, String)>) {
        if let Some((open, _)) = self.alerts.get(index) {
            open.contexts().put(headers);
        } else {
            self.open.as_ref().map_or(&self.passed, Open::contexts).put(headers);
        }
    }
}

impl<S: Stage, B: Bus> Runner<S, B> {
    /// A pull came. The first stage says when its readings arrived, and begins traces.
    pub(super) fn arrive(&mut self, pulled: &mut Pulled<S::Input>) {
        self.hop.pulled = self.clock.now();
        let mut first = None;
        match pulled {
            Pulled::Stream(input, deliveries) => {
                if S::SPEC.inputs[*input].is_from_outside() {
                    let stream = &self.sources[*input].stream;
                    for delivery in &mut *deliveries {
                        delivery.provenance.arrived = Some(delivery.stored_at);
                    }
                    let parts = deliveries.iter_mut().map(|d| (&d.subject, d.sequence, &mut d.provenance));
                    begin(&self.telemetry, self.hop.pulled, stream, parts);
                }
                first = first.or(deliveries.iter().find_map(|delivery| delivery.provenance.contexts.first()));
            }
            Pulled::Direct(requests) => {
                let parts = requests.iter_mut().map(|r| (&r.message.subject, r.message.sequence, &mut r.provenance));
                begin(&self.telemetry, self.hop.pulled, crate::direct::STREAM, parts);
                first = first.or(requests.iter().find_map(|request| request.provenance.contexts.first()));
            }
        }
        current::set(first.map(|context| context.trace));
    }

    /// The outbox goes out: what is in hand goes with it.
    pub(super) fn leave(&mut self) -> Leaving {
        let rows = self.outbox.main.iter().map(Batch::rows).sum();
        let alert_count = self.outbox.alerts.len();
        let mut hop = std::mem::take(&mut self.hop);
        self.hop.pulled = hop.pulled;
        let mut leaving = Leaving {
            arrived: hop.provenance.arrived,
            messages: hop.messages,
            rows,
            alert_count,
            ..Leaving::default()
        };
        if let Some(tracer) = self.telemetry.tracer().filter(|_| !hop.provenance.contexts.is_empty()) {
            let parents = hop.provenance.contexts.iter().zip(hop.since);
            let open = tracer.open_each(S::SPEC.name, Kind::Consumer, parents);
            hop.provenance.contexts = open.contexts().clone();
            let now = tracer.now();
            let alerts = self.outbox.alerts.iter().take(ALERT_SPANS_MAX);
            leaving.alerts = alerts
                .map(|alert| (tracer.open("alert", Kind::Producer, open.contexts(), now), about(alert)))
                .collect();
            leaving.open = Some(open);
        } else {
            leaving.passed = hop.provenance.contexts.clone();
        }
        if rows > 0 || alert_count > 0 {
            hop.provenance.put(&mut leaving.headers);
        }
        leaving
    }

    /// The output was acknowledged at `now`.
    pub(super) fn left(&self, leaving: &Leaving, now: Timestamp) {
        let trace = leaving.open.as_ref().and_then(|open| open.contexts().first());
        if let Some(arrived) = leaving.arrived.filter(|_| leaving.rows > 0) {
            self.telemetry.age((now - arrived) as f64 / 1e9, trace, now);
        }
        let (Some(open), Some(tracer)) = (&leaving.open, self.telemetry.tracer()) else { return };
        let mut attributes: Vec<(&'static str, Value)> = vec![
            ("messaging.system", "nats".into()),
            ("messaging.destination.name", S::SPEC.output_stream.into()),
            ("eddy.shard", u64::from(self.config.site.shard).into()),
            ("eddy.sequence", self.outputs.first().map_or(0, |output| output.last_sequence).into()),
            ("eddy.rows", leaving.rows.into()),
            ("eddy.alerts", leaving.alert_count.into()),
        ];
        if let Some((stream, first, last)) = &leaving.messages {
            attributes.push(("eddy.input.stream", stream.as_str().into()));
            attributes.push(("eddy.input.first_sequence", (*first).into()));
            attributes.push(("eddy.input.last_sequence", (*last).into()));
        }
        let ids: Vec<&str> = leaving
            .alerts
            .iter()
            .filter_map(|(_, about)| match about.first() {
                Some(("eddy.alert", Value::Text(id))) => Some(id.as_str()),
                _ => None,
            })
            .collect();
        if !ids.is_empty() {
            attributes.push(("eddy.alert_ids", ids.join(",").into()));
        }
        tracing::debug!(rows = leaving.rows, alerts = leaving.alert_count, "an output with a trace is out");
        tracer.close(open, &attributes, None);
        for (alert, about) in &leaving.alerts {
            tracer.close(alert, about, None);
        }
    }
}

/// What an alert's span says, as far as the message tells it: its id first.
fn about(alert: &AlertMessage) -> Vec<(&'static str, Value)> {
    let mut attributes = Vec::new();
    if let Ok(event) = serde_json::from_slice::<eddy_schemas::alert::CloudEvent>(&alert.payload) {
        attributes.push(("eddy.alert", event.data.alert.into()));
        attributes.push(("eddy.event", event.id.into()));
    }
    let mut tokens = alert.subject.split('.').skip(2);
    if let (Some(severity), Some(device)) = (tokens.next(), tokens.next()) {
        attributes.push(("eddy.severity", severity.into()));
        attributes.push(("eddy.device", names::decode(device).into()));
    }
    attributes
}

/// Begins traces with what came: those that devices began, while as many may; else one of its own, while one may. The first span is that
/// of the reading's wait until it was pulled.
fn begin<'m>(
    telemetry: &Telemetry,
    pulled: Timestamp,
    stream: &str,
    messages: impl Iterator<Item = (&'m String, u64, &'m mut Provenance)>,
) {
    let mut began = false;
    let mut oldest = None;
    let tracer = telemetry.tracer();
    for (subject, sequence, provenance) in messages {
        let asked = std::mem::take(&mut provenance.contexts).first();
        let Some(tracer) = tracer else { continue };
        match asked.filter(|_| tracer.takes()) {
            Some(parent) => {
                began = true;
                let own = tracer.child(parent);
                ingest(tracer, Some(parent.span), own, pulled, (stream, subject, sequence), provenance);
            }
            None if oldest.is_none() => oldest = Some((subject, sequence, provenance)),
            None => {}
        }
    }
    if let (Some(tracer), Some((subject, sequence, provenance))) = (tracer, oldest)
        && !began
        && tracer.takes()
    {
        ingest(tracer, None, tracer.root(), pulled, (stream, subject, sequence), provenance);
    }
}

fn ingest(
    tracer: &crate::trace::Tracer,
    parent: Option<u64>,
    context: crate::trace::TraceContext,
    pulled: Timestamp,
    (stream, subject, sequence): (&str, &str, u64),
    provenance: &mut Provenance,
) {
    provenance.contexts = Contexts::from_iter([context]);
    let mut attributes: Vec<(&'static str, Value)> = vec![
        ("messaging.system", "nats".into()),
        ("messaging.destination.name", stream.into()),
        ("messaging.destination.subject", subject.into()),
    ];
    if stream != crate::direct::STREAM {
        attributes.push(("eddy.sequence", sequence.into()));
    }
    attributes.extend(subject.split('.').nth(2).map(|device| ("eddy.device", names::decode(device).into())));
    let start = provenance.arrived.unwrap_or(pulled);
    let (kind, links) = (Kind::Internal, Vec::new());
    tracer.emit(Span {
        name: "ingest",
        context,
        parent,
        kind,
        start,
        end: pulled.max(start),
        attributes,
        links,
        error: None,
    });
}
