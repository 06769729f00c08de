//! What embed keeps of each series: 30,000 of them at some 400 bytes each once they are commissioned.
//!
//! Records: `s<series>` holds the scaling and the window, or, during commissioning, the count of held samples and the end of
//! their log; `c<series>\0<n>` holds a full chunk of that log, which is written once. (LMDB writes whole pages: what
//! changes with every sample stands close together, so a commit costs bytes, not a page, per series.) A series of bursts also
//! has the scaling of its spectra in its record, or, during commissioning, the end of its shapes, whose full chunks are
//! `p<series>\0<n>`; any other has records as if there were no bursts.

use std::{collections::HashMap, sync::Arc};

use eddy_runtime::stage::{SaveRecord, StateError};
use eddy_schemas::SeriesName;

use crate::{
    held::Held,
    shape::{Bands, HeldShapes},
};

/// Bytes of a held log that make a record of their own.
const CHUNK_BYTES: usize = 512;
const COMMISSIONING: u8 = 0;
const RUNNING: u8 = 1;
/// The same of a series of bursts.
const COMMISSIONING_BURSTS: u8 = 2;
const RUNNING_BURSTS: u8 = 3;

/// How values are scaled, frozen at the end of commissioning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) mean: f64,
    pub(crate) sd: f64,
}

/// Where a series is in its life.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its samples are held until there are enough of them to scale by.
    Commissioning(Box<Held>),
    /// A sample is a row.
    Running(Scale),
}

/// One series; its window stands in its [`Table`].
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: Arc<str>,
    pub(crate) phase: Phase,
    /// How many samples of the window are real; the rest repeats the first.
    pub(crate) filled: u16,
    /// How its spectra are scaled; `None` while it runs without any, or is commissioned.
    pub(crate) bands: Option<Box<Bands>>,
    dirty: bool,
    chunks_saved: u8,
    shapes_saved: u8,
}

/// All series, by slot.
#[derive(Debug)]
pub(crate) struct Table {
    width: usize,
    slots: HashMap<Arc<str>, u32>,
    series: Vec<Option<Series>>,
    free: Vec<u32>,
    windows: Vec<f32>,
    dirty: Vec<u32>,
    gone: Vec<Vec<u8>>,
    /// Chunks that were loaded before their series.
    chunks: HashMap<Vec<u8>, Vec<u8>>,
}

impl Table {
    /// For windows of `width` samples.
    pub(crate) fn new(width: usize) -> Self {
        Self {
            width,
            slots: HashMap::new(),
            series: Vec::new(),
            free: Vec::new(),
            windows: Vec::new(),
            dirty: Vec::new(),
            gone: Vec::new(),
            chunks: HashMap::new(),
        }
    }

    /// The slot of a series, which is new if it was not known.
    pub(crate) fn slot(&mut self, name: &str) -> u32 {
        self.slots.get(name).copied().unwrap_or_else(|| self.add(name, Phase::Commissioning(Box::default())))
    }

    fn add(&mut self, name: &str, phase: Phase) -> u32 {
        let name: Arc<str> = name.into();
        let series = Series {
            name: name.clone(),
            phase,
            filled: 0,
            bands: None,
            dirty: false,
            chunks_saved: 0,
            shapes_saved: 0,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            if self.windows.capacity() - self.windows.len() < self.width {
                // By an eighth: doubling would waste as much as it holds.
                self.windows.reserve_exact(self.width * (16 + self.series.len() / 8));
            }
            self.windows.resize(self.windows.len() + self.width, 0.0);
            self.series.push(None);
            // Names are bounded by memory far below u32::MAX.
            self.series.len() as u32 - 1
        });
        self.series[slot as usize] = Some(series);
        self.slots.insert(name, slot);
        slot
    }

    /// The series in a slot that was given out and not forgotten.
    pub(crate) fn get(&self, slot: u32) -> &Series {
        self.series[slot as usize].as_ref().expect("a slot is asked for only while its series is there")
    }

    /// The same, about to be changed: it will be saved. With its window, oldest sample first.
    pub(crate) fn change(&mut self, slot: u32) -> (&mut Series, &mut [f32]) {
        let at = slot as usize;
        let series = self.series[at].as_mut().expect("a slot is asked for only while its series is there");
        if !series.dirty {
            series.dirty = true;
            self.dirty.push(slot);
        }
        (series, &mut self.windows[at * self.width..(at + 1) * self.width])
    }

    /// Puts a series into another phase and returns what it held.
    pub(crate) fn enter(&mut self, slot: u32, phase: Phase) -> Phase {
        let (series, _) = self.change(slot);
        let before = std::mem::replace(&mut series.phase, phase);
        (series.filled, series.bands) = (0, None);
        let (name, chunks) = (series.name.clone(), std::mem::take(&mut series.chunks_saved));
        let shapes = std::mem::take(&mut series.shapes_saved);
        self.gone.extend((0..chunks).map(|chunk| chunk_key(CHUNK, &name, chunk)));
        self.gone.extend((0..shapes).map(|chunk| chunk_key(SHAPES, &name, chunk)));
        before
    }

    /// The slots of a device (its encoded token), by series name.
    pub(crate) fn device(&self, token: &str) -> Vec<u32> {
        let known = self.slots.iter().filter(|(name, _)| SeriesName::device_token(name) == token);
        let mut found: Vec<_> = known.collect();
        found.sort();
        found.into_iter().map(|(_, slot)| *slot).collect()
    }

    /// Forgets a series wholly.
    pub(crate) fn remove(&mut self, slot: u32) {
        self.enter(slot, Phase::Commissioning(Box::default()));
        if let Some(series) = self.series[slot as usize].take() {
            self.gone.push(series_key(&series.name));
            self.slots.remove(&series.name);
            self.dirty.retain(|dirty| *dirty != slot);
            self.free.push(slot);
        }
    }

    /// Windows are of `width` samples from here on: of longer ones the newest are kept, before shorter ones the oldest one is
    /// repeated, as it is in a window that is not full.
    pub(crate) fn set_width(&mut self, width: usize) {
        if width == self.width {
            return;
        }
        let old = std::mem::replace(&mut self.width, width);
        let mut windows = Vec::with_capacity(self.series.len() * width);
        for window in self.windows.chunks_exact(old) {
            let kept = &window[old.saturating_sub(width)..];
            windows.extend(std::iter::repeat_n(kept[0], width - kept.len()));
            windows.extend_from_slice(kept);
        }
        self.windows = windows;
        for slot in 0..self.series.len() {
            if let Some(series) = &mut self.series[slot] {
                // A window has at most 4,096 samples.
                series.filled = usize::from(series.filled).min(width) as u16;
                // Slots are u32.
                self.change(slot as u32);
            }
        }
    }

    /// Tells every record that changed.
    pub(crate) fn save(&mut self, record: &mut SaveRecord<'_>) {
        for key in self.gone.drain(..) {
            record(&key, None);
        }
        let mut value = Vec::new();
        for slot in std::mem::take(&mut self.dirty) {
            let at = slot as usize;
            let Some(series) = self.series[at].as_mut() else { continue };
            series.dirty = false;
            value.clear();
            match &series.phase {
                Phase::Running(scale) => {
                    value.push(if series.bands.is_some() { RUNNING_BURSTS } else { RUNNING });
                    series.bands.iter().for_each(|bands| bands.write(&mut value));
                    value.extend_from_slice(&scale.mean.to_le_bytes());
                    value.extend_from_slice(&scale.sd.to_le_bytes());
                    value.extend_from_slice(&series.filled.to_le_bytes());
                    let window = &self.windows[at * self.width..(at + 1) * self.width];
                    value.extend(window.iter().flat_map(|x| x.to_le_bytes()));
                }
                Phase::Commissioning(held) => {
                    let chunks = held.log().chunks_exact(CHUNK_BYTES);
                    value.push(if held.shapes.len() > 0 { COMMISSIONING_BURSTS } else { COMMISSIONING });
                    if held.shapes.len() > 0 {
                        let shapes = held.shapes.chunks();
                        // Less than a chunk.
                        value.extend_from_slice(&(shapes.remainder().len() as u16).to_le_bytes());
                        value.extend_from_slice(shapes.remainder());
                        for (index, chunk) in shapes.enumerate().skip(usize::from(series.shapes_saved)) {
                            // At most 2,000 shapes in chunks of 16.
                            record(&chunk_key(SHAPES, &series.name, index as u8), Some(chunk));
                            series.shapes_saved = index as u8 + 1;
                        }
                    }
                    value.extend_from_slice(&(held.len() as u32).to_le_bytes());
                    value.extend_from_slice(chunks.remainder());
                    for (index, chunk) in chunks.enumerate().skip(usize::from(series.chunks_saved)) {
                        // At most 2,000 samples of at most 29 bytes: 114 chunks.
                        record(&chunk_key(CHUNK, &series.name, index as u8), Some(chunk));
                        series.chunks_saved = index as u8 + 1;
                    }
                }
            }
            record(&series_key(&series.name), Some(&value));
        }
    }

    /// Takes a record back. Chunks come before their series: records come in the order of their keys.
    pub(crate) fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let error = |problem: String| StateError { key: String::from_utf8_lossy(key).into_owned(), problem };
        match key.split_first() {
            Some((b'c' | b'p', _)) => {
                self.chunks.insert(key.to_vec(), value.to_vec());
                Ok(())
            }
            Some((b's', name)) => {
                let name = std::str::from_utf8(name).map_err(|_| error("its series' name is not UTF-8".into()))?;
                self.load_series(name, value).map_err(error)
            }
            _ => Err(error("expected a key that begins with s, c or p".into())),
        }
    }

    /// A log that was saved in chunks, and how many; its end follows.
    fn take_chunks(&mut self, kind: u8, name: &str, end: &[u8]) -> Result<(Vec<u8>, u8), String> {
        let (mut log, mut chunks) = (Vec::new(), 0_u8);
        while let Some(chunk) = self.chunks.remove(&chunk_key(kind, name, chunks)) {
            log.extend_from_slice(&chunk);
            chunks = chunks.checked_add(1).ok_or("more chunks of its log than were ever written")?;
        }
        log.extend_from_slice(end);
        Ok((log, chunks))
    }

    fn load_series(&mut self, name: &str, value: &[u8]) -> Result<(), String> {
        if SeriesName::parse(name).is_none() {
            return Err(format!("{name:?} is not device/channel"));
        }
        let short = || format!("{} bytes are too few", value.len());
        let (tag, mut rest) = value.split_first().ok_or_else(short)?;
        match *tag {
            COMMISSIONING | COMMISSIONING_BURSTS => {
                let mut end: &[u8] = &[];
                if *tag == COMMISSIONING_BURSTS {
                    let (length, after) = rest.split_first_chunk().ok_or_else(short)?;
                    let length = usize::from(u16::from_le_bytes(*length));
                    (end, rest) = after.split_at_checked(length).ok_or_else(short)?;
                }
                let (rows, tail) = rest.split_first_chunk().ok_or_else(short)?;
                let rows = u32::from_le_bytes(*rows) as usize;
                let (log, chunks_saved) = self.take_chunks(CHUNK, name, tail)?;
                let (shapes, shapes_saved) = self.take_chunks(SHAPES, name, end)?;
                let mut held = Held::from_log(log, rows)?;
                held.shapes = HeldShapes::from_log(shapes, rows)?;
                let slot = self.add(name, Phase::Commissioning(Box::new(held)));
                if let Some(series) = &mut self.series[slot as usize] {
                    (series.chunks_saved, series.shapes_saved) = (chunks_saved, shapes_saved);
                }
            }
            RUNNING | RUNNING_BURSTS => {
                let mut bands = None;
                if *tag == RUNNING_BURSTS {
                    let (scaling, after) = rest.split_first_chunk().ok_or_else(short)?;
                    (bands, rest) = (Some(Box::new(Bands::read(scaling))), after);
                }
                let (mean, rest) = rest.split_first_chunk().ok_or_else(short)?;
                let (sd, rest) = rest.split_first_chunk().ok_or_else(short)?;
                let (filled, window) = rest.split_first_chunk().ok_or_else(short)?;
                if window.len() != self.width * 4 {
                    return Err(format!(
                        "expected a window of {} samples as the bundle takes, found {} bytes: reset this stage's state, \
                         or go back to a bundle of the same input_window",
                        self.width,
                        window.len()
                    ));
                }
                let (scale, filled) = (
                    Scale { mean: f64::from_le_bytes(*mean), sd: f64::from_le_bytes(*sd) },
                    u16::from_le_bytes(*filled),
                );
                if !(scale.mean.is_finite() && scale.sd.is_finite() && scale.sd > 0.0) {
                    return Err(format!("scaled by mean {} and deviation {}, which none can be", scale.mean, scale.sd));
                }
                if usize::from(filled) > self.width {
                    return Err(format!("{filled} samples in a window of {}", self.width));
                }
                let float = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                if let Some(at) = window.chunks_exact(4).position(|sample| !float(sample).is_finite()) {
                    return Err(format!("sample {at} of its window is not finite"));
                }
                let slot = self.add(name, Phase::Running(scale));
                let (to, _) = self.windows[slot as usize * self.width..].split_at_mut(self.width);
                for (to, from) in to.iter_mut().zip(window.chunks_exact(4)) {
                    *to = float(from);
                }
                if let Some(series) = &mut self.series[slot as usize] {
                    (series.filled, series.bands) = (filled, bands);
                }
            }
            other => return Err(format!("expected a record of kind 0 to 3, found {other}")),
        }
        Ok(())
    }
}

fn series_key(name: &str) -> Vec<u8> {
    [b"s", name.as_bytes()].concat()
}

/// Kinds of chunks: of held samples, of their shapes.
const CHUNK: u8 = b'c';
const SHAPES: u8 = b'p';

fn chunk_key(kind: u8, name: &str, chunk: u8) -> Vec<u8> {
    [&[kind], name.as_bytes(), &[0, chunk]].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::held::Sample;

    type Store = BTreeMap<Vec<u8>, Vec<u8>>;

    fn save(table: &mut Table, store: &mut Store) -> usize {
        let mut records = 0;
        table.save(&mut |key, value| {
            records += 1;
            match value {
                Some(value) => drop(store.insert(key.to_vec(), value.to_vec())),
                None => drop(store.remove(key).expect("only what was saved is taken back")),
            }
        });
        records
    }

    fn load(store: &Store) -> Table {
        let mut table = Table::new(4);
        store.iter().for_each(|(key, value)| table.load(key, value).unwrap());
        table
    }

    fn hold(table: &mut Table, name: &str, samples: usize) {
        let slot = table.slot(name);
        for i in 0..samples {
            let (series, _) = table.change(slot);
            let Phase::Commissioning(held) = &mut series.phase else { panic!("{name} is commissioned") };
            held.push(Sample { time: i as i64, value: (i as f64 + 0.5).sin(), quality: 0, period: 1 });
        }
    }

    #[test]
    fn a_full_chunk_is_saved_once_and_gone_with_its_series() {
        let (mut table, mut store) = (Table::new(4), Store::new());
        hold(&mut table, "d/a", 120);
        assert_eq!(save(&mut table, &mut store), 3, "two chunks and the series");
        hold(&mut table, "d/a", 1);
        assert_eq!(save(&mut table, &mut store), 1);
        assert_eq!(save(&mut table, &mut store), 0);
        let mut loaded = load(&store);
        let slot = loaded.slot("d/a");
        assert!(matches!(&loaded.get(slot).phase, Phase::Commissioning(held) if held.len() == 121));
        assert_eq!(save(&mut loaded, &mut store), 0);
        loaded.enter(slot, Phase::Running(Scale { mean: 1.0, sd: 2.0 }));
        loaded.change(slot).1.copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
        save(&mut loaded, &mut store);
        assert_eq!(store.len(), 1, "the chunks are gone");
        let mut again = load(&store);
        let slot = again.slot("d/a");
        assert_eq!(again.change(slot).1, [1.0, 2.0, 3.0, 4.0]);
        again.remove(slot);
        save(&mut again, &mut store);
        assert!(store.is_empty());
    }

    #[test]
    fn a_series_that_comes_back_before_the_next_save_is_saved_anew() {
        let (mut table, mut store) = (Table::new(4), Store::new());
        hold(&mut table, "d/a", 120);
        save(&mut table, &mut store);
        let slot = table.slot("d/a");
        table.remove(slot);
        hold(&mut table, "d/a", 3);
        save(&mut table, &mut store);
        let mut loaded = load(&store);
        let slot = loaded.slot("d/a");
        assert!(matches!(&loaded.get(slot).phase, Phase::Commissioning(held) if held.len() == 3));
    }

    #[test]
    fn a_damaged_record_is_an_error_not_no_state() {
        let (mut table, mut store) = (Table::new(4), Store::new());
        hold(&mut table, "d/a", 120);
        save(&mut table, &mut store);
        let series = store.get(b"sd/a".as_slice()).unwrap().clone();
        for (key, value) in [
            (b"sd/a".to_vec(), series.clone()), // Its chunks are missing.
            (b"sd/a".to_vec(), vec![]),
            (b"sd/a".to_vec(), vec![RUNNING; 19]),
            (b"sd/a".to_vec(), vec![7]),
            (b"x".to_vec(), vec![]),
        ] {
            assert!(Table::new(4).load(&key, &value).is_err(), "{key:?} {value:?}");
        }
    }

    #[test]
    fn windows_get_longer_by_their_oldest_sample_and_shorter_by_losing_it() {
        let (mut table, mut store) = (Table::new(4), Store::new());
        let slot = table.slot("d/a");
        table.enter(slot, Phase::Running(Scale { mean: 1.0, sd: 2.0 }));
        table.change(slot).1.copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
        table.change(slot).0.filled = 4;
        save(&mut table, &mut store);
        table.set_width(6);
        assert_eq!(table.change(slot).1, [1.0, 1.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(save(&mut table, &mut store), 1, "its record is as long");
        let mut wide = Table::new(6);
        store.iter().for_each(|(key, value)| wide.load(key, value).unwrap());
        assert_eq!((wide.change(0).1[2], wide.get(0).filled), (1.0, 4));
        table.set_width(3);
        assert_eq!((table.change(slot).1.to_vec(), table.get(slot).filled), (vec![2.0, 3.0, 4.0], 3));
    }

    #[test]
    fn a_device_is_its_token_not_a_prefix() {
        let mut table = Table::new(4);
        let slots: Vec<_> = ["d/b", "d/a", "d2/a", "c/d"].iter().map(|name| table.slot(name)).collect();
        assert_eq!(table.device("d"), [slots[1], slots[0]]);
    }
}
