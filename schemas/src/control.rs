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
    /// Who sent it: `cli`, `console`, `index`, a site's name.
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
}

impl Control {
    /// The device that this control is about.
    pub fn device(&self) -> &str {
        match &self.kind {
            ControlKind::Label { device, .. }
            | ControlKind::Maintenance { device, .. }
            | ControlKind::DeviceReset { device }
            | ControlKind::RegionLabel { device, .. }
            | ControlKind::Recommission { device } => device,
        }
    }

    /// The kind as a subject token: CONTROL's subjects are `control.<site>.<kind>`.
    pub fn subject_token(&self) -> &'static str {
        match self.kind {
            ControlKind::Label { .. } => "label",
            ControlKind::Maintenance { .. } => "maintenance",
            ControlKind::DeviceReset { .. } => "device_reset",
            ControlKind::Recommission { .. } => "recommission",
            ControlKind::RegionLabel { .. } => "region_label",
        }
    }

    /// Reads a control and checks what the types cannot say.
    ///
    /// # Errors
    /// What is wrong with it, with the offending value.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let control: Self = serde_json::from_slice(json).map_err(|error| format!("not a control: {error}"))?;
        if !crate::names::is_valid(control.device()) {
            return Err(format!("control {:?}: device {:?} is empty or too long", control.id, control.device()));
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
