//! Readings of one device that wait for its watermark, in the order in which they will go out: by time, and at one time
//! by the name of the series.

use eddy_schemas::{
    Timestamp,
    bursts::{BANDS, Spectrum},
};

use crate::record::{Reader, put_varint};

/// A reading that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The channel's token.
    pub channel: Box<str>,
    /// Event time.
    pub time: Timestamp,
    /// Value.
    pub value: f64,
    /// Flags that it came with.
    pub quality: u16,
    /// Of a burst its spectrum: the burst itself does not wait.
    pub spectrum: Option<Box<Spectrum>>,
}

/// The readings of a device that wait.
#[derive(Debug, Default)]
pub struct Waiting(Vec<Reading>);

impl Waiting {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one of `channel` is within `first..=last`.
    pub fn any_within(&self, channel: &str, (first, last): (Timestamp, Timestamp)) -> bool {
        let from = self.0.partition_point(|reading| reading.time < first);
        self.0[from..].iter().take_while(|reading| reading.time <= last).any(|reading| *reading.channel == *channel)
    }

    /// Puts one in its place.
    pub fn insert(&mut self, reading: Reading) {
        let before = |other: &Reading| (other.time, &other.channel) <= (reading.time, &reading.channel);
        self.0.insert(self.0.partition_point(before), reading);
    }

    /// Takes out what is not after `watermark`.
    pub fn release(&mut self, watermark: Timestamp) -> Vec<Reading> {
        self.0.drain(..self.0.partition_point(|reading| reading.time <= watermark)).collect()
    }

    /// Takes out the first.
    pub fn release_oldest(&mut self) -> Vec<Reading> {
        self.0.drain(..self.0.len().min(1)).collect()
    }

    /// Appends to a record.
    pub fn write(&self, record: &mut Vec<u8>) {
        put_varint(record, self.0.len() as u64);
        for reading in &self.0 {
            put_varint(record, reading.channel.len() as u64);
            record.extend(reading.channel.as_bytes());
            record.extend(reading.time.to_le_bytes());
            record.extend(reading.value.to_le_bytes());
            record.extend(reading.quality.to_le_bytes());
        }
        // Spectra follow, each with the place of its reading; where there are none, so does nothing.
        for (place, reading) in self.0.iter().enumerate() {
            if let Some(spectrum) = &reading.spectrum {
                put_varint(record, place as u64);
                spectrum.iter().for_each(|level| record.extend(level.to_le_bytes()));
            }
        }
    }

    /// Reads what [`Self::write`] wrote, which ends the record.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, String> {
        let count = reader.count("waiting readings", crate::config::REORDER_ROWS_MAX)?;
        let mut waiting = Self::default();
        for _ in 0..count {
            let length = reader.count("bytes of a channel", eddy_schemas::names::NAME_BYTES_MAX)?;
            let channel = std::str::from_utf8(reader.bytes(length)?).map_err(|error| error.to_string())?.into();
            let (time, value, quality) = (reader.i64()?, reader.f64()?, reader.u16()?);
            waiting.insert(Reading { channel, time, value, quality, spectrum: None });
        }
        while !reader.is_empty() {
            let place = reader.count("readings before a spectrum", crate::config::REORDER_ROWS_MAX)?;
            let mut spectrum = Box::new([0.0; BANDS]);
            for level in spectrum.iter_mut() {
                *level = reader.f32()?;
            }
            let reading =
                waiting.0.get_mut(place).ok_or_else(|| format!("a spectrum of reading {place} of {count}"))?;
            reading.spectrum = Some(spectrum);
        }
        Ok(waiting)
    }

    /// The channels of those that wait.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|reading| &*reading.channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(readings: &[(&str, i64)]) -> Waiting {
        let mut waiting = Waiting::default();
        for (channel, time) in readings {
            let spectrum =
                (*time % 2 == 0).then(|| Box::new(std::array::from_fn(|band| band as f32 - 0.1 * *time as f32)));
            waiting.insert(Reading { channel: (*channel).into(), time: *time, value: 1.0, quality: 7, spectrum });
        }
        waiting
    }

    fn order(readings: &[Reading]) -> Vec<(&str, i64)> {
        readings.iter().map(|reading| (&*reading.channel, reading.time)).collect()
    }

    #[test]
    fn they_go_out_by_time_then_name_however_they_came() {
        let mut waiting = of(&[("b", 3), ("a", 5), ("c", 1), ("a", 3)]);
        assert!(waiting.any_within("a", (2, 3)) && !waiting.any_within("c", (2, 9)));
        assert_eq!(order(&waiting.release(3)), [("c", 1), ("a", 3), ("b", 3)]);
        assert_eq!(order(&waiting.release_oldest()), [("a", 5)]);
        assert_eq!((waiting.len(), waiting.release_oldest()), (0, vec![]));
    }

    #[test]
    fn a_record_comes_back() {
        let waiting = of(&[("b", i64::MAX), ("a", i64::MIN), ("%C3%A9", 0)]);
        let mut record = Vec::new();
        waiting.write(&mut record);
        let mut reader = Reader(&record);
        assert_eq!(Waiting::read(&mut reader).unwrap().0, waiting.0);
        reader.end().unwrap();
        assert!(waiting.0.iter().any(|reading| reading.spectrum.is_some()));
        assert!(Waiting::read(&mut Reader(&record[..record.len() - 1])).is_err());
    }
}
