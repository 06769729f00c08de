//! Controls: an operator's or another tier's word, with its place among the readings.
//!
//! On CONTROL a control is this JSON document. Capture validates it and puts it, as JSON, into a row of its own in
//! READINGS, where it keeps its place through every later batch: each stage meets it between the same two readings,
//! whenever it runs.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, region::LabelNews};

/// One control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Given by whoever sends it; a control that comes twice with one id counts once.
    pub id: String,
    /// Who sent it: `cli`, `index`; by a console with the name of who said it, `console/alice`; of another tier what it begins with,
    /// `region/hub/alice`.
    pub origin: String,
    /// When it was said, by the sender's clock: nanoseconds since the Unix epoch.
    pub time: Timestamp,
    /// What it says.
    #[serde(rename = "control")]
    pub kind: ControlKind,
}

/// What a control says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlKind {
    /// An operator's judgement of an alert.
    Label {
        /// The device of the alert.
        device: String,
        /// The alert's id.
        alert: String,
        /// `normal`, or the name of a fault.
        label: String,
    },
    /// Somebody has seen an alert and looks after it. It changes no decision; it stands in the record.
    Acknowledge {
        /// The device of the alert.
        device: String,
        /// The alert's id.
        alert: String,
    },
    /// From here on the device neither alerts nor learns, or does again.
    Maintenance {
        /// The device.
        device: String,
        /// Whether maintenance begins or ends.
        on: bool,
        /// Ends by itself at the device's first reading past this event time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// Forgets everything about the device, as if it had never been seen.
    DeviceReset {
        /// The device.
        device: String,
    },
    /// What somebody said of a window of another site, with the window: index remembers both. No stage before it heeds it.
    RegionLabel {
        /// `<site>/<device>`.
        device: String,
        /// The window and what was said.
        news: Box<LabelNews>,
    },
    /// Freezes scaling and calibration anew from the readings that follow, and forgets the histories made with the old ones.
    Recommission {
        /// The device.
        device: String,
    },
    /// Which model bundles the site's windows are judged by, from here on.
    Bundle {
        /// The bundle: lower-case hex BLAKE3 of its `model.toml`.
        digest: String,
        /// What becomes of it.
        action: BundleAction,
    },
}

/// What a control says of a model bundle. A site is judged by one bundle, the *active* one; a second one may run in its
/// *shadow*: it sees the same rows, learns from them, and tells nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleAction {
    /// It begins to run in the shadow, in the place of whatever did.
    Stage,
    /// It becomes the active one, and the one that was goes on in the shadow, from where it is called back as fast.
    Activate,
    /// What ran in the shadow ends, and what it knew of the series is forgotten.
    Retire,
}

impl BundleAction {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Activate => "activate",
            Self::Retire => "retire",
        }
    }
}

impl Control {
    /// The device that this control is about; `None` for one about the whole site.
    pub fn device(&self) -> Option<&str> {
        match &self.kind {
            ControlKind::Label { device, .. }
            | ControlKind::Acknowledge { device, .. }
            | ControlKind::Maintenance { device, .. }
            | ControlKind::DeviceReset { device }
            | ControlKind::RegionLabel { device, .. }
            | ControlKind::Recommission { device } => Some(device),
            ControlKind::Bundle { .. } => None,
        }
    }

    /// The kind as a subject token: CONTROL's subjects are `control.<site>.<kind>`.
    pub fn subject_token(&self) -> &'static str {
        match self.kind {
            ControlKind::Label { .. } => "label",
            ControlKind::Acknowledge { .. } => "acknowledge",
            ControlKind::Maintenance { .. } => "maintenance",
            ControlKind::DeviceReset { .. } => "device_reset",
            ControlKind::Recommission { .. } => "recommission",
            ControlKind::RegionLabel { .. } => "region_label",
            ControlKind::Bundle { .. } => "bundle",
        }
    }

    /// Reads a control and checks what the types cannot say.
    ///
    /// # Errors
    /// What is wrong with it, with the offending value.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let control: Self = serde_json::from_slice(json).map_err(|error| format!("not a control: {error}"))?;
        if let Some(device) = control.device().filter(|device| !crate::names::is_valid(device)) {
            return Err(format!("control {:?}: device {device:?} is empty or too long", control.id));
        }
        if let ControlKind::Bundle { digest, .. } = &control.kind
            && !is_digest(digest)
        {
            return Err(format!(
                "control {:?}: bundle {digest:?} is no digest of 64 lower-case hex digits",
                control.id
            ));
        }
        if control.id.is_empty() || control.id.len() > 128 {
            return Err(format!("control id {:?}: 1 to 128 bytes are taken", control.id));
        }
        Ok(control)
    }

    /// The JSON that stands in a batch's control column.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a Control has string keys and finite numbers only, so it always serializes")
    }
}

/// Whether `text` is a bundle's digest: 64 lower-case hex digits, so that it is also a safe name of a folder.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_cli_writes() {
        let json = r#"{"id":"m1","origin":"cli","time":5,"control":{"kind":"maintenance","device":"pump 1","on":true,"until":9}}"#;
        let control = Control::parse(json.as_bytes()).unwrap();
        assert_eq!(control.kind, ControlKind::Maintenance { device: "pump 1".into(), on: true, until: Some(9) });
        assert_eq!(Control::parse(control.to_json().as_bytes()), Ok(control));
    }

    #[test]
    fn a_bundle_is_of_the_whole_site_and_named_by_its_digest() {
        let json = |digest: &str| {
            format!(
                r#"{{"id":"b","origin":"cli","time":5,"control":{{"kind":"bundle","digest":"{digest}","action":"stage"}}}}"#
            )
        };
        let control = Control::parse(json(&"0f".repeat(32)).as_bytes()).unwrap();
        assert_eq!((control.device(), control.subject_token()), (None, "bundle"));
        assert_eq!(Control::parse(control.to_json().as_bytes()), Ok(control));
        for digest in ["", "0F", "../../etc", &"0F".repeat(32)] {
            assert!(Control::parse(json(digest).as_bytes()).unwrap_err().contains("is no digest"), "{digest}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (json, part) in [
            ("[]", "not a control"),
            (r#"{"id":"x","origin":"cli","time":0,"control":{"kind":"explode","device":"d"}}"#, "explode"),
            (r#"{"id":"x","origin":"cli","time":0,"control":{"kind":"device_reset","device":""}}"#, "device"),
            (
                r#"{"id":"x","origin":"cli","time":0,"control":{"kind":"device_reset","device":"d","devcie":1}}"#,
                "devcie",
            ),
            (r#"{"id":"","origin":"cli","time":0,"control":{"kind":"device_reset","device":"d"}}"#, "id"),
        ] {
            let error = Control::parse(json.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
