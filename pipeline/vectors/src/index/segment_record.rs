//! What the catalog says of a segment.

use super::window::WindowId;
use crate::codec::{CodecError, Get, Put};

/// Number of a segment in a store; never given out twice.
pub type SegmentId = u32;

/// How a segment is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Row by row, from memory: it is open, or waits to be brought to disk.
    Exact = 0,
    /// By a forest of random planes (arroy).
    Forest = 1,
    /// Row by row: an earlier release built it, with hannoy, and it will be built anew.
    Hannoy = 2,
    /// By a graph of near vectors.
    Graph = 3,
    /// Row by row, from the disk: too few searches came for a graph.
    Flat = 4,
}

impl Kind {
    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Forest => "forest",
            Self::Hannoy => "hannoy",
            Self::Graph => "graph",
            Self::Flat => "flat",
        }
    }
}

/// A contiguous run of windows of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentRecord {
    /// Its number.
    pub id: SegmentId,
    /// Whose vectors: an index into the catalog's models.
    pub model: u32,
    /// Its first window.
    pub first: WindowId,
    /// How many windows it was given, deleted ones included.
    pub count: u32,
    /// Whether further windows go elsewhere.
    pub sealed: bool,
    /// How it is searched.
    pub kind: Kind,
    /// Event times of its windows' ends: earliest and latest.
    pub ends: (i64, i64),
    /// Bytes of its folder; 0 where it has none.
    pub bytes: u64,
    /// What recall@10 an effort reached when it was built, in rising order: see [`SegmentRecord::effort`].
    pub recall: Vec<(u32, f32)>,
    /// Windows that were deleted before it was built: they are not in it.
    pub left_out: u32,
}

impl SegmentRecord {
    /// The first window behind it.
    pub fn end(&self) -> WindowId {
        self.first + u64::from(self.count)
    }

    /// The least effort that reached a recall when the segment was built, with some of what may be missed kept back; `None`: none did.
    pub fn effort(&self, recall: f32) -> Option<u32> {
        let back = match self.kind {
            // It was asked for vectors that it did not have, but for some hundreds only.
            Kind::Graph => 0.1,
            // It was asked for its own, and what is asked lies a little off.
            _ => 0.5,
        };
        let wanted = recall + (1.0 - recall) * back;
        let at = self.recall.iter().position(|(_, reached)| *reached >= wanted)?;
        let (effort, reached) = self.recall[at];
        // Recall rises ever slower with effort, so what lies on the line between two that were tried reaches at least that.
        let (less, missed) = at.checked_sub(1).map_or((effort, reached), |before| self.recall[before]);
        let share = if reached > missed { (wanted - missed) / (reached - missed) } else { 1.0 };
        Some(less + ((effort - less) as f32 * share).ceil() as u32)
    }

    /// The name of its folder.
    pub(super) fn folder(&self) -> String {
        let kind = match self.kind {
            // As it was called then; numbers are never given out twice.
            Kind::Hannoy => Kind::Graph.as_str(),
            kind => kind.as_str(),
        };
        format!("{:08}-{kind}", self.id)
    }

    pub(super) fn record(&self) -> Vec<u8> {
        let mut record = Vec::new();
        record.put_u32(self.model);
        record.put_u64(self.first);
        record.put_u32(self.count);
        record.put_u8(u8::from(self.sealed));
        record.put_u8(self.kind as u8);
        record.put_i64(self.ends.0);
        record.put_i64(self.ends.1);
        record.put_u64(self.bytes);
        record.put_u32(self.left_out);
        record.put_count(self.recall.len());
        for (effort, recall) in &self.recall {
            record.put_u32(*effort);
            record.put_f32(*recall);
        }
        record
    }

    pub(super) fn read(id: SegmentId, record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let (model, first, count) = (get.u32()?, get.u64()?, get.u32()?);
        let sealed = get.u8()? != 0;
        let kind = match get.u8()? {
            0 => Kind::Exact,
            1 => Kind::Forest,
            2 => Kind::Hannoy,
            3 => Kind::Graph,
            4 => Kind::Flat,
            _ => return Err(get.error("a segment of an unknown kind")),
        };
        let ends = (get.i64()?, get.i64()?);
        let (bytes, left_out) = (get.u64()?, get.u32()?);
        let recall = (0..get.count(64)?).map(|_| Ok((get.u32()?, get.f32()?))).collect::<Result<_, CodecError>>()?;
        get.end()?;
        Ok(Self { id, model, first, count, sealed, kind, ends, bytes, recall, left_out })
    }
}

/// Whose vectors lie in a segment: those of two models are never compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Digest of the bundle.
    pub digest: String,
    /// The head.
    pub head: String,
    /// Components of a vector.
    pub dimensions: usize,
}

impl Model {
    pub(super) fn record(&self) -> Vec<u8> {
        let mut record = Vec::new();
        record.put_text(&self.digest);
        record.put_text(&self.head);
        record.put_count(self.dimensions);
        record
    }

    pub(super) fn read(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let model = Self { digest: get.text()?, head: get.text()?, dimensions: get.count(1 << 16)? };
        get.end()?;
        Ok(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_knows_its_effort() {
        let recall = vec![(10, 0.5), (20, 0.97), (40, 0.99)];
        let segment = SegmentRecord {
            id: 3,
            model: 1,
            first: 10,
            count: 5,
            sealed: true,
            kind: Kind::Graph,
            ends: (-1, 7),
            bytes: 4096,
            recall,
            left_out: 2,
        };
        assert_eq!(SegmentRecord::read(3, &segment.record()), Ok(segment.clone()));
        assert!(SegmentRecord::read(3, &segment.record()[..20]).is_err());
        assert_eq!((segment.effort(0.95), segment.effort(1.0), segment.end()), (Some(20), None, 15));
        let forest = SegmentRecord { kind: Kind::Forest, ..segment.clone() };
        assert!(forest.effort(0.95) > segment.effort(0.95), "more is kept back");
        let model = Model { digest: "d".into(), head: "learned".into(), dimensions: 64 };
        assert_eq!(Model::read(&model.record()), Ok(model));
    }
}
