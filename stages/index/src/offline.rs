//! The store and its answers without a bus: for measurements.

use std::{path::Path, sync::Arc};

use eddy_runtime::service::Refusal;
use eddy_schemas::{
    episodes::{EpisodesAnswer, EpisodesRequest},
    search::{SearchAnswer, SearchRequest},
};
use eddy_vectors::index::{IndexError, Limits, Store};

use crate::{
    answer::Answers,
    changes::{Changes, Message},
    filing::{Commit, Filing},
};

/// An index that is given its messages, and tells no contexts.
pub struct Offline {
    site: String,
    answers: Answers,
}

impl Offline {
    /// Makes it in an empty folder.
    ///
    /// # Errors
    /// The store's.
    pub fn new(folder: &Path, site: &str) -> Result<Self, IndexError> {
        let store = Arc::new(Store::open(folder, Limits::default())?);
        let searcher = Arc::new(store.searcher()?);
        Ok(Self { site: site.to_owned(), answers: Answers { store, searcher, recall: 1.0 } })
    }

    /// Takes messages of DETECTIONS that follow those before, the last one being scores.
    ///
    /// # Errors
    /// The store's, or what is wrong with the first message that is none that detect writes.
    pub fn write<'a>(&self, messages: impl IntoIterator<Item = Message<'a>>) -> Result<(), IndexError> {
        let changes = Changes::of(messages);
        if let Some(problem) = changes.refused.first() {
            return Err(IndexError::Query(problem.clone()));
        }
        let Answers { store, searcher, .. } = &self.answers;
        let position = format!("offline:{}", changes.reached.unwrap_or(0));
        let commit = Commit { sent: &[], missed: 0, before: store.position()?, position };
        Filing { store, searcher, site: &self.site }.commit(&changes, &commit)
    }

    /// See [`EpisodesRequest`].
    ///
    /// # Errors
    /// As the service answers.
    pub fn episodes(&self, request: &EpisodesRequest) -> Result<EpisodesAnswer, Refusal> {
        self.answers.episodes(request)
    }

    /// See [`SearchRequest`].
    ///
    /// # Errors
    /// As the service answers.
    pub fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, Refusal> {
        self.answers.search(request)
    }
}
