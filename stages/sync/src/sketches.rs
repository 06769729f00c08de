//! What the region knows of, in short, comes to the gateway's own stream, where index finds it also while the link is down.

use std::sync::Arc;

use eddy_runtime::{
    bus::{Bus, BusError, Publication, PublishError, nats::Read},
    telemetry::Telemetry,
};
use eddy_schemas::{
    names,
    region::{GATEWAY_STREAM, wire::Sketch},
};
use prost::Message as _;

use crate::tail::Taker;

/// Subjects of the region's bucket, without their `>`.
const PREFIX: &str = "$KV.SKETCHES.";
/// Subjects of the region's bucket.
pub const SUBJECTS: &str = "$KV.SKETCHES.>";
/// The bucket's stream.
pub const STREAM: &str = "KV_SKETCHES";
/// A sketch's bytes at most.
const SKETCH_BYTES_MAX: usize = 1 << 20;
/// A key's.
const KEY_BYTES_MAX: usize = 200;

/// See the module.
pub struct Sketches<B> {
    /// The gateway's streams.
    pub bus: B,
    /// The site.
    pub site: String,
    /// What it tells about itself.
    pub telemetry: Arc<Telemetry>,
}

/// Where a sketch of the region's goes.
///
/// # Errors
/// What is wrong with it.
fn destination(site: &str, message: &Read) -> Result<String, String> {
    let key = message.subject.strip_prefix(PREFIX).ok_or("not a key of the bucket")?;
    let is_token = |token: &str| {
        !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=/".contains(&byte))
    };
    if key.len() > KEY_BYTES_MAX || !key.split('.').all(is_token) {
        return Err(format!("key {key:?}: at most {KEY_BYTES_MAX} letters, digits, - _ = / and dots between them"));
    }
    if message.payload.len() > SKETCH_BYTES_MAX {
        return Err(format!("{} bytes: at most {SKETCH_BYTES_MAX} are taken", message.payload.len()));
    }
    // A key that was deleted is empty, and so is the sketch then.
    Sketch::decode(message.payload.clone()).map_err(|error| format!("not a sketch: {error}"))?;
    Ok(format!("region.{}.sketch.{key}", names::encode(site)))
}

impl<B: Bus> Taker for Sketches<B> {
    async fn take(&mut self, message: &Read) -> Result<(), BusError> {
        let subject = match destination(&self.site, message) {
            Ok(subject) => subject,
            Err(problem) => {
                tracing::warn!(problem, subject = message.subject, sequence = message.sequence, "put aside");
                self.telemetry.decision("sketch_refused", 1);
                return Ok(());
            }
        };
        let last = self.bus.last(GATEWAY_STREAM, &subject).await?;
        if last.as_ref().is_some_and(|last| last.payload == message.payload) {
            return Ok(());
        }
        let publication = Publication {
            stream: GATEWAY_STREAM.into(),
            subject,
            headers: Vec::new(),
            payload: message.payload.clone(),
            guard: Some(last.map_or(0, |last| last.sequence)),
        };
        match self.bus.publish(vec![publication]).await {
            Ok(_) => {
                self.telemetry.decision("sketch_taken", 1);
                Ok(())
            }
            Err(PublishError::Fatal(problem)) => {
                tracing::error!(problem, subject = message.subject, "put aside");
                self.telemetry.decision("sketch_refused", 1);
                Ok(())
            }
            // The next try compares what is there.
            Err(error) => Err(BusError::Unavailable(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use eddy_runtime::bus::memory::{Faults, MemoryBus};

    use super::*;

    fn read(subject: &str, payload: impl Into<Bytes>) -> Read {
        Read { subject: subject.into(), sequence: 1, payload: payload.into() }
    }

    #[tokio::test]
    async fn a_sketch_is_stored_when_it_is_another() {
        let bus = MemoryBus::new(1, Faults::default());
        bus.create(GATEWAY_STREAM, 1);
        let telemetry = Arc::new(Telemetry::new("sync", 0, Duration::from_secs(1)));
        let mut sketches = Sketches { bus: bus.clone(), site: "plant 1".into(), telemetry };
        let sketch = |windows| Sketch { windows, ..Sketch::default() }.encode_to_vec();
        for payload in [sketch(1), sketch(1), sketch(2), Vec::new()] {
            sketches.take(&read("$KV.SKETCHES.ab.0", payload)).await.unwrap();
        }
        let there = bus.messages(GATEWAY_STREAM, "region.plant%201.sketch.ab.0");
        let there: Vec<_> = there.into_iter().map(|(_, payload)| payload.to_vec()).collect();
        assert_eq!(there, [sketch(1), sketch(2), Vec::new()]);
    }

    #[test]
    fn what_is_no_sketch_is_refused() {
        let good = Sketch::default().encode_to_vec();
        assert_eq!(destination("s", &read("$KV.SKETCHES.a", good.clone())).unwrap(), "region.s.sketch.a");
        let huge = Sketch { bundle: "x".repeat(SKETCH_BYTES_MAX), ..Sketch::default() }.encode_to_vec();
        for (subject, payload) in [
            ("$KV.OTHER.a", good.clone()),
            ("$KV.SKETCHES.", good.clone()),
            ("$KV.SKETCHES.a..b", good.clone()),
            ("$KV.SKETCHES.*", good.clone()),
            ("$KV.SKETCHES.a b", good),
            ("$KV.SKETCHES.a", b"\xff\xff".to_vec()),
            ("$KV.SKETCHES.a", huge),
        ] {
            assert!(destination("s", &read(subject, payload)).is_err(), "{subject}");
        }
    }
}
