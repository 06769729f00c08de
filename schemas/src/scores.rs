//! DETECTIONS' score batches: what detect thought of each window.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, Float32Array, Float64Array, UInt16Array, builder::BinaryBuilder};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, Field};
use half::f16;
use serde::{Deserialize, Serialize};

use crate::{
    Control, Rows, RowsBuilder, Timestamp,
    layout::{Layout, LayoutError},
};

/// Version 2 tells how long a window with a vector is and how much of it is real; in version 1 both are unknown.
const LAYOUT: Layout = Layout { name: "scores", oldest: 1, current: 2 };

/// Bytes of a vector's cell before its components: the window's span (i64), its real samples (u16).
const WINDOW_BYTES: usize = 10;

/// Where a batch's metadata has its [`ShadowReport`], as JSON.
const SHADOW: &str = "eddy.shadow";

/// What a score row says beside its numbers: a bit set.
pub mod flags {
    /// The series was still being commissioned: it cannot alert.
    pub const COMMISSIONING: u16 = 1 << 0;
    /// The device was under maintenance: it neither alerts nor learns.
    pub const MAINTENANCE: u16 = 1 << 1;
    /// The gate kept the window out of the histories: it looks anomalous.
    pub const GATED: u16 = 1 << 2;
    /// The window entered the learned head's history (it was new, not a refresh): `vector` is set.
    pub const KEPT: u16 = 1 << 3;
    /// The window opened, updated or closed an alert: `vector` is set.
    pub const ALERTED: u16 = 1 << 4;
    /// Not a series' window but the device's joint vector; the row's channel is [`super::JOINT_CHANNEL`].
    pub const JOINT: u16 = 1 << 5;
    /// Admitted although it looks anomalous, because it persisted: a new regime.
    pub const REGIME: u16 = 1 << 6;
    /// The window is one of those by which the open episode of its device is compared with others: `vector` is set.
    pub const EPISODE: u16 = 1 << 7;
}

/// The channel that stands for all of a device's channels together. No real channel can be called that: it would be encoded.
pub const JOINT_CHANNEL: &str = "*";

/// A batch of scores.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Series, the window's end, controls.
    pub rows: Rows,
    /// Per row the anomaly score, 0 is ordinary. A peak of its series, the highest for some hundred rows, is told in full; any other
    /// row tells a level below 0.2, how unusual the recent rows were. Joint rows know no peaks.
    pub score: ScalarBuffer<f32>,
    /// Per row the tail probability of the window among the series' own past, in (0, 1].
    pub tail: ScalarBuffer<f64>,
    /// Per row the [`flags`].
    pub flags: ScalarBuffer<u16>,
    /// Per row the window with the learned head's vector (little-endian f16), where it was kept, alerted, or is an episode's.
    vector: BinaryArray,
    /// Bytes before a vector's components.
    before: usize,
    /// Digest of the bundle that made the vectors.
    pub bundle: String,
    /// How the bundle in the shadow does, if one runs there.
    pub shadow: Option<ShadowReport>,
}

/// How a bundle in the shadow does since it is there, up to the end of a batch: told in the batch's metadata, so that it depends on
/// how rows are batched and no row does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowReport {
    /// Its digest.
    pub bundle: String,
    /// Series that it has seen.
    pub series: u64,
    /// Those of them that it has been commissioned for: only these can alert.
    pub warm: u64,
    /// Rows of these.
    pub rows: u64,
    /// Alerts that it would have opened on these rows.
    pub opened: u64,
    /// Alerts that the active one opened on these rows.
    pub told: u64,
    /// Whether it was the active one before: it can be gone back to.
    #[serde(default)]
    pub was_active: bool,
}

impl Scores {
    /// Reads a batch.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let (batch, version) = LAYOUT.read(bytes)?;
        let before = if version < 2 { 0 } else { WINDOW_BYTES };
        let score: &Float32Array = LAYOUT.column(&batch, "score")?;
        let tail: &Float64Array = LAYOUT.column(&batch, "tail")?;
        let flags: &UInt16Array = LAYOUT.column(&batch, "flags")?;
        let vector: &BinaryArray = LAYOUT.column(&batch, "vector")?;
        let is_whole = |cell: &[u8]| cell.len() >= before && (cell.len() - before).is_multiple_of(2);
        if let Some(row) = (0..vector.len()).find(|row| vector.is_valid(*row) && !is_whole(vector.value(*row))) {
            let bytes = vector.value(row).len();
            let problem = format!("row {row}: a vector of {bytes} bytes, not {before} and two for each component");
            return Err(LAYOUT.content(problem));
        }
        Ok(Self {
            rows: Rows::read_named(&LAYOUT, &batch)?,
            score: score.values().clone(),
            tail: tail.values().clone(),
            flags: flags.values().clone(),
            vector: vector.clone(),
            before,
            bundle: batch.schema().metadata().get("eddy.bundle").cloned().unwrap_or_default(),
            // What another release says of it is not worth a refusal.
            shadow: batch.schema().metadata().get(SHADOW).and_then(|json| serde_json::from_str(json).ok()),
        })
    }

    /// The window of a row that is told, with the learned head's vector.
    pub fn window(&self, row: usize) -> Option<KeptWindow> {
        if !self.vector.is_valid(row) {
            return None;
        }
        let (window, vector) = self.vector.value(row).split_at(self.before);
        // Without bytes of its own (version 1) nothing is known of it.
        let (span, filled) = match window.split_first_chunk::<8>() {
            Some((span, [low, high])) => (i64::from_le_bytes(*span).max(0), u16::from_le_bytes([*low, *high])),
            _ => (0, 0),
        };
        let vector = vector.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]])).collect();
        Some(KeptWindow { span, filled, vector })
    }
}

/// A window that is told with its vector.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptWindow {
    /// Nanoseconds between its first and its last sample; 0 where the series' period is not known.
    pub span: i64,
    /// How many of its samples are real; 0 where it is not known.
    pub filled: u16,
    /// The learned head's vector.
    pub vector: Vec<f16>,
}

/// What to tell of a window with its vector.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// See [`KeptWindow::span`].
    pub span: i64,
    /// See [`KeptWindow::filled`].
    pub filled: u16,
    /// See [`KeptWindow::vector`].
    pub vector: &'a [f32],
}

/// Collects a batch of scores of one bundle.
#[derive(Debug)]
pub struct ScoresBuilder {
    bundle: String,
    shadow: Option<ShadowReport>,
    rows: RowsBuilder,
    score: Vec<f32>,
    tail: Vec<f64>,
    flags: Vec<u16>,
    vector: BinaryBuilder,
    vector_bytes: usize,
}

impl ScoresBuilder {
    /// For the bundle with this digest.
    pub fn new(bundle: &str) -> Self {
        Self {
            bundle: bundle.to_owned(),
            shadow: None,
            rows: RowsBuilder::default(),
            score: Vec::new(),
            tail: Vec::new(),
            flags: Vec::new(),
            vector: BinaryBuilder::new(),
            vector_bytes: 0,
        }
    }

    /// Adds a score of `series` (canonical text).
    pub fn push(&mut self, series: &str, time: Timestamp, score: f32, tail: f64, flags: u16, window: Option<Told<'_>>) {
        self.rows.push(series, time);
        self.score.push(score);
        self.tail.push(tail);
        self.flags.push(flags);
        match window {
            Some(Told { span, filled, vector }) => {
                let mut bytes = Vec::with_capacity(WINDOW_BYTES + 2 * vector.len());
                bytes.extend(span.to_le_bytes());
                bytes.extend(filled.to_le_bytes());
                bytes.extend(vector.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
                self.vector_bytes += bytes.len();
                self.vector.append_value(bytes);
            }
            None => self.vector.append_null(),
        }
    }

    /// Adds a control.
    pub fn push_control(&mut self, control: &Control) {
        self.rows.push_control(control);
        self.score.push(0.0);
        self.tail.push(1.0);
        self.flags.push(0);
        self.vector.append_null();
    }

    /// Says which bundle the rows that follow belong to. The batch must be empty.
    pub fn set_bundle(&mut self, bundle: &str) {
        debug_assert!(self.is_empty());
        bundle.clone_into(&mut self.bundle);
    }

    /// Says how the bundle in the shadow does by now.
    pub fn set_shadow(&mut self, report: Option<ShadowReport>) {
        self.shadow = report;
    }

    /// The digest of the bundle of this batch.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// How many rows there are, controls included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// About how many bytes the batch takes once written.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.rows.len() * 18 + self.vector_bytes
    }

    /// Writes the batch; the builder is empty afterwards.
    pub fn encode(&mut self) -> Vec<u8> {
        let mut fields = RowsBuilder::fields();
        fields.push(Field::new("score", DataType::Float32, false));
        fields.push(Field::new("tail", DataType::Float64, false));
        fields.push(Field::new("flags", DataType::UInt16, false));
        fields.push(Field::new("vector", DataType::Binary, true));
        let mut columns = self.rows.finish();
        columns.push(Arc::new(Float32Array::from(std::mem::take(&mut self.score))) as ArrayRef);
        columns.push(Arc::new(Float64Array::from(std::mem::take(&mut self.tail))));
        columns.push(Arc::new(UInt16Array::from(std::mem::take(&mut self.flags))));
        columns.push(Arc::new(self.vector.finish()));
        self.vector_bytes = 0;
        let report = self.shadow.as_ref().map(|report| {
            serde_json::to_string(report).expect("a report has string keys and integers only, so it always serializes")
        });
        let shadow = report.iter().map(|report| (SHADOW, report.as_str()));
        let metadata: Vec<_> = [("eddy.bundle", self.bundle.as_str())].into_iter().chain(shadow).collect();
        LAYOUT.write(fields, columns, &metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_with_and_without_vectors() {
        let mut builder = ScoresBuilder::new("digest");
        let told = Told { span: 60, filled: 7, vector: &[1.0, -2.0] };
        builder.push("d/t", 1, 0.5, 0.25, flags::KEPT, Some(told));
        builder.push("d/*", 1, 0.0, 1.0, flags::JOINT, None);
        let read = Scores::decode(&builder.encode()).unwrap();
        assert_eq!((read.bundle.as_str(), read.score[0], read.tail[0]), ("digest", 0.5, 0.25));
        let vector = vec![f16::from_f32(1.0), f16::from_f32(-2.0)];
        assert_eq!(read.window(0), Some(KeptWindow { span: 60, filled: 7, vector }));
        assert_eq!((read.window(1), read.shadow), (None, None));
        let report =
            ShadowReport { bundle: "next".into(), series: 3, warm: 2, rows: 70, opened: 1, told: 0, was_active: true };
        builder.set_shadow(Some(report.clone()));
        assert_eq!(Scores::decode(&builder.encode()).unwrap().shadow, Some(report));
    }

    #[test]
    fn the_release_before_told_only_the_vector() {
        let mut fields = RowsBuilder::fields();
        fields.push(Field::new("score", DataType::Float32, false));
        fields.push(Field::new("tail", DataType::Float64, false));
        fields.push(Field::new("flags", DataType::UInt16, false));
        fields.push(Field::new("vector", DataType::Binary, true));
        let mut rows = RowsBuilder::default();
        rows.push("d/t", 1);
        let mut columns = rows.finish();
        columns.push(Arc::new(Float32Array::from(vec![0.5])) as ArrayRef);
        columns.push(Arc::new(Float64Array::from(vec![0.5])));
        columns.push(Arc::new(UInt16Array::from(vec![0])));
        columns.push(Arc::new(BinaryArray::from(vec![Some(&[0u8, 60][..])])));
        let written = Layout { name: "scores", oldest: 1, current: 1 }.write(fields, columns, &[("eddy.bundle", "b")]);
        let vector = vec![f16::from_f32(1.0)];
        assert_eq!(Scores::decode(&written).unwrap().window(0), Some(KeptWindow { span: 0, filled: 0, vector }));
    }
}
