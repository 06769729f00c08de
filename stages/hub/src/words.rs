//! An operator's word in the region: it takes its place in the stream of the site that it is about, behind what the gateway sent before.
//!
//! So it lies in JetStream before anybody hears of it, every copy of the shard merges it at the same place in the site's order,
//! and a copy that is made anew knows it too.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use eddy_runtime::bus::{Bus, Publication, PublishError};
use eddy_schemas::{
    Timestamp, names,
    region::{Word, said_subject},
    sync,
};
use eddy_vectors::index::IndexError;

use crate::{about, kept, shards::Led};

/// Bytes of a label's or an origin's name.
pub const NAME_BYTES_MAX: usize = 200;
/// How long a word may take from the stream into this process's copy.
const MERGED_WITHIN: Duration = Duration::from_secs(5);
/// Tries to store a word. Said twice it is the same word.
const TRIES: u32 = 3;

/// Why a word was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    /// Another process answers for the shard.
    #[error("shard {0} is not led here: ask its leader")]
    NotLed(u32),
    /// Nothing is known of it.
    #[error("no alert {alert} of {site}/{device}: it may have aged out, or not have come yet")]
    Unknown {
        /// The site.
        site: String,
        /// The device.
        device: String,
        /// The alert.
        alert: String,
    },
    /// What cannot be a label.
    #[error("{what} {value:?}: 1 to {NAME_BYTES_MAX} bytes are taken")]
    Wrong {
        /// The field.
        what: &'static str,
        /// What it held.
        value: String,
    },
    /// The hub's server does not answer. It may have been stored.
    #[error("the word may or may not be stored, say it again: {0}")]
    Away(String),
    /// It is stored and will count, but this process has not merged it yet.
    #[error("the word is stored, and not merged within {} s: this copy lags", MERGED_WITHIN.as_secs())]
    Slow,
    /// The store's.
    #[error(transparent)]
    Store(#[from] IndexError),
}

type Stored = Pin<Box<dyn Future<Output = Result<u64, PublishError>> + Send>>;

/// Publishes words.
#[derive(Clone)]
pub struct Words(Arc<dyn Fn(Publication) -> Stored + Send + Sync>);

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Words")
    }
}

impl Words {
    pub(crate) fn new<B: Bus>(bus: B) -> Self {
        Self(Arc::new(move |message| {
            let bus = bus.clone();
            Box::pin(async move { bus.publish(vec![message]).await })
        }))
    }

    async fn say(&self, site: &str, word: &Word) -> Result<u64, LabelError> {
        let payload = serde_json::to_vec(word).map_err(|error| LabelError::Away(error.to_string()))?;
        let message = Publication {
            stream: sync::stream_of(site),
            subject: said_subject(site),
            headers: vec![("Content-Type".into(), "application/json".into())],
            payload: payload.into(),
            guard: None,
        };
        let mut tries = 0;
        loop {
            tries += 1;
            match (self.0)(message.clone()).await {
                Ok(sequence) => return Ok(sequence),
                Err(PublishError::Ambiguous { .. }) if tries < TRIES => {}
                Err(error) => return Err(LabelError::Away(error.to_string())),
            }
        }
    }
}

fn fits(what: &'static str, value: &str) -> Result<(), LabelError> {
    if (1..=NAME_BYTES_MAX).contains(&value.len()) {
        return Ok(());
    }
    Err(LabelError::Wrong { what, value: value.chars().take(40).collect() })
}

impl Led {
    /// Takes an operator's word about an alert: whether it is the one that holds now. It is stored when this returns, in the site's
    /// stream and in this copy, and goes out to all gateways.
    ///
    /// # Errors
    /// See [`LabelError`].
    pub async fn label(
        &self,
        site: &str,
        device: &str,
        alert: &str,
        label: &str,
        origin: &str,
        time: Timestamp,
    ) -> Result<bool, LabelError> {
        for (what, value) in
            [("site", site), ("device", device), ("alert", alert), ("label", label), ("origin", origin)]
        {
            fits(what, value)?;
        }
        if !self.is_led() || names::shard_of(device, self.shards) != self.shard {
            return Err(LabelError::NotLed(names::shard_of(device, self.shards)));
        }
        let owned = str::to_owned;
        let token = names::encode(site);
        if about::read(&self.store, &token, alert)?.is_none()
            && kept::list(&self.store, &kept::alert_prefix(&token, alert), 1)?.is_empty()
        {
            return Err(LabelError::Unknown { site: owned(site), device: owned(device), alert: owned(alert) });
        }
        let word =
            Word { device: owned(device), alert: owned(alert), label: owned(label), origin: owned(origin), time };
        let sequence = self.words.say(site, &word).await?;
        let stream = sync::stream_of(site);
        let mut reached = self.reached.subscribe();
        let merged = reached.wait_for(|position| position.place(&stream).is_some_and(|at| at.sequence >= sequence));
        match tokio::time::timeout(MERGED_WITHIN, merged).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(LabelError::Slow),
        }
        let holds = about::read(&self.store, &token, alert)?.and_then(|about| about.word);
        Ok(holds.is_some_and(|holds| (holds.name.as_str(), holds.origin.as_str(), holds.time) == (label, origin, time)))
    }
}
