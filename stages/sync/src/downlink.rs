//! What somebody in the region said of a window becomes a control of this gateway: it takes its place among the readings.
//!
//! News of a window of this site's is a label of its alert, as an operator here would give it. News of another site's is a `region_label`
//! that brings the window along. What was said here is not said again. A control that goes out twice has the same id both times.

use eddy_runtime::{
    bus::{Bus, BusError, Publication, PublishError, nats::Read},
    telemetry::Telemetry,
};
use eddy_schemas::{Control, ControlKind, names, region::LabelNews};
use std::sync::Arc;

use crate::tail::Taker;

/// What the origin of such a control begins with; such labels are not sent to the region again.
pub const ORIGIN: &str = "region/";
/// Subjects of the region's stream.
pub const SUBJECTS: &str = "region.label.>";

/// See the module.
pub struct Downlink<B> {
    /// The gateway's streams.
    pub bus: B,
    /// The site.
    pub site: String,
    /// What it tells about itself.
    pub telemetry: Arc<Telemetry>,
}

/// What news means on a site.
#[derive(Debug, PartialEq)]
enum Meaning {
    Says(Control),
    /// It was said here.
    Known,
}

/// The control that news becomes.
///
/// # Errors
/// What is wrong with it, with the offending value.
fn meaning(site: &str, payload: &[u8]) -> Result<Meaning, String> {
    let news: LabelNews = serde_json::from_slice(payload).map_err(|error| format!("not news: {error}"))?;
    let is_own = news.site == site;
    if is_own && news.origin.strip_prefix(site).is_some_and(|rest| rest.starts_with('/')) {
        return Ok(Meaning::Known);
    }
    let id = blake3::hash(
        format!("{}\n{}\n{}\n{}\n{}\n{}", news.site, news.device, news.alert, news.label, news.origin, news.time)
            .as_bytes(),
    );
    let (origin, time) = (format!("{ORIGIN}{}", news.origin), news.time);
    let kind = if is_own {
        ControlKind::Label { device: news.device, alert: news.alert, label: news.label }
    } else {
        ControlKind::RegionLabel { device: format!("{}/{}", news.site, news.device), news: Box::new(news) }
    };
    let control = Control { id: format!("region-{}", &id.to_hex()[..32]), origin, time, kind };
    // As capture will read it.
    let control = Control::parse(control.to_json().as_bytes())?;
    Ok(Meaning::Says(control))
}

impl<B: Bus> Taker for Downlink<B> {
    async fn take(&mut self, message: &Read) -> Result<(), BusError> {
        let control = match meaning(&self.site, &message.payload) {
            Ok(Meaning::Says(control)) => control,
            Ok(Meaning::Known) => return Ok(()),
            Err(problem) => {
                tracing::warn!(problem, subject = message.subject, sequence = message.sequence, "put aside");
                self.telemetry.decision("region_news_refused", 1);
                return Ok(());
            }
        };
        let publication = Publication {
            stream: "CONTROL".into(),
            subject: format!("control.{}.{}", names::encode(&self.site), control.subject_token()),
            headers: vec![("Nats-Msg-Id".into(), control.id.clone())],
            payload: control.to_json().into(),
            guard: None,
        };
        match self.bus.publish(vec![publication]).await {
            Ok(_) => {
                self.telemetry.decision("region_news_said", 1);
                Ok(())
            }
            Err(PublishError::Fatal(problem)) => {
                tracing::error!(problem, subject = message.subject, sequence = message.sequence, "put aside");
                self.telemetry.decision("region_news_refused", 1);
                Ok(())
            }
            Err(error) => Err(BusError::Unavailable(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use eddy_runtime::bus::memory::{Faults, MemoryBus};
    use std::time::Duration;

    use super::*;

    fn news(site: &str, origin: &str) -> LabelNews {
        LabelNews {
            site: site.into(),
            device: "pump 1".into(),
            channel: "t".into(),
            alert: "00ff".into(),
            label: "leak".into(),
            origin: origin.into(),
            time: 5,
            bundle: "ab".into(),
            start: 1,
            end: 2,
            filled: 3,
            score: 0.5,
            vector: vec![0.25, 1.0],
        }
    }

    fn said(site: &str, news: &LabelNews) -> Control {
        match meaning(site, &serde_json::to_vec(news).unwrap()).unwrap() {
            Meaning::Says(control) => control,
            Meaning::Known => panic!("known"),
        }
    }

    #[test]
    fn own_windows_become_labels_and_others_bring_their_window() {
        let own = said("plant", &news("plant", "hub/anna"));
        let label = ControlKind::Label { device: "pump 1".into(), alert: "00ff".into(), label: "leak".into() };
        assert_eq!((own.kind, own.origin.as_str(), own.time), (label, "region/hub/anna", 5));
        let other = said("plant", &news("yard", "yard/cli"));
        assert_eq!((other.device().unwrap(), other.subject_token()), ("yard/pump 1", "region_label"));
        // Somebody here said it of another site's window: it is news here too.
        assert_eq!(said("plant", &news("yard", "plant/cli")).subject_token(), "region_label");
        let here = serde_json::to_vec(&news("plant", "plant/cli")).unwrap();
        assert_eq!(meaning("plant", &here), Ok(Meaning::Known));
        assert_eq!(said("plant", &news("plant", "plant 2/cli")).subject_token(), "label", "another site");
    }

    #[test]
    fn ids_follow_from_what_was_said() {
        let one = said("plant", &news("yard", "hub/anna"));
        assert_eq!(one.id, said("plant", &news("yard", "hub/anna")).id);
        for other in [
            LabelNews { time: 6, ..news("yard", "hub/anna") },
            LabelNews { label: "normal".into(), ..news("yard", "hub/anna") },
            news("yard", "hub/bob"),
        ] {
            assert_ne!(one.id, said("plant", &other).id);
        }
    }

    #[tokio::test]
    async fn rubbish_is_put_aside_and_a_full_stream_waited_for() {
        let bus = MemoryBus::new(1, Faults::default());
        bus.create("CONTROL", 1);
        let telemetry = Arc::new(Telemetry::new("sync", 0, Duration::from_secs(1)));
        let mut downlink = Downlink { bus: bus.clone(), site: "plant 1".into(), telemetry };
        let long = LabelNews { device: "x".repeat(200), ..news("yard", "hub/anna") };
        let good = serde_json::to_vec(&news("yard", "hub/anna")).unwrap();
        for payload in [b"rubbish".to_vec(), serde_json::to_vec(&long).unwrap(), good.clone()] {
            let message = Read { subject: "region.label.yard".into(), sequence: 1, payload: payload.into() };
            downlink.take(&message).await.unwrap();
        }
        let controls = bus.messages("CONTROL", "");
        assert_eq!(controls.len(), 1);
        assert_eq!(controls[0].0, "control.plant%201.region_label");
        assert_eq!(Control::parse(&controls[0].1).unwrap().origin, "region/hub/anna");
        bus.set_faults(Faults { full: 1_000, ..Faults::default() });
        let message = Read { subject: "region.label.yard".into(), sequence: 1, payload: good.into() };
        assert!(downlink.take(&message).await.is_err(), "tried again");
    }
}
