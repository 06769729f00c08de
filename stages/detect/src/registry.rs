//! All devices and series of a shard, by slot, and what of them is to be saved.

use std::collections::{BTreeSet, HashMap};

use eddy_runtime::{
    position::Seen,
    stage::{SaveRecord, StateError},
    state::Pieces,
};
use eddy_schemas::{SeriesName, Timestamp};
use eddy_vectors::codec::{CodecError, Get, Put};

use crate::{
    device::Device,
    plan::Plan,
    series::{Changed, Series},
};

/// A device of more channels than this is no device; a record that says so is refused before there is room for them.
pub const CHANNELS_MAX: usize = 4096;

/// What the keys of records of devices and series begin with ...
const NAMED: &str = "r";
/// ... and what stands between a name, which has none of it, and the record's kind.
const BEFORE_KIND: &str = "\0";

/// Where a series stands: its device and its place among its channels.
pub type Slot = (u32, u16);

/// All devices.
#[derive(Debug, Default)]
pub struct Registry {
    devices: Vec<Option<Device>>,
    free: Vec<u32>,
    by_token: HashMap<String, u32>,
    by_series: HashMap<String, Slot>,
    listed: Vec<u32>,
    gone: Vec<Vec<u8>>,
    /// Devices of which records came under keys of an earlier release: they are told anew, under their own.
    older: BTreeSet<u32>,
    is_stamped: bool,
    /// Devices of the snapshot that is being told, whose turn has not come ...
    pending: Vec<u32>,
    /// ... and records of it that were made ahead of their device's turn.
    early: Pieces,
    /// Rows up to here may come again, and have been seen by some devices.
    seen: Seen,
    scratch: Scratch,
}

/// Where records are made.
#[derive(Debug, Default)]
struct Scratch {
    key: Vec<u8>,
    record: Vec<u8>,
}

impl Registry {
    /// How many series there are.
    pub fn len(&self) -> usize {
        self.by_series.len()
    }

    /// The slot of a series (canonical text), if it is known.
    pub fn find(&self, series: &str) -> Option<Slot> {
        self.by_series.get(series).copied()
    }

    /// The slot of a device, if it is known.
    pub fn device(&self, token: &str) -> Option<u32> {
        self.by_token.get(token).copied()
    }

    /// How many channels a series' device has.
    pub fn channels(&self, series: &str) -> usize {
        self.device(SeriesName::device_token(series)).map_or(0, |slot| self.get(slot).channels.len())
    }

    /// Adds a series that is not known.
    pub fn add(&mut self, plan: &Plan, series: &str) -> Slot {
        let device = self.device_or_new(SeriesName::device_token(series));
        // A replay meets as many series as there were.
        self.tell_early(plan, device);
        let place = self.get(device).channels.len() as u16;
        self.put_channel(plan, device, series, place);
        (device, place)
    }

    /// The slot of a device that need not have been seen; none if there are `devices_max` already.
    pub fn expect_device(&mut self, token: &str, devices_max: usize) -> Option<u32> {
        (self.by_token.len() < devices_max).then(|| self.device_or_new(token))
    }

    fn device_or_new(&mut self, token: &str) -> u32 {
        if let Some(slot) = self.device(token) {
            return slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.devices.push(None);
            // Bounded by `series_max`.
            self.devices.len() as u32 - 1
        });
        self.devices[slot as usize] = Some(Device::new(token));
        self.by_token.insert(token.to_owned(), slot);
        slot
    }

    /// Whether series `name` can stand at `place` of its device: no other one does, and it stands nowhere else.
    fn has_place(&self, name: &str, place: u16) -> bool {
        let device = self.device(SeriesName::device_token(name));
        let there = device.and_then(|slot| self.get(slot).channels.get(usize::from(place)));
        let is_free = there.is_none_or(|series| series.name.is_empty() || series.name == name);
        is_free && self.find(name).is_none_or(|(_, known)| known == place)
    }

    /// Puts a series at its place among its device's channels; places before it may be filled later.
    fn put_channel(&mut self, plan: &Plan, device: u32, series: &str, place: u16) {
        let channel = SeriesName::parse(series).map_or_else(String::new, |name| name.channel);
        let channels = &mut self.get_mut(device).channels;
        while channels.len() <= usize::from(place) {
            channels.push(Series::new(plan, "", ""));
        }
        if channels[usize::from(place)].name.is_empty() {
            channels[usize::from(place)] = Series::new(plan, series, &channel);
        }
        self.by_series.insert(series.to_owned(), (device, place));
    }

    /// A device that was given out and not removed.
    pub fn get(&self, slot: u32) -> &Device {
        self.devices[slot as usize].as_ref().expect("a slot is used only while its device is there")
    }

    fn get_mut(&mut self, slot: u32) -> &mut Device {
        self.devices[slot as usize].as_mut().expect("a slot is used only while its device is there")
    }

    /// The same, about to change: it will be saved.
    pub fn change(&mut self, slot: u32) -> &mut Device {
        let device = self.devices[slot as usize].as_mut().expect("a slot is used only while its device is there");
        device.changed = true;
        if !device.listed {
            device.listed = true;
            self.listed.push(slot);
        }
        device
    }

    /// Forgets a device wholly.
    pub fn remove(&mut self, plan: &Plan, slot: u32) {
        self.tell_early(plan, slot);
        let Some(device) = self.devices[slot as usize].take() else { return };
        self.gone.extend([key(&device.token, "d"), key(&device.token, "j")]);
        for series in &device.channels {
            self.by_series.remove(&series.name);
            self.gone.extend(["h", "q", "c"].map(|kind| key(&series.name, kind)));
            self.gone.extend(plan.group_kinds.iter().map(|kind| key(&series.name, kind)));
        }
        self.by_token.remove(&device.token);
        self.listed.retain(|listed| *listed != slot);
        self.older.remove(&slot);
        self.free.push(slot);
    }

    /// Forgets all devices; the keys of all records that there may be, and what is left to tell of a snapshot.
    pub fn remove_all(&mut self, plan: &Plan) -> (Vec<Vec<u8>>, Pieces) {
        self.slots().into_iter().for_each(|slot| self.remove(plan, slot));
        self.gone.push(b"b".to_vec());
        self.is_stamped = false;
        self.pending.clear();
        (std::mem::take(&mut self.gone), std::mem::take(&mut self.early))
    }

    /// All devices, by name.
    pub fn slots(&self) -> Vec<u32> {
        let mut devices: Vec<_> = self.by_token.iter().collect();
        devices.sort_unstable();
        devices.into_iter().map(|(_, slot)| *slot).collect()
    }

    /// How many series are past commissioning.
    pub fn live(&self) -> u64 {
        let channels = self.devices.iter().flatten().flat_map(|device| &device.channels);
        channels.filter(|series| series.live).count() as u64
    }

    /// The devices under maintenance, encoded, and until when, by name.
    pub fn maintained(&self) -> Vec<(String, Timestamp)> {
        let devices = self.devices.iter().flatten();
        let mut found: Vec<_> =
            devices.filter_map(|device| Some((device.token.clone(), device.maintenance?))).collect();
        found.sort();
        found
    }

    /// Rows up to `seen` may come again, and have been seen by some devices.
    pub fn loaded(&mut self, seen: Seen) {
        self.seen = seen;
    }

    /// Whether a device has seen a row of message `sequence` before, when it came for the first time.
    pub fn has_seen(&self, slot: u32, sequence: u64, row: usize) -> bool {
        self.seen.covers(sequence, row) && self.get(slot).seen.covers(sequence, row)
    }

    /// A snapshot begins, of what has changed so far.
    pub fn begin_save(&mut self, plan: &Plan) {
        if !self.is_stamped {
            self.early.push(b"b", Some(plan.digest.as_bytes()));
            self.is_stamped = true;
        }
        for slot in std::mem::take(&mut self.older) {
            self.change(slot).touch();
        }
        // What was removed first: a device that came again since writes over it.
        self.gone.drain(..).for_each(|key| self.early.push(&key, None));
        self.pending.append(&mut self.listed);
        // By name, so that what is written together lies together; the last is told first.
        let Self { devices, pending, .. } = self;
        let token = |slot: u32| devices[slot as usize].as_ref().map(|device| device.token.as_str());
        let mut named: Vec<_> = pending.iter().map(|slot| (token(*slot), *slot)).collect();
        named.sort_unstable_by(|a, b| b.cmp(a));
        *pending = named.into_iter().map(|(_, slot)| slot).collect();
        for slot in pending {
            if let Some(device) = &mut devices[*slot as usize] {
                (device.listed, device.pending) = (false, true);
            }
        }
    }

    /// Tells of the snapshot what had to be made early, and the records of up to `at_most` devices, of which it takes off those that it
    /// told. Returns whether all is told.
    pub fn save_some(&mut self, plan: &Plan, at_most: &mut usize, tell: &mut SaveRecord<'_>) -> bool {
        // First all of these: they may say that a device is gone which came again.
        while let Some(piece) = self.early.pop() {
            piece.iter().for_each(|(key, value)| tell(key, value));
        }
        while *at_most > 0
            && let Some(slot) = self.pending.pop()
        {
            // It may be gone, or told, or another one by now.
            if let Some(device) = self.devices[slot as usize].as_mut().filter(|device| device.pending) {
                device.pending = false;
                save_device(plan, device, &mut self.scratch, tell);
                *at_most -= 1;
            }
        }
        self.pending.is_empty()
    }

    /// All devices whose turn has not come.
    pub fn tell_all_early(&mut self, plan: &Plan) {
        std::mem::take(&mut self.pending).into_iter().for_each(|slot| self.tell_early(plan, slot));
    }

    /// A device's records go into the snapshot as they are, if its turn has not come: what changes it next is no row of its own, and
    /// a replay does it again.
    pub fn tell_early(&mut self, plan: &Plan, slot: u32) {
        let Self { devices, early, scratch, .. } = self;
        if let Some(device) = devices[slot as usize].as_mut().filter(|device| device.pending) {
            device.pending = false;
            save_device(plan, device, scratch, &mut |key, value| early.push(key, value));
        }
    }

    /// Takes one record back.
    ///
    /// # Errors
    /// If it is not one of this release and bundle.
    pub fn load(&mut self, plan: &Plan, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let wrong = |problem: String| StateError { key: String::from_utf8_lossy(key).into_owned(), problem };
        if key == b"b" {
            self.is_stamped = true;
            let digest = String::from_utf8_lossy(value);
            return if digest == plan.digest {
                Ok(())
            } else {
                Err(wrong(format!(
                    "made with bundle {digest}, configured is {}: configure that one, or clear this stage's state to begin anew",
                    plan.digest
                )))
            };
        }
        let text = std::str::from_utf8(key).map_err(|error| wrong(error.to_string()))?;
        let own = text.strip_prefix(NAMED);
        let (kind, name) = match own {
            Some(own) => own.rsplit_once(BEFORE_KIND).map(|(name, kind)| (kind.to_owned(), name)),
            None => older_kind(text),
        }
        .ok_or_else(|| wrong("the key is of no record".into()))?;
        self.load_named(plan, &kind, name, &mut Get::new(value)).map_err(|error| wrong(error.to_string()))?;
        if own.is_none() {
            self.gone.push(key.to_vec());
            self.older.extend(self.device(SeriesName::device_token(name)));
        }
        Ok(())
    }

    fn load_named(&mut self, plan: &Plan, kind: &str, name: &str, record: &mut Get<'_>) -> Result<(), CodecError> {
        let joint = plan.joint.map(|head| &plan.heads[head]);
        if name.is_empty() {
            return Err(record.error("a record of a device or series without a name"));
        }
        let (kind, group) = kind.split_at_checked(1).unwrap_or((kind, ""));
        match (kind, joint) {
            ("d", _) => {
                let slot = self.device_or_new(name);
                let device = self.get_mut(slot);
                device.load_hot(joint, record)?;
                device.changed = false;
            }
            ("j", Some(head)) => {
                let slot = self.device_or_new(name);
                let device = self.get_mut(slot);
                device.joint.load_cold(head, record)?;
                device.joint.changed_cold = false;
            }
            // A bundle without a joint head: there is only this much of one.
            ("j", None) => {
                record.u16()?;
                record.count(0)?;
            }
            ("h" | "q" | "c" | "m", _) => {
                let place = record.u16()?;
                if SeriesName::parse(name).is_none() {
                    return Err(record.error("a series that is not called device/channel"));
                }
                // The channels below it are made room for: see `CHANNELS_MAX`.
                if usize::from(place) >= CHANNELS_MAX || !self.has_place(name, place) {
                    return Err(record.error("a series' place among its device's channels is not its own"));
                }
                let device = self.device_or_new(SeriesName::device_token(name));
                self.put_channel(plan, device, name, place);
                let series = &mut self.get_mut(device).channels[usize::from(place)];
                series.changed = Changed::default();
                match (kind, group.parse().ok().and_then(|group: usize| plan.groups.get(group))) {
                    ("h", _) => series.load_hot(plan, record)?,
                    ("q", _) => series.load_delays(plan, record)?,
                    ("c", _) => series.load_calibrations(plan, record)?,
                    (_, Some(group)) => {
                        if group.end > series.heads.len() {
                            series.grow(plan);
                        }
                        series.heads[group.clone()].iter_mut().try_for_each(|state| state.history.load(record))?;
                    }
                    (_, None) => return Err(record.error("histories of heads that the bundle does not have")),
                }
            }
            _ => return Err(record.error("a key of no known kind")),
        }
        record.end()
    }
}

fn save_device(plan: &Plan, device: &mut Device, scratch: &mut Scratch, tell: &mut SaveRecord<'_>) {
    let Scratch { key, record } = scratch;
    let mut write = |name: &str, kind: &str, put: &mut dyn FnMut(&mut Vec<u8>)| {
        key.clear();
        record.clear();
        [NAMED, name, BEFORE_KIND, kind].iter().for_each(|part| key.extend_from_slice(part.as_bytes()));
        put(record);
        tell(key, Some(record));
    };
    if std::mem::take(&mut device.changed) {
        write(&device.token, "d", &mut |record| device.save_hot(record));
    }
    if std::mem::take(&mut device.joint.changed_cold) {
        write(&device.token, "j", &mut |record| device.joint.save_cold(record));
    }
    for (place, series) in device.channels.iter_mut().enumerate() {
        let place = place as u16;
        let changed = std::mem::take(&mut series.changed);
        if changed.hot {
            write(&series.name, "h", &mut |record| {
                record.put_u16(place);
                series.save_hot(plan, record);
            });
        }
        if changed.delays {
            write(&series.name, "q", &mut |record| {
                record.put_u16(place);
                series.save_delays(record);
            });
        }
        if changed.calibrations {
            write(&series.name, "c", &mut |record| {
                record.put_u16(place);
                series.save_calibrations(record);
            });
        }
        for (at, group) in plan.groups.iter().enumerate() {
            let Some(heads) = series.heads.get_mut(group.clone()) else { continue };
            // Each is asked, so that none tells the same change again.
            if heads.iter_mut().fold(false, |changed, state| state.history.take_dirty() | changed) {
                write(&series.name, &plan.group_kinds[at], &mut |record| {
                    record.put_u16(place);
                    heads.iter().for_each(|state| state.history.save(record));
                });
            }
        }
    }
}

/// The key of a record of a device or series: what is of one device lies together.
fn key(name: &str, kind: &str) -> Vec<u8> {
    [NAMED, name, BEFORE_KIND, kind].concat().into_bytes()
}

/// Kind and name in a key of an earlier release, `<kind><name>`, or `m<group>,<name>` of histories.
fn older_kind(key: &str) -> Option<(String, &str)> {
    let (kind, name) = key.split_at_checked(1)?;
    match name.split_once(',').filter(|_| kind == "m") {
        Some((group, name)) => Some((format!("m{group}"), name)),
        None => Some((kind.to_owned(), name)),
    }
}
