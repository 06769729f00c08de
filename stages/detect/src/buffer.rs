//! What the channels of a device say before they are judged together: thinned rows, joined afterwards by time.

use eddy_vectors::codec::{CodecError, Get, Put};
use half::f16;

/// Rows of one channel that are buffered; when there are more, every other one goes.
pub const BUFFER_ROWS_MAX: usize = 208;

/// Thinned rows of one channel: every `stride`-th.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buffer {
    /// Rows that were offered.
    pub rows: u32,
    /// Those of them while the channel was commissioned.
    pub commissioned: u32,
    /// Those of them after.
    pub live: u32,
    stride_log2: u8,
    first: i64,
    /// A sixteenth of a row, in nanoseconds.
    unit: i64,
    /// Units since `first`, and the vector.
    entries: Vec<(u32, Vec<f16>)>,
}

impl Buffer {
    /// Takes a row; one without a vector only counts.
    pub fn push(&mut self, time: i64, live: bool, vector: Option<&[f32]>) {
        match self.rows {
            0 => (self.first, self.unit) = (time, 1),
            // Times are a device's own: whatever they are must not overflow (INV-6).
            1 => self.unit = (time.saturating_sub(self.first) / 16).max(1),
            _ => {}
        }
        if live {
            self.live += 1;
        } else {
            self.commissioned += 1;
        }
        if let Some(vector) = vector
            && self.rows.is_multiple_of(self.stride())
        {
            // Sixteenths of a row fit u32 for 268 million rows; the buffer is joined long before.
            let since = (time.saturating_sub(self.first) / self.unit).clamp(0, i64::from(u32::MAX)) as u32;
            self.entries.push((since, vector.iter().map(|x| f16::from_f32(*x)).collect()));
            if self.entries.len() >= BUFFER_ROWS_MAX {
                self.halve();
            }
        }
        self.rows = self.rows.saturating_add(1);
    }

    fn halve(&mut self) {
        let mut index = 0;
        self.entries.retain(|_| {
            index += 1;
            index % 2 == 1
        });
        self.stride_log2 = (self.stride_log2 + 1).min(31);
    }

    /// Every how many rows one was kept.
    pub fn stride(&self) -> u32 {
        1 << self.stride_log2
    }

    fn since(&self, units: u32) -> i64 {
        self.first.saturating_add(i64::from(units).saturating_mul(self.unit))
    }

    fn time(&self, entry: usize) -> i64 {
        self.since(self.entries[entry].0)
    }

    /// The newest entry at or before `time`, give or take a unit, if it is not much older than a stride.
    fn at(&self, time: i64) -> Option<&[f16]> {
        let end = self.entries.partition_point(|(since, _)| self.since(*since) <= time.saturating_add(self.unit));
        let entry = end.checked_sub(1)?;
        let oldest = self.unit.saturating_mul(32 * i64::from(self.stride()));
        (time.saturating_sub(self.time(entry)) <= oldest).then(|| self.entries[entry].1.as_slice())
    }

    /// Appends it to a record.
    pub fn save(&self, record: &mut Vec<u8>) {
        record.put_u32(self.rows);
        record.put_u32(self.commissioned);
        record.put_u32(self.live);
        record.put_u8(self.stride_log2);
        record.put_i64(self.first);
        record.put_i64(self.unit);
        record.put_count(self.entries.len());
        let mut before = 0;
        for (since, vector) in &self.entries {
            // Times need not ascend; what wraps comes back.
            record.put_varint(since.wrapping_sub(before));
            before = *since;
            vector.iter().for_each(|x| record.put_u16(x.to_bits()));
        }
    }

    /// Reads what [`Self::save`] wrote of vectors of `dimensions`.
    ///
    /// # Errors
    /// If the record is not one.
    pub fn load(record: &mut Get<'_>, dimensions: usize) -> Result<Self, CodecError> {
        let (rows, commissioned, live) = (record.u32()?, record.u32()?, record.u32()?);
        let stride_log2 = record.u8()?.min(31);
        let (first, unit) = (record.i64()?, record.i64()?);
        let count = record.count(BUFFER_ROWS_MAX)?;
        let mut entries = Vec::with_capacity(count);
        let mut since = 0u32;
        for _ in 0..count {
            since = since.wrapping_add(record.varint()?);
            let vector = (0..dimensions).map(|_| record.u16().map(f16::from_bits)).collect::<Result<_, _>>()?;
            entries.push((since, vector));
        }
        Ok(Self { rows, commissioned, live, stride_log2, first, unit, entries })
    }
}

/// Joint vectors, oldest first: for each entry of the channel that has the fewest, what all channels said by then.
pub fn join(buffers: &[Buffer]) -> Vec<Vec<f32>> {
    let Some(reference) = buffers.iter().min_by_key(|buffer| buffer.entries.len()) else { return Vec::new() };
    let joint = |time: i64| {
        let mut vector = Vec::new();
        for buffer in buffers {
            vector.extend(buffer.at(time)?.iter().map(|x| x.to_f32()));
        }
        Some(vector)
    };
    (0..reference.entries.len()).filter_map(|entry| joint(reference.time(entry))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn filled(rows: impl Iterator<Item = i64>) -> Buffer {
        let mut buffer = Buffer::default();
        rows.for_each(|row| buffer.push(row * SECOND, false, Some(&[row as f32, -(row as f32)])));
        buffer
    }

    #[test]
    fn stays_within_its_bound_and_spreads_over_all_rows() {
        let buffer = filled(0..400);
        assert_eq!((buffer.rows, buffer.stride(), buffer.entries.len()), (400, 2, 200));
        let mut record = Vec::new();
        buffer.save(&mut record);
        assert!(record.len() <= 40 + BUFFER_ROWS_MAX * 5);
        assert_eq!(Buffer::load(&mut Get::new(&record), 2), Ok(buffer));
    }

    #[test]
    fn channels_are_joined_by_time_though_one_missed_a_row_and_one_began_late() {
        let buffers = [filled(0..400), filled((0..400).filter(|row| *row != 77)), filled(20..420)];
        let vectors = join(&buffers);
        assert!(vectors.len() > 90, "{}", vectors.len());
        for vector in vectors {
            assert!(vector.iter().step_by(2).all(|x| (x - vector[0]).abs() <= 8.0), "{vector:?}");
        }
    }

    #[test]
    fn channels_that_never_spoke_together_have_no_joint_vector() {
        assert!(join(&[filled(0..100), filled(10_000..10_100)]).is_empty());
        assert!(join(&[]).is_empty());
    }
}
