//! What is exported: each class is of one stream of a gateway, and becomes tables of its own.

use serde::{Deserialize, Serialize};

/// A class of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// What sensors said, and controls in their place. Raw.
    Readings,
    /// Readings on their series' grids. Raw.
    Samples,
    /// A vector per head and window.
    Embeddings,
    /// What detect thought of each window.
    Scores,
    /// Alerts, as they were published.
    Alerts,
    /// What the gateway knew of each alert.
    Contexts,
    /// What somebody said of an alert.
    Labels,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Readings, Self::Samples, Self::Embeddings, Self::Scores, Self::Alerts, Self::Contexts, Self::Labels];

    /// Those that a hub has.
    pub const OF_HUB: [Self; 3] = [Self::Alerts, Self::Contexts, Self::Labels];

    /// As it stands in paths and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Samples => "samples",
            Self::Embeddings => "embeddings",
            Self::Scores => "scores",
            Self::Alerts => "alerts",
            Self::Contexts => "contexts",
            Self::Labels => "labels",
        }
    }

    /// The class of this name.
    ///
    /// # Errors
    /// If there is none, naming those that there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|class| class.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.into_iter().map(Self::name).collect();
            format!("no class is called {name:?}; there are {}", known.join(", "))
        })
    }

    /// A gateway's stream that its rows come from.
    pub fn stream(self) -> &'static str {
        match self {
            Self::Readings | Self::Labels => "READINGS",
            Self::Samples => "SAMPLES",
            Self::Embeddings => "EMBEDDINGS",
            Self::Scores | Self::Alerts => "DETECTIONS",
            Self::Contexts => "CONTEXT",
        }
    }

    /// What the subjects of its messages there begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Readings | Self::Labels => "readings",
            Self::Samples => "samples",
            Self::Embeddings => "embeddings",
            Self::Scores => "scores",
            Self::Alerts => "alerts",
            Self::Contexts => "context",
        }
    }

    /// Whether a row's series is a device's channel: then the tables have the column `channel`.
    pub fn has_channel(self) -> bool {
        !matches!(self, Self::Contexts | Self::Labels)
    }
}
