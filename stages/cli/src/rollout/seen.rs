//! Which bundles judge a gateway's series, as its streams tell.

use std::collections::BTreeSet;

use eddy_runtime::client::ClientError;
use eddy_schemas::{
    Scores, ShadowReport,
    models::{self, Desired, STREAM, State},
};
use serde::Serialize;

use crate::gateway::Gateway;

/// What the newest scores of all shards say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The bundles that judge, by digest: several only while shards differ. Empty: nothing was judged yet.
    pub active: BTreeSet<String>,
    /// How those in the shadow do, added up over the shards.
    pub shadow: Vec<ShadowReport>,
}

impl Seen {
    /// Asks the gateway.
    ///
    /// # Errors
    /// That it does not answer.
    pub async fn ask(gateway: &Gateway) -> Result<Self, ClientError> {
        let mut seen = Self::default();
        let subjects = gateway.client.subjects("DETECTIONS", &format!("scores.{}.*", gateway.site_token())).await?;
        for subject in subjects.into_keys() {
            let Some(last) = gateway.client.last("DETECTIONS", &subject).await? else { continue };
            if let Ok(scores) = Scores::decode(&last.payload) {
                seen.add(scores);
            }
        }
        Ok(seen)
    }

    fn add(&mut self, scores: Scores) {
        self.active.insert(scores.bundle);
        let Some(more) = scores.shadow else { return };
        match self.shadow.iter_mut().find(|report| report.bundle == more.bundle) {
            None => self.shadow.push(more),
            Some(sum) => {
                sum.series += more.series;
                sum.warm += more.warm;
                sum.rows += more.rows;
                sum.opened += more.opened;
                sum.told += more.told;
                sum.was_active |= more.was_active;
            }
        }
    }

    /// How a bundle does in the shadow, if it is there.
    pub fn shadow_of(&self, digest: &str) -> Option<&ShadowReport> {
        self.shadow.iter().find(|report| report.bundle == digest)
    }
}

/// The newest wish, with its sequence.
///
/// # Errors
/// That the gateway does not answer.
pub async fn wish(gateway: &Gateway) -> Result<Option<(u64, Desired)>, ClientError> {
    let subject = models::desired_subject(&gateway.site_token());
    let last = gateway.client.last(STREAM, &subject).await?;
    Ok(last.and_then(|last| Some((last.sequence, serde_json::from_slice(&last.payload).ok()?))))
}

/// How far the newest wish is, as it was told last.
///
/// # Errors
/// That the gateway does not answer.
pub async fn state(gateway: &Gateway) -> Result<Option<State>, ClientError> {
    let subject = models::state_subject(&gateway.site_token());
    let last = gateway.client.last(STREAM, &subject).await?;
    Ok(last.and_then(|last| serde_json::from_slice(&last.payload).ok()))
}
