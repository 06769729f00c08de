//! What recall an effort reaches, by asking for some of a segment's own vectors.

use super::kind::{KindError, Reached};

/// Neighbours of each that are asked for.
pub(super) const NEIGHBOURS: usize = 10;
/// No effort beyond the one that reaches this recall is tried.
const RECALL_MAX: f32 = 0.995;

/// A vector that is asked for, and the squared distances of its true neighbours, rising.
pub(super) struct Probe {
    pub(super) item: u32,
    pub(super) vector: Vec<f32>,
    nearest: Vec<f32>,
}

impl Probe {
    pub(super) fn new(item: u32, vector: Vec<f32>) -> Self {
        Self { item, vector, nearest: Vec::with_capacity(NEIGHBOURS + 1) }
    }

    fn worst(&self) -> f32 {
        self.nearest.last().copied().unwrap_or(f32::INFINITY)
    }

    /// Notes the squared distance of another vector.
    pub(super) fn offer(&mut self, squared: f32) {
        if self.nearest.len() < NEIGHBOURS || squared < self.worst() {
            let at = self.nearest.partition_point(|known| *known <= squared);
            self.nearest.insert(at, squared);
            self.nearest.truncate(NEIGHBOURS);
        }
    }
}

/// What rising efforts reach, by the squared distances (nearest first) of what `found` finds with them; `most` is an effort that no
/// search needs.
pub(super) fn reached(
    probes: &[Probe],
    efforts: &[u32],
    most: u32,
    mut found: impl FnMut(&Probe, u32) -> Result<Vec<f32>, KindError>,
) -> Result<Reached, KindError> {
    let mut reached = Vec::new();
    let wanted: usize = probes.iter().map(|probe| probe.nearest.len()).sum();
    for effort in efforts {
        let mut right = 0;
        for probe in probes {
            let near = found(probe, *effort)?;
            // By distance, so that of equally near ones any will do.
            right += near.iter().take(NEIGHBOURS).filter(|squared| **squared <= probe.worst()).count();
        }
        let recall = right as f32 / wanted.max(1) as f32;
        reached.push((*effort, recall));
        if recall >= RECALL_MAX || *effort >= most {
            break;
        }
    }
    Ok(reached)
}
