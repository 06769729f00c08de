//! What somebody decided: read strictly, about what the view holds, one after the other.

use axum::http::StatusCode;
use eddy_schemas::Timestamp;
use serde::Deserialize;

use crate::watch::{
    act::{Operator, Wrong},
    view::{AlertView, View},
};

/// Alerts that are acknowledged at once.
const ALERTS_MAX: usize = 100;
/// Maintenance is no longer than that: ten years.
const MINUTES_MAX: u32 = 5_256_000;

/// A decision, as the page sends it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Act {
    /// Somebody looks after alerts.
    Acknowledge { alerts: Vec<String> },
    /// An alert was `normal`, or a fault by its name.
    Label { alert: String, label: String },
    /// A device is under maintenance from now on, for so long (`None`: until it is ended), or is not any more.
    Maintain { device: String, on: bool, minutes: Option<u32> },
}

/// Why nothing, or not all, was done.
pub(super) type Failed = (StatusCode, String);

impl Act {
    /// Says it to the gateway; what was done, in words.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn done_by(self, operator: &Operator, view: &View) -> Result<String, Failed> {
        self.done(operator, view).await.map(|said| said + operator.unaudited())
    }

    async fn done(self, operator: &Operator, view: &View) -> Result<String, Failed> {
        match self {
            Self::Acknowledge { alerts } => acknowledge(operator, view, &alerts).await,
            Self::Label { alert, label } => {
                let found = find(view, &alert)?;
                let control =
                    operator.label(&found.device, &alert, &label).await.map_err(|problem| failed(&problem))?;
                Ok(format!("Alert {alert} has the label {label} (control {control})."))
            }
            Self::Maintain { device, on, minutes } => maintain(operator, &device, on, minutes).await,
        }
    }
}

async fn acknowledge(operator: &Operator, view: &View, alerts: &[String]) -> Result<String, Failed> {
    if alerts.is_empty() || alerts.len() > ALERTS_MAX {
        return Err((StatusCode::BAD_REQUEST, format!("1 to {ALERTS_MAX} alerts are acknowledged at once")));
    }
    let found = alerts.iter().map(|alert| find(view, alert)).collect::<Result<Vec<_>, _>>()?;
    for (done, alert) in found.iter().enumerate() {
        if let Err(problem) = operator.acknowledge(&alert.device, &alert.alert).await {
            let (code, problem) = failed(&problem);
            return Err((code, format!("{done} of {} alerts were acknowledged; then: {problem}", found.len())));
        }
    }
    let noun = if found.len() == 1 { "alert is" } else { "alerts are" };
    Ok(format!("{} {noun} acknowledged by {}.", found.len(), operator.who))
}

async fn maintain(operator: &Operator, device: &str, on: bool, minutes: Option<u32>) -> Result<String, Failed> {
    if device.is_empty() || minutes.is_some_and(|minutes| !on || minutes == 0 || minutes > MINUTES_MAX) {
        return Err((StatusCode::BAD_REQUEST, format!("a device and 1 to {MINUTES_MAX} minutes, or none, are taken")));
    }
    let until = minutes.map(|minutes| crate::now() + Timestamp::from(minutes) * 60_000_000_000);
    let control = operator.maintain(device, on, until).await.map_err(|problem| failed(&problem))?;
    let what = match (on, until) {
        (false, _) => "is not under maintenance any more".to_owned(),
        (true, None) => "is under maintenance until that is ended".to_owned(),
        (true, Some(until)) => format!("is under maintenance until {}", eddy_schemas::rfc3339(until)),
    };
    Ok(format!("{device} {what} (control {control})."))
}

/// Its device is what the view says, not what the page says.
fn find<'a>(view: &'a View, id: &str) -> Result<&'a AlertView, Failed> {
    let mut alerts = view.alerts.incidents.iter().flat_map(|incident| &incident.alerts);
    let found = alerts.find(|alert| alert.alert == id);
    found.ok_or_else(|| (StatusCode::NOT_FOUND, format!("no alert {id} is held here: it may be too old")))
}

fn failed(problem: &anyhow::Error) -> Failed {
    let code = if problem.is::<Wrong>() { StatusCode::BAD_REQUEST } else { StatusCode::BAD_GATEWAY };
    (code, format!("{problem:#}"))
}
