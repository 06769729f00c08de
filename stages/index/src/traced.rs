//! The traces that alerts are part of, on the way from DETECTIONS to their contexts. In memory: at a restart they end here.

use std::sync::Arc;

use eddy_runtime::{
    bus::Delivery,
    telemetry::Telemetry,
    trace::{Contexts, Kind, Open, Remembered, Tracer},
};
use eddy_schemas::{
    Timestamp,
    alert::{CloudEvent, Phase},
};

/// See the module.
pub struct Traced {
    telemetry: Arc<Telemetry>,
    /// By alert, until its context is told.
    alerts: Remembered<String, Contexts>,
}

/// A context on its way.
pub(crate) struct Telling {
    open: Option<Open>,
    /// Headers of its message.
    pub(crate) headers: Vec<(String, String)>,
}

impl Traced {
    pub(crate) fn new(telemetry: Arc<Telemetry>) -> Self {
        Self { telemetry, alerts: Remembered::default() }
    }

    /// The time, for spans.
    pub(crate) fn now(&self) -> Timestamp {
        self.telemetry.tracer().map_or(0, Tracer::now)
    }

    /// The messages up to `reached` are written, which began at `start`.
    pub(crate) fn written(&mut self, deliveries: &[Delivery], reached: u64, start: Timestamp) {
        let taken = deliveries.iter().take_while(|delivery| delivery.sequence <= reached);
        for delivery in taken.filter(|delivery| !delivery.provenance.contexts.is_empty()) {
            let mut contexts = delivery.provenance.contexts.clone();
            if let Some(tracer) = self.telemetry.tracer() {
                let open = tracer.open("index", Kind::Consumer, &contexts, start);
                let attributes = [
                    ("messaging.system", "nats".into()),
                    ("messaging.destination.subject", delivery.subject.as_str().into()),
                    ("eddy.sequence", delivery.sequence.into()),
                ];
                tracer.close(&open, &attributes, None);
                contexts = open.contexts().clone();
            }
            if let Some(alert) = opened(delivery) {
                self.alerts.put(alert, contexts);
            }
        }
    }

    /// The context of an alert is made.
    pub(crate) fn begin(&self, alert: &str) -> Telling {
        let mut headers = Vec::new();
        let Some((_, contexts)) = self.alerts.within(alert.to_owned()..=alert.to_owned()).next() else {
            return Telling { open: None, headers };
        };
        let tracer = self.telemetry.tracer();
        let open = tracer.map(|tracer| tracer.open("context", Kind::Producer, contexts, tracer.now()));
        open.as_ref().map_or(contexts, Open::contexts).put(&mut headers);
        Telling { open, headers }
    }

    /// It is told.
    pub(crate) fn told(&mut self, alert: &str, telling: &Telling, verdict: &str) {
        if let (Some(open), Some(tracer)) = (&telling.open, self.telemetry.tracer()) {
            let attributes = [("eddy.alert", alert.into()), ("eddy.verdict", verdict.into())];
            tracer.close(open, &attributes, None);
        }
        self.alerts.take(&alert.to_owned());
    }
}

/// The alert that a message opens.
fn opened(delivery: &Delivery) -> Option<String> {
    if !delivery.subject.starts_with("alerts.") {
        return None;
    }
    let event: CloudEvent = serde_json::from_slice(&delivery.payload).ok()?;
    (event.data.phase == Phase::Opened).then_some(event.data.alert)
}
