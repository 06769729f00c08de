//! What an operator decided, and how it is said to the gateway.

use super::words::{self, name};
use crate::watch::act::Operator;

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Somebody looks after these alerts.
    Acknowledge {
        /// The device.
        device: String,
        /// Their ids.
        alerts: Vec<String>,
    },
    /// An alert was this.
    Label {
        /// The device.
        device: String,
        /// Its id.
        alert: String,
        /// `normal`, or a fault's name.
        label: String,
    },
    /// A device is under maintenance, or is not any more.
    Maintain {
        /// The device.
        device: String,
        /// Whether it is.
        on: bool,
        /// For how long, in nanoseconds; none: until it is ended.
        for_ns: Option<i64>,
    },
}

impl Deed {
    /// While it is being done.
    pub fn words(&self) -> String {
        match self {
            Self::Acknowledge { device, alerts } => format!("acknowledging {} of {}", alerts.len(), name(device)),
            Self::Label { device, label, .. } => format!("calling an alert of {} {}", name(device), name(label)),
            Self::Maintain { device, on: true, .. } => format!("putting {} under maintenance", name(device)),
            Self::Maintain { device, on: false, .. } => format!("ending the maintenance of {}", name(device)),
        }
    }

    /// Does it; what was done, in words.
    ///
    /// # Errors
    /// That it is not written down or not stored. Of several alerts those before the failure are acknowledged.
    pub async fn carry_out(&self, operator: &Operator) -> anyhow::Result<String> {
        match self {
            Self::Acknowledge { device, alerts } => {
                for alert in alerts {
                    operator.acknowledge(device, alert).await?;
                }
                Ok(format!("{}: acknowledged as {}", name(device), name(&operator.who)))
            }
            Self::Label { device, alert, label } => {
                let control = operator.label(device, alert, label).await?;
                Ok(format!("{}: alert {} was {} (control {control})", name(device), name(alert), name(label)))
            }
            Self::Maintain { device, on, for_ns } => {
                let until = for_ns.map(|for_ns| crate::now().saturating_add(for_ns));
                operator.maintain(device, *on, until).await?;
                let what = match (on, until) {
                    (false, _) => "maintenance ends".to_owned(),
                    (true, None) => "maintenance until it is ended".to_owned(),
                    (true, Some(until)) => format!("maintenance until {}", words::moment(until)),
                };
                Ok(format!("{}: {what}", name(device)))
            }
        }
    }
}
