//! The devices and their series: found by name once per message, by number from then on.
//!
//! A state record is one series (`device/channel` as its key) or one device (`device`, which has no `/`). Numbers are
//! never saved: they depend on who came first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use eddy_runtime::stage::{SaveRecord, StateError};
use eddy_schemas::SeriesName;

use crate::{
    checks::Checks,
    config::{Rule, Settings},
    pace::Pace,
    recent::Recent,
    record::Reader,
    silence::LastHeard,
    waiting::Waiting,
};

/// One channel of one device.
#[derive(Debug)]
pub struct Series {
    /// Canonical text.
    pub name: Box<str>,
    /// Its device's number.
    pub device: usize,
    /// Its rule's number.
    pub rule: usize,
    /// Event times of its last samples.
    pub recent: Recent,
    /// What is known of its period, where that is learned.
    pub pace: Pace,
    /// What its last values say.
    pub checks: Checks,
    /// Nanoseconds after which its device is silent, as noted there.
    silence_after: i64,
    dirty: bool,
}

impl Series {
    /// The channel's token.
    pub fn channel(&self) -> &str {
        self.name.split_once('/').map_or("", |(_, channel)| channel)
    }
}

/// A device.
#[derive(Debug)]
pub struct Device {
    /// Its name as a token.
    pub token: Box<str>,
    /// The numbers of its series, by name.
    pub series: Vec<usize>,
    /// When it was last heard; `None` before its first row.
    pub heard: Option<LastHeard>,
    /// Per series after how many nanoseconds it is silent, counted.
    silences: BTreeMap<i64, u32>,
    /// Its silence was told by the wall clock. Never saved.
    pub silence_told: bool,
    /// Readings that wait for its watermark.
    pub waiting: Waiting,
    dirty: bool,
}

impl Device {
    /// It is silent after so many nanoseconds: the shortest of its series'.
    pub fn silence_after(&self) -> i64 {
        self.silences.first_key_value().map_or(i64::MAX, |(shortest, _)| *shortest)
    }

    fn change_silence(&mut self, before: i64, after: i64) {
        if let Some(count) = self.silences.get_mut(&before) {
            *count -= 1;
            if *count == 0 {
                self.silences.remove(&before);
            }
        }
        *self.silences.entry(after).or_default() += 1;
    }
}

/// All devices and series.
#[derive(Debug, Default)]
pub struct Fleet {
    series: Numbered<Series>,
    devices: Numbered<Device>,
    /// Keys of records that are to go.
    gone: BTreeSet<String>,
}

impl Fleet {
    /// The number of a series that is known.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.series.find(name)
    }

    /// The number of a series that was not known; `None` if there are too many.
    pub fn add_if_room(&mut self, name: &str, parsed: &SeriesName, settings: &Settings) -> Option<usize> {
        (self.series.len() < settings.series_max).then(|| self.add(name, parsed, settings))
    }

    fn add(&mut self, name: &str, parsed: &SeriesName, settings: &Settings) -> usize {
        let device = self.device_or_new(SeriesName::device_token(name));
        let rule = settings.rule_of(&parsed.device, &parsed.channel);
        let silence_after = settings.rule(rule).silence_after;
        let series = Series {
            name: name.into(),
            device,
            rule,
            recent: Recent::default(),
            pace: Pace::default(),
            checks: Checks::default(),
            silence_after,
            dirty: false,
        };
        let number = self.series.add(name, series);
        let place = &mut self.devices[device];
        *place.silences.entry(silence_after).or_default() += 1;
        let by_name = place.series.partition_point(|other| *self.series[*other].name < *name);
        place.series.insert(by_name, number);
        number
    }

    fn device_or_new(&mut self, token: &str) -> usize {
        self.devices.find(token).unwrap_or_else(|| {
            let device = Device {
                token: token.into(),
                series: Vec::new(),
                heard: None,
                silences: BTreeMap::new(),
                silence_told: false,
                waiting: Waiting::default(),
                dirty: false,
            };
            self.devices.add(token, device)
        })
    }

    /// The number of a device that is known.
    pub fn find_device(&self, token: &str) -> Option<usize> {
        self.devices.find(token)
    }

    /// A series to look at.
    pub fn series(&self, number: usize) -> &Series {
        &self.series[number]
    }

    /// A series that is about to change.
    pub fn series_mut(&mut self, number: usize) -> &mut Series {
        self.series.touch(number, |series| std::mem::replace(&mut series.dirty, true))
    }

    /// Notes that a series, whose rule this is, is patient for longer or shorter than before.
    pub fn change_patience(&mut self, number: usize, rule: &Rule) {
        let series = &mut self.series[number];
        let after = rule.silence_after.max(series.pace.patience());
        let before = std::mem::replace(&mut series.silence_after, after);
        self.devices[series.device].change_silence(before, after);
    }

    /// A device to look at.
    pub fn device(&self, number: usize) -> &Device {
        &self.devices[number]
    }

    /// A device that is about to change.
    pub fn device_mut(&mut self, number: usize) -> &mut Device {
        self.devices.touch(number, |device| std::mem::replace(&mut device.dirty, true))
    }

    /// All devices, for what is not saved.
    pub fn devices_mut(&mut self) -> impl Iterator<Item = &mut Device> {
        self.devices.items.iter_mut().flatten()
    }

    /// Forgets a device with its series.
    pub fn remove(&mut self, number: usize) {
        let Some(device) = self.devices.remove(number, |device| device.token.to_string()) else { return };
        for series in device.series {
            if let Some(series) = self.series.remove(series, |series| series.name.to_string()) {
                self.gone.insert(series.name.into());
            }
        }
        self.gone.insert(device.token.into());
    }

    /// Tells the records that changed since the last call.
    pub fn save(&mut self, record: &mut SaveRecord<'_>) {
        for key in std::mem::take(&mut self.gone) {
            record(key.as_bytes(), None);
        }
        let mut value = Vec::new();
        for number in std::mem::take(&mut self.series.changed) {
            let Some(series) = &mut self.series.items[number] else { continue };
            // A number that was given up and given again stands here twice.
            if std::mem::take(&mut series.dirty) {
                value.clear();
                series.recent.write(&mut value);
                series.pace.write(&mut value);
                series.checks.write(&mut value);
                record(series.name.as_bytes(), Some(&value));
            }
        }
        for number in std::mem::take(&mut self.devices.changed) {
            let Some(device) = &mut self.devices.items[number] else { continue };
            if std::mem::take(&mut device.dirty)
                && let Some(heard) = device.heard
            {
                value.clear();
                value.extend(heard.newest.to_le_bytes());
                value.extend(heard.arrival.to_le_bytes());
                device.waiting.write(&mut value);
                record(device.token.as_bytes(), Some(&value));
            }
        }
    }

    /// Takes a record back, in any order.
    ///
    /// # Errors
    /// If it is not one that [`Self::save`] told.
    pub fn load(&mut self, key: &[u8], value: &[u8], settings: &Settings) -> Result<(), StateError> {
        let loaded = match std::str::from_utf8(key) {
            Ok(name) if name.contains('/') => self.load_series(name, value, settings),
            Ok("") => Err("a device without a name".into()),
            Ok(token) => self.load_device(token, value, settings),
            Err(error) => Err(format!("its key is not UTF-8: {error}")),
        };
        loaded.map_err(|problem| StateError { key: String::from_utf8_lossy(key).into_owned(), problem })
    }

    fn load_series(&mut self, name: &str, value: &[u8], settings: &Settings) -> Result<(), String> {
        let mut reader = Reader(value);
        let (recent, pace, checks) = (Recent::read(&mut reader)?, Pace::read(&mut reader)?, Checks::read(&mut reader)?);
        reader.end()?;
        let number = self.known_or_new(name, settings)?;
        let series = &mut self.series[number];
        (series.recent, series.checks) = (recent, checks);
        let rule = settings.rule(series.rule);
        if rule.learns {
            series.pace = pace;
            self.change_patience(number, rule);
        }
        Ok(())
    }

    fn load_device(&mut self, token: &str, value: &[u8], settings: &Settings) -> Result<(), String> {
        let mut reader = Reader(value);
        let heard = LastHeard { newest: reader.i64()?, arrival: reader.i64()? };
        let waiting = Waiting::read(&mut reader)?;
        reader.end()?;
        let names: BTreeSet<String> = waiting.channels().map(|channel| format!("{token}/{channel}")).collect();
        for name in names {
            self.known_or_new(&name, settings)?;
        }
        let number = self.device_or_new(token);
        let device = &mut self.devices[number];
        (device.heard, device.waiting) = (Some(heard), waiting);
        Ok(())
    }

    /// What was saved is taken back even if the limit is lower now.
    fn known_or_new(&mut self, name: &str, settings: &Settings) -> Result<usize, String> {
        if let Some(known) = self.series.find(name) {
            return Ok(known);
        }
        let parsed = SeriesName::parse(name).ok_or_else(|| format!("{name:?} is not device/channel"))?;
        Ok(self.add(name, &parsed, settings))
    }
}

/// Things with a name and a number; numbers are given again once they are free.
#[derive(Debug)]
struct Numbered<T> {
    numbers: HashMap<String, usize>,
    items: Vec<Option<T>>,
    free: Vec<usize>,
    changed: Vec<usize>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), items: Vec::new(), free: Vec::new(), changed: Vec::new() }
    }
}

impl<T> Numbered<T> {
    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    fn add(&mut self, name: &str, item: T) -> usize {
        let number = self.free.pop().unwrap_or_else(|| {
            self.items.push(None);
            self.items.len() - 1
        });
        self.items[number] = Some(item);
        self.numbers.insert(name.to_owned(), number);
        number
    }

    fn remove(&mut self, number: usize, name: impl Fn(&T) -> String) -> Option<T> {
        let item = self.items[number].take()?;
        self.numbers.remove(&name(&item));
        self.free.push(number);
        Some(item)
    }

    /// The item, noted as changed; `mark` marks it and says whether it was marked before.
    fn touch(&mut self, number: usize, mark: impl Fn(&mut T) -> bool) -> &mut T {
        let item = self.items[number].as_mut().expect(TAKEN);
        if !mark(item) {
            self.changed.push(number);
        }
        item
    }
}

const TAKEN: &str = "a number is handed out with its item, and forgotten by everyone when the item goes";

impl<T> std::ops::Index<usize> for Numbered<T> {
    type Output = T;

    fn index(&self, number: usize) -> &T {
        self.items[number].as_ref().expect(TAKEN)
    }
}

impl<T> std::ops::IndexMut<usize> for Numbered<T> {
    fn index_mut(&mut self, number: usize) -> &mut T {
        self.items[number].as_mut().expect(TAKEN)
    }
}
