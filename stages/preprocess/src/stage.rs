//! The preprocess stage.
//!
//! **Input** READINGS ([`Readings`]), **output** SAMPLES ([`SamplesBuilder`]); HEALTH and late rows beside it.
//!
//! Per row, in this order: a value that is no number is rejected; the device is noted as heard (silence, watermark); the
//! reading is judged by its series' last samples (new, duplicate, late); its step teaches its series' period, where none
//! is configured; missing grid points or readings are filled, directly before it; its value is checked (range, spike,
//! stuck); it goes out under its own event time, a burst as its [`crate::spectrum`], which is made only of those that go
//! out. Flags never drop a row: sent = emitted + duplicate + late + rejected (INV-4), and what waits if `lateness_s` is set.
//!
//! **State**: per series the times of its last 64 samples, what is known of its period, and its last five values with
//! their spread (150 bytes as a record at a steady pace, under 720 at worst); per device when it was last heard, and what
//! waits.
//!
//! **Order**: rows in READINGS' order; the output is in input order unless `lateness_s` is set. A control keeps its
//! place; `device_reset` puts out what waits, then forgets the device.
//!
//! **Redelivery**: none reaches the stage, the loop suppresses what its checkpoint covers. A reading that a *device* sends
//! twice is a duplicate, by series and event time, or by grid point.

use std::ops::Range;

use bytes::Bytes;
use eddy_runtime::stage::{Incoming, Input, LateRow, Outbox, SaveRecord, Scope, Spec, Stage, StateError};
use eddy_schemas::{
    Control, ControlKind, Readings, SamplesBuilder, SeriesName, Timestamp,
    health::{Condition, Health},
    names,
    side::Reason,
};

use crate::{
    config::{Config, Settings},
    emit::{New, channel_condition, emit},
    fleet::Fleet,
    grid,
    silence::{ArrivalClock, LastHeard},
    spectrum::Spectra,
    waiting::Reading,
};

/// Most devices that one tick tells as silent; the others follow a second later.
const SILENCES_MAX: usize = 1_000;

/// A series of a message that was not looked up yet.
const NOT_LOOKED_UP: usize = usize::MAX;

/// See the module's documentation.
#[derive(Debug)]
pub struct Preprocess {
    settings: Settings,
    fleet: Fleet,
    clock: ArrivalClock,
    spectra: Spectra,
    /// Per series of the message at hand its number.
    numbers: Vec<usize>,
}

/// What becomes of a reading.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    New,
    Duplicate,
    Late,
}

impl Stage for Preprocess {
    const SPEC: Spec = Spec {
        name: "preprocess",
        inputs: &[Input { stream: "READINGS", prefix: "readings", sharded: true }],
        output_stream: "SAMPLES",
        output_prefix: "samples",
        stateful: true,
        state_version: 2,
    };
    const DEFAULTS: &'static str = include_str!("../default.toml");
    type Config = Config;
    type Input = Readings;
    type Output = SamplesBuilder;

    fn new(config: Config, _scope: &Scope) -> Result<Self, Vec<String>> {
        let settings = Settings::new(&config)?;
        let (fleet, clock, spectra) = (Fleet::default(), ArrivalClock::default(), Spectra::default());
        Ok(Self { settings, fleet, clock, spectra, numbers: Vec::new() })
    }

    fn outputs(&self) -> Vec<SamplesBuilder> {
        vec![SamplesBuilder::default()]
    }

    fn decode(&self, message: &Incoming) -> Result<Readings, (Reason, String)> {
        Readings::decode(&message.payload).map_err(|error| {
            let reason = match error {
                eddy_schemas::LayoutError::Version { .. } => Reason::UnknownVersion,
                _ => Reason::Malformed,
            };
            (reason, error.to_string())
        })
    }

    fn rows(input: &Readings) -> usize {
        input.rows.len()
    }

    fn process(
        &mut self,
        message: &Incoming,
        input: &Readings,
        rows: Range<usize>,
        out: &mut Outbox<SamplesBuilder>,
    ) -> usize {
        self.forget_numbers(input.rows.names.len());
        for row in rows.clone() {
            match input.rows.control(row) {
                Some(control) => {
                    self.control(control, out);
                    self.forget_numbers(input.rows.names.len());
                }
                None => match self.look_up(input, row) {
                    Ok(number) => self.reading(number, input, row, out),
                    Err(detail) => {
                        let original = Bytes::from(describe(input, row));
                        out.reject(row, message, Reason::InvalidField, detail, 1, original);
                    }
                },
            }
            if out.is_full() {
                return row + 1;
            }
        }
        rows.end
    }

    fn tick(&mut self, now: Timestamp) -> Vec<Health> {
        let mut told = Vec::new();
        let Some(now) = self.clock.now(now) else { return told };
        for device in self.fleet.devices_mut().filter(|device| !device.silence_told) {
            let Some(heard) = device.heard else { continue };
            let silent = now.saturating_sub(heard.arrival);
            if silent > device.silence_after() && told.len() < SILENCES_MAX {
                device.silence_told = true;
                told.push(silence(&device.token, true, heard.newest, silent));
            }
        }
        told
    }

    fn save(&mut self, record: &mut SaveRecord<'_>) {
        self.fleet.save(record);
    }

    fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.fleet.load(key, value, &self.settings)?;
        if let Some(device) = std::str::from_utf8(key).ok().and_then(|token| self.fleet.find_device(token))
            && let Some(heard) = self.fleet.device(device).heard
        {
            self.clock.heard(heard.arrival);
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.fleet = Fleet::default();
        self.clock = ArrivalClock::default();
    }
}

impl Preprocess {
    fn forget_numbers(&mut self, names: usize) {
        self.numbers.clear();
        self.numbers.resize(names, NOT_LOOKED_UP);
    }

    /// The number of a reading's series, or why the reading is refused.
    fn look_up(&mut self, input: &Readings, row: usize) -> Result<usize, String> {
        let value = input.value[row];
        if !value.is_finite() {
            return Err(format!("value {value} of series {:?}: only finite numbers are taken", input.rows.name(row)));
        }
        if let Some(problem) = input.burst(row).and_then(|burst| burst.problem()) {
            return Err(format!("series {:?} has {problem}", input.rows.name(row)));
        }
        let index = input.rows.series[row] as usize;
        if self.numbers[index] == NOT_LOOKED_UP {
            let name = &input.rows.names[index];
            self.numbers[index] = match self.fleet.find(name) {
                Some(number) => number,
                None => self.add(name)?,
            };
        }
        Ok(self.numbers[index])
    }

    /// A new series' number, or why it is refused.
    fn add(&mut self, name: &str) -> Result<usize, String> {
        let parsed = SeriesName::parse(name).ok_or_else(|| format!("series {name:?} is not device/channel"))?;
        let most = self.settings.series_max;
        self.fleet
            .add_if_room(name, &parsed, &self.settings)
            .ok_or_else(|| format!("series {name:?} is new and there are {most} already: raise preprocess.series_max"))
    }

    fn reading(&mut self, number: usize, input: &Readings, row: usize, out: &mut Outbox<SamplesBuilder>) {
        let (time, arrival) = (input.rows.time[row], input.arrival[row]);
        self.hear(number, time, arrival, out);
        let device = self.fleet.series(number).device;
        if self.settings.lateness == 0 {
            // Only after a lateness that was configured until the last start.
            self.release(device, Timestamp::MAX, out);
        }
        match self.judge(number, time) {
            Verdict::Duplicate => out.duplicates += 1,
            Verdict::Late => out.late.push(LateRow {
                row,
                series: input.rows.name(row).to_owned(),
                time,
                value: input.value[row],
                quality: input.quality[row],
                arrival,
            }),
            Verdict::New => {
                let spectrum = input.burst(row).map(|burst| Box::new(self.spectra.of(burst)));
                let (value, quality) = (input.value[row], input.quality[row]);
                if self.settings.lateness == 0 {
                    self.emit(number, &New { time, value, quality, spectrum: spectrum.as_deref() }, out);
                } else {
                    let channel = self.fleet.series(number).channel().into();
                    let reading = Reading { channel, time, value, quality, spectrum };
                    self.fleet.device_mut(device).waiting.insert(reading);
                }
            }
        }
        if self.settings.lateness > 0 {
            self.release_ready(device, out);
        }
    }

    /// Notes that a device was heard, and tells a silence that this ends.
    fn hear(&mut self, number: usize, time: Timestamp, arrival: Timestamp, out: &mut Outbox<SamplesBuilder>) {
        self.clock.heard(arrival);
        let device = self.fleet.device_mut(self.fleet.series(number).device);
        let heard = match device.heard {
            None => LastHeard { newest: time, arrival },
            Some(before) => {
                let silent = before.silence_before(time, arrival);
                let is_told = std::mem::take(&mut device.silence_told);
                if silent > device.silence_after() && !is_told {
                    out.health.push(silence(&device.token, true, before.newest, silent));
                }
                if silent > device.silence_after() || is_told {
                    out.health.push(silence(&device.token, false, time, silent));
                }
                before.and(time, arrival)
            }
        };
        device.heard = Some(heard);
    }

    fn judge(&self, number: usize, time: Timestamp) -> Verdict {
        let series = self.fleet.series(number);
        let same = grid::span(self.settings.rule(series.rule).period, time);
        let waiting = &self.fleet.device(series.device).waiting;
        if series.recent.any_within(same) || waiting.any_within(series.channel(), same) {
            return Verdict::Duplicate;
        }
        if series.recent.last().is_some_and(|last| time < last) { Verdict::Late } else { Verdict::New }
    }

    /// Puts out what waits up to the device's watermark, and what is more than may wait.
    fn release_ready(&mut self, device: usize, out: &mut Outbox<SamplesBuilder>) {
        if let Some(heard) = self.fleet.device(device).heard {
            self.release(device, heard.newest.saturating_sub(self.settings.lateness), out);
        }
        while self.fleet.device(device).waiting.len() > self.settings.reorder_rows {
            let oldest = self.fleet.device_mut(device).waiting.release_oldest();
            out.count("reorder_full", 1);
            self.emit_all(device, &oldest, out);
        }
    }

    fn release(&mut self, device: usize, watermark: Timestamp, out: &mut Outbox<SamplesBuilder>) {
        if self.fleet.device(device).waiting.len() > 0 {
            let ready = self.fleet.device_mut(device).waiting.release(watermark);
            self.emit_all(device, &ready, out);
        }
    }

    fn emit_all(&mut self, device: usize, readings: &[Reading], out: &mut Outbox<SamplesBuilder>) {
        for reading in readings {
            let name = format!("{}/{}", self.fleet.device(device).token, reading.channel);
            let number = self.fleet.find(&name).expect("a reading waits under a series that was looked up");
            let Reading { time, value, quality, spectrum, .. } = reading;
            let new = New { time: *time, value: *value, quality: *quality, spectrum: spectrum.as_deref() };
            self.emit(number, &new, out);
        }
    }

    fn emit(&mut self, number: usize, new: &New<'_>, out: &mut Outbox<SamplesBuilder>) {
        let rule = self.settings.rule(self.fleet.series(number).rule);
        let series = self.fleet.series_mut(number);
        let patience = series.pace.patience();
        emit(series, rule, new, out);
        if series.pace.patience() != patience {
            self.fleet.change_patience(number, rule);
        }
    }

    /// A control passes in its place; what it means for this stage is only that a reset forgets.
    fn control(&mut self, control: &Control, out: &mut Outbox<SamplesBuilder>) {
        if let ControlKind::DeviceReset { device } = &control.kind
            && let Some(number) = self.fleet.find_device(&names::encode(device))
        {
            self.release(number, Timestamp::MAX, out);
            self.end_conditions(number, out);
            self.fleet.remove(number);
        }
        out.main[0].push_control(control);
    }

    /// A device that is forgotten has no condition any more.
    fn end_conditions(&self, number: usize, out: &mut Outbox<SamplesBuilder>) {
        let device = self.fleet.device(number);
        let newest = device.heard.map_or(0, |heard| heard.newest);
        if device.silence_told {
            out.health.push(silence(&device.token, false, newest, 0));
        }
        for series in device.series.iter().map(|number| self.fleet.series(*number)) {
            let last = series.recent.last().unwrap_or(newest);
            for (holds, condition) in [(series.checks.range, Condition::Range), (series.checks.stuck, Condition::Stuck)]
            {
                if holds {
                    out.health.push(channel_condition(series, condition, false, last, series.checks.last()));
                }
            }
        }
    }
}

fn silence(device: &str, active: bool, since: Timestamp, silent: i64) -> Health {
    let (device, condition) = (names::decode(device), Condition::Silence);
    Health { device, channel: None, condition, active, since, value: silent as f64 / 1e9 }
}

/// A reading as its dead letter shows it; the value as text, for JSON has no NaN.
fn describe(input: &Readings, row: usize) -> String {
    serde_json::json!({
        "series": input.rows.name(row),
        "time": input.rows.time[row],
        "value": input.value[row].to_string(),
        "quality": input.quality[row],
        "arrival": input.arrival[row],
    })
    .to_string()
}

#[cfg(test)]
mod tests;
