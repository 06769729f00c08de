//! State records. A key is `a`, `b`, `e` or `t`, or a device's or series' name and, behind a zero byte, a kind; what is of one device lies
//! together, and what changes with every row stands close together in it.
//!
//! | key | what | changes |
//! |---|---|---|
//! | `a` | which judge is at which place, and which is active ([`crate::panel`]) | when bundles change |
//! | `b` | digest of the bundle that all of it was made with | never |
//! | `e` | what is left to tell of judges that are gone | with rows, after a change of bundles |
//! | `t` | how two judges of the same rows compare, and up to which row | with rows, while there are two |
//! | `d` of a device | episode, budget, maintenance, the joint's newest round, how far in the input it has come | every row |
//! | `h` of a series | running statistics, newest evidence, scalar vectors that wait | every row |
//! | `q` | longer vectors that wait | every few rows |
//! | `c` | calibrations | every 16 rows |
//! | `j` of a device | the joint's history or buffers | rarely, once commissioned |
//! | `m<group>` of a series | the histories of some heads | when something new is kept |
//!
//! The records of the second place are the same, `~` before their keys.
//!
//! Of a series of bursts, what is kept of the optional heads stands at the ends of its records; other series have none of it.
//!
//! Every record of a series begins with its place among its device's channels, so records can come in any order.

use eddy_runtime::position::Seen;
use eddy_vectors::{
    calibration::Calibration,
    codec::{CodecError, Get, Put},
    delay::packed_bytes,
    running::Running,
};

use crate::{
    budget::Budget,
    buffer::Buffer,
    device::Device,
    episode::Episode,
    joint::{Joined, Joint, Phase},
    plan::{HeadPlan, HeadState, Plan},
    series::{HELD_ROWS_MAX, Series, held_bytes},
    told::Told,
};

/// Up to this many dimensions a vector that waits stands in the hot record.
const HOT_DIMENSIONS_MAX: usize = 4;
/// Most bytes of a held window list or of a joint vector that is read back.
const HELD_BYTES_MAX: usize = 1 << 20;
/// The joint of a device stands in two records, which change together.
const OTHER_CHANNELS: &str = "the two records of a device's joint are not of the same channels";

/// Held windows are whole ones, each of `bytes`.
fn check_held(record: &Get<'_>, held: &[u8], bytes: usize, stride: u32) -> Result<(), CodecError> {
    if !held.len().is_multiple_of(bytes.max(1)) || stride == 0 {
        return Err(record.error("what is held is not whole windows, or none is ever held"));
    }
    Ok(())
}

fn put_head(state: &HeadState, record: &mut Vec<u8>) {
    state.distances.save(record);
    record.put_f32(state.commissioned);
    record.put_u8(state.pending.len() as u8);
    record.put(&state.pending);
}

fn get_head(state: &mut HeadState, record: &mut Get<'_>) -> Result<(), CodecError> {
    state.distances = Running::load(record)?;
    state.commissioned = record.f32()?;
    if !(state.commissioned.is_finite() && state.commissioned >= 0.0) {
        return Err(record.error("a distance of commissioning is none"));
    }
    let pending = usize::from(record.u8()?);
    let Ok(pending) = record.bytes(pending)?.try_into() else {
        return Err(record.error("too many distances wait for the calibration"));
    };
    state.pending = pending;
    Ok(())
}

fn put_hot(evidence: &[f32], heads: &[HeadState], record: &mut Vec<u8>) {
    evidence.iter().for_each(|part| record.put_f32(*part));
    for state in heads {
        put_head(state, record);
        if state.delay.dimensions() <= HOT_DIMENSIONS_MAX {
            state.delay.save(record);
        }
    }
}

fn get_hot(evidence: &mut [f32], heads: &mut [HeadState], record: &mut Get<'_>) -> Result<(), CodecError> {
    for part in evidence {
        *part = record.f32()?;
    }
    for state in heads {
        get_head(state, record)?;
        if state.delay.dimensions() <= HOT_DIMENSIONS_MAX {
            state.delay.load(record)?;
        }
    }
    Ok(())
}

impl Series {
    /// The record that changes with every row.
    pub fn save_hot(&self, plan: &Plan, record: &mut Vec<u8>) {
        for count in [self.rows, self.commissioned_rows, self.gated_rows, self.held_stride, self.held_seen] {
            record.put_u32(count);
        }
        record.put_u8(u8::from(self.live));
        for time in [self.first, self.newest, self.hop] {
            record.put_i64(time);
        }
        self.spread.save(record);
        record.put_f64(self.tail);
        self.told.save(record);
        let ((evidence, optional_evidence), (heads, optional)) =
            (self.evidence.split_at(plan.every), self.heads.split_at(plan.every));
        put_hot(evidence, heads, record);
        record.put_count(self.held.len());
        record.put(&self.held);
        put_hot(optional_evidence, optional, record);
    }

    /// Reads what [`Self::save_hot`] wrote.
    ///
    /// # Errors
    /// If the record is not one of these heads.
    pub fn load_hot(&mut self, plan: &Plan, record: &mut Get<'_>) -> Result<(), CodecError> {
        for count in [
            &mut self.rows,
            &mut self.commissioned_rows,
            &mut self.gated_rows,
            &mut self.held_stride,
            &mut self.held_seen,
        ] {
            *count = record.u32()?;
        }
        self.live = record.u8()? != 0;
        (self.first, self.newest, self.hop) = (record.i64()?, record.i64()?, record.i64()?);
        self.spread = Running::load(record)?;
        self.tail = record.f64()?;
        self.told = Told::load(record)?;
        get_hot(&mut self.evidence[..plan.every], &mut self.heads[..plan.every], record)?;
        let held = record.count(HELD_ROWS_MAX * held_bytes(plan, plan.series.len()))?;
        self.held = record.bytes(held)?.to_vec();
        if record.end().is_err() {
            self.grow(plan);
            get_hot(&mut self.evidence[plan.every..], &mut self.heads[plan.every..], record)?;
        }
        check_held(record, &self.held, held_bytes(plan, self.heads.len()), self.held_stride)?;
        Ok(())
    }

    /// The record of longer vectors that wait.
    pub fn save_delays(&self, record: &mut Vec<u8>) {
        for state in self.heads.iter().filter(|state| state.delay.dimensions() > HOT_DIMENSIONS_MAX) {
            state.delay.save(record);
        }
    }

    /// Reads what [`Self::save_delays`] wrote.
    ///
    /// # Errors
    /// If the record is not one of these heads.
    pub fn load_delays(&mut self, plan: &Plan, record: &mut Get<'_>) -> Result<(), CodecError> {
        let longer = |state: &&mut HeadState| state.delay.dimensions() > HOT_DIMENSIONS_MAX;
        self.heads[..plan.every].iter_mut().filter(longer).try_for_each(|state| state.delay.load(record))?;
        if record.end().is_ok() {
            return Ok(());
        }
        self.grow(plan);
        self.heads[plan.every..].iter_mut().filter(longer).try_for_each(|state| state.delay.load(record))
    }

    /// The record of calibrations.
    pub fn save_calibrations(&self, record: &mut Vec<u8>) {
        self.heads.iter().for_each(|state| state.calibration.save(record));
    }

    /// Reads what [`Self::save_calibrations`] wrote.
    ///
    /// # Errors
    /// If the record is not one of these heads.
    pub fn load_calibrations(&mut self, plan: &Plan, record: &mut Get<'_>) -> Result<(), CodecError> {
        for state in &mut self.heads[..plan.every] {
            state.calibration = Calibration::load(record)?;
        }
        if record.end().is_ok() {
            return Ok(());
        }
        self.grow(plan);
        for state in &mut self.heads[plan.every..] {
            state.calibration = Calibration::load(record)?;
        }
        Ok(())
    }
}

impl Device {
    /// The record that changes with every row.
    pub fn save_hot(&self, record: &mut Vec<u8>) {
        self.episode.save(record);
        self.budget.save(record);
        record.put_u8(u8::from(self.maintenance.is_some()));
        record.put_i64(self.maintenance.unwrap_or_default());
        record.put_i64(self.newest);
        self.joint.save_hot(record);
        record.put_u64(self.seen.sequence);
        record.put_u64(self.seen.rows);
    }

    /// Reads what [`Self::save_hot`] wrote; the joint's other record may come before or after.
    ///
    /// # Errors
    /// If the record is not one.
    pub fn load_hot(&mut self, plan: Option<&HeadPlan>, record: &mut Get<'_>) -> Result<(), CodecError> {
        self.episode = Episode::load(record)?;
        self.budget = Budget::load(record)?;
        let maintained = record.u8()? != 0;
        let until = record.i64()?;
        self.maintenance = maintained.then_some(until);
        self.newest = record.i64()?;
        self.joint.load_hot(plan, record)?;
        // A release before told all devices as of one position.
        self.seen = match record.end() {
            Ok(()) => Seen::default(),
            Err(_) => Seen { sequence: record.u64()?, rows: record.u64()? },
        };
        Ok(())
    }
}

impl Joint {
    fn save_hot(&self, record: &mut Vec<u8>) {
        record.put_f64(self.tail);
        record.put_i64(self.time);
        record.put_u32(self.gated_rounds);
        let Phase::Running(joined) = &self.phase else { return record.put_u16(0) };
        record.put_u16(joined.channels);
        record.put_u32(joined.rounds);
        record.put_i64(joined.newest);
        joined.delivered.iter().for_each(|said| record.put_u8(u8::from(*said)));
        joined.vector.iter().chain(&joined.difference).for_each(|x| record.put_f32(*x));
        put_head(&joined.state, record);
        record.put_u32(joined.held_stride);
        record.put_u32(joined.held_seen);
        record.put_count(joined.held.len());
        record.put(&joined.held);
    }

    /// The part for `channels` channels, made if the other record has not made it. `bytes` a channel are still to be read:
    /// they are counted before there is room for them.
    fn joined(
        &mut self,
        plan: &HeadPlan,
        channels: u16,
        bytes: usize,
        record: &Get<'_>,
    ) -> Result<&mut Joined, CodecError> {
        if record.left() < usize::from(channels) * bytes {
            return Err(record.error("the record ends before its last channel"));
        }
        if matches!(&self.phase, Phase::Collecting(buffers) if buffers.is_empty()) {
            self.phase = Phase::Running(Box::new(Joined::new(plan, channels)));
        }
        match &mut self.phase {
            Phase::Running(joined) if joined.channels == channels => Ok(joined),
            _ => Err(record.error(OTHER_CHANNELS)),
        }
    }

    fn load_hot(&mut self, plan: Option<&HeadPlan>, record: &mut Get<'_>) -> Result<(), CodecError> {
        (self.tail, self.time, self.gated_rounds) = (record.f64()?, record.i64()?, record.u32()?);
        let channels = record.u16()?;
        if channels == 0 && self.channels() > 0 {
            return Err(record.error(OTHER_CHANNELS));
        }
        let Some(plan) = plan.filter(|_| channels > 0) else { return Ok(()) };
        // Whether it has spoken; its part of the newest vector, and of the difference.
        let joined = self.joined(plan, channels, 1 + 8 * plan.dimensions, record)?;
        (joined.rounds, joined.newest) = (record.u32()?, record.i64()?);
        for said in &mut joined.delivered {
            *said = record.u8()? != 0;
        }
        for x in joined.vector.iter_mut().chain(&mut joined.difference) {
            *x = record.f32()?;
        }
        get_head(&mut joined.state, record)?;
        (joined.held_stride, joined.held_seen) = (record.u32()?, record.u32()?);
        let held = record.count(HELD_BYTES_MAX)?;
        joined.held = record.bytes(held)?.to_vec();
        check_held(record, &joined.held, packed_bytes(joined.vector.len()), joined.held_stride)?;
        Ok(())
    }

    /// The record that changes rarely.
    pub fn save_cold(&self, record: &mut Vec<u8>) {
        match &self.phase {
            Phase::Collecting(buffers) => {
                record.put_u16(0);
                record.put_count(buffers.len());
                buffers.iter().for_each(|buffer| buffer.save(record));
            }
            Phase::Running(joined) => {
                record.put_u16(joined.channels);
                for (center, spread) in &joined.scale {
                    record.put_f32(*center);
                    record.put_f32(*spread);
                }
                joined.state.delay.save(record);
                joined.state.calibration.save(record);
                joined.state.history.save(record);
            }
        }
    }

    /// Reads what [`Self::save_cold`] wrote.
    ///
    /// # Errors
    /// If the record is not one.
    pub fn load_cold(&mut self, plan: &HeadPlan, record: &mut Get<'_>) -> Result<(), CodecError> {
        let channels = record.u16()?;
        if channels == 0 {
            if self.channels() > 0 {
                return Err(record.error(OTHER_CHANNELS));
            }
            let count = record.count(usize::from(u16::MAX))?;
            let buffers = (0..count).map(|_| Buffer::load(record, plan.dimensions)).collect::<Result<_, _>>()?;
            self.phase = Phase::Collecting(buffers);
            return Ok(());
        }
        let joined = self.joined(plan, channels, 8 * plan.dimensions, record)?;
        for (center, spread) in &mut joined.scale {
            (*center, *spread) = (record.f32()?, record.f32()?);
            if !(center.is_finite() && spread.is_finite() && *spread > 0.0) {
                return Err(record.error("a component's scale is none"));
            }
        }
        joined.state.delay.load(record)?;
        joined.state.calibration = Calibration::load(record)?;
        joined.state.history.load(record)
    }
}
