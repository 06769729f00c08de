//! How many bytes the stages keep of a series: what their records hold, keys included.

use std::collections::HashMap;

use eddy_runtime::stage::Stage;

/// The records of one stage.
#[derive(Debug, Default)]
pub struct Meter {
    records: HashMap<Vec<u8>, usize>,
    bytes: usize,
}

impl Meter {
    /// Takes what changed in the stage since the last time; returns the bytes of all its records.
    pub fn measure<S: Stage>(&mut self, stage: &mut S) -> usize {
        stage.save(&mut |key, value| {
            let now = value.map_or(0, |value| key.len() + value.len());
            let before = if now == 0 { self.records.remove(key) } else { self.records.insert(key.to_vec(), now) };
            self.bytes = self.bytes + now - before.unwrap_or(0);
        });
        self.bytes
    }
}

/// Bytes per series, by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StateBytes {
    /// What preprocess keeps.
    pub preprocess: usize,
    /// What embed keeps.
    pub embed: usize,
    /// What detect keeps; a device's own records shared by its channels.
    pub detect: usize,
}

impl StateBytes {
    /// All stages together.
    pub fn total(&self) -> usize {
        self.preprocess + self.embed + self.detect
    }

    /// Divided among so many series (at least 1), rounded up.
    pub fn per_series(self, series: usize) -> Self {
        let share = |bytes: usize| bytes.div_ceil(series.max(1));
        Self { preprocess: share(self.preprocess), embed: share(self.embed), detect: share(self.detect) }
    }

    /// The larger in all.
    pub fn max(self, other: Self) -> Self {
        if other.total() > self.total() { other } else { self }
    }
}
