//! CONTEXT: what the gateway knows of an alert's window, on `context.<site>.<device>`, one message for each alert.

use serde::{Deserialize, Serialize};

use crate::search::FoundWindow;

/// The message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The alert that it is about.
    pub alert: String,
    /// The site.
    pub site: String,
    /// The device, as its operator calls it.
    pub device: String,
    /// Event time of the alert's opening: RFC 3339, UTC.
    pub opened: String,
    /// What the neighbours say.
    pub verdict: Verdict,
    /// In words, for people.
    pub text: String,
    /// The alert's own window.
    pub window: FoundWindow,
    /// The nearest windows that were known before it, nearest first; none of the same device overlaps it.
    pub neighbours: Vec<FoundWindow>,
    /// How many windows the index held.
    pub windows: u64,
    /// Digest of the bundle whose vectors were compared.
    pub bundle: String,
}

/// What an alert's window is, by what is known of its neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// The nearest labelled windows are this fault.
    Fault {
        /// Its name.
        name: String,
        /// How many of the near windows carry it.
        votes: usize,
    },
    /// They are normal.
    KnownNormal {
        /// How many of the near windows say so.
        votes: usize,
        /// Whether any of them is another device's.
        sibling: bool,
    },
    /// The device itself has shown the like before, and nobody has said what it is.
    Recurring,
    /// Other devices have, this one not.
    NovelToDevice,
    /// Nothing on this gateway is near.
    NovelToGateway,
}
