//! Where every decoder puts what it finds: good readings in columns, refused parts beside them, both in one order.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use eddy_schemas::{Timestamp, bursts::Burst, names, quality, rfc3339, side::Reason};

use super::{Refused, Rules, Source, burst::Bursts};

/// So many refused parts of a message are kept one by one; the rest are counted in one more, with the whole message.
pub(crate) const BAD_MAX: usize = 100;
/// Bytes of rows rendered for the dead letters, in a message; past them the rest is counted in one more, as past
/// [`BAD_MAX`]. A row is told with the names of all its columns, which stand in the message once.
const ROWS_BYTES_MAX: usize = 64 * 1024;
/// So many problems of one part are told.
const PROBLEMS_MAX: usize = 4;

/// A decoded message: `len()` items in the order of the bytes, each a reading or a refused part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// The devices; the first is the source, where it is known.
    pub devices: Vec<Device>,
    /// The series that readings point to.
    pub series: Vec<Series>,
    /// Per reading an index into `series`.
    pub of: Vec<u32>,
    /// Per reading the event time.
    pub time: Vec<Timestamp>,
    /// Per reading the value, finite.
    pub value: Vec<f64>,
    /// Per reading the [`quality`] flags.
    pub quality: Vec<u16>,
    /// The bursts that readings came with.
    pub bursts: Box<Bursts>,
    /// Refused parts, in order.
    pub bad: Vec<Bad>,
    /// Values that were explicitly none (`null`): no readings.
    pub missing: u64,
}

/// A device of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// As its operator calls it.
    pub name: String,
    /// The newest time that the device itself gave, quarantined ones included; `None` without any.
    pub newest: Option<Timestamp>,
    token: String,
    channels: usize,
}

/// A series of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Canonical text, `device/channel`.
    pub text: String,
    /// Index into [`Decoded::devices`].
    pub device: u32,
}

/// A refused part.
#[derive(Clone, Debug, PartialEq)]
pub struct Bad {
    /// How many readings stand before it.
    pub after: usize,
    /// The class of the first problem.
    pub reason: Reason,
    /// Where, what, which value.
    pub detail: String,
    /// How many readings are lost with it; at least 1.
    pub readings: u64,
    /// What it was made from.
    pub original: Original,
}

/// The original of a refused part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Original {
    /// These bytes of the payload.
    Bytes(Range<usize>),
    /// The whole message.
    Message,
    /// A row of a table, rendered as JSON.
    Row(String),
}

impl Decoded {
    /// How many items there are.
    pub fn len(&self) -> usize {
        self.time.len() + self.bad.len()
    }

    /// Whether there is neither a reading nor a refused part.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many readings the message tried to tell: the good ones and those lost in refused parts.
    pub fn readings(&self) -> u64 {
        self.time.len() as u64 + self.bad.iter().map(|bad| bad.readings).sum::<u64>()
    }

    /// How many of the first `item` items are refused parts.
    pub fn bad_before(&self, item: usize) -> usize {
        // The j-th refused part is item `after + j`, which grows with j.
        let (mut low, mut high) = (0, self.bad.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.bad[middle].after + middle < item {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// A reading's time and whether it was stamped on arrival.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub time: Timestamp,
    pub quality: u16,
}

/// The part that is being decoded.
#[derive(Default)]
struct Part {
    label: &'static str,
    number: usize,
    reason: Option<Reason>,
    problems: Vec<String>,
    untold: usize,
    readings: u64,
}

/// Collects a [`Decoded`].
pub(super) struct Collector<'a> {
    pub source: &'a Source<'a>,
    pub rules: &'a Rules,
    out: Decoded,
    by_device: HashMap<String, u32>,
    /// Whose readings come now; `None` until the message has named a device.
    current: Option<u32>,
    by_channel: HashMap<(u32, String), u32>,
    /// Per series added by [`Self::slot`] its device, its channel as it came, and its index in `out.series`.
    channels: Vec<(u32, String, u32)>,
    hint: usize,
    part: Part,
    lost: u64,
    /// Bytes of the rows rendered so far.
    rendered: usize,
    payload_as_original: bool,
}

impl<'a> Collector<'a> {
    pub fn new(source: &'a Source<'a>, rules: &'a Rules) -> Self {
        let mut collector = Self {
            source,
            rules,
            out: Decoded::default(),
            by_device: HashMap::new(),
            current: None,
            by_channel: HashMap::new(),
            channels: Vec::new(),
            hint: 0,
            part: Part::default(),
            lost: 0,
            rendered: 0,
            payload_as_original: false,
        };
        collector.current = source.device.and_then(|device| collector.device(device).ok());
        collector
    }

    /// Whether parts of the message name their devices: their source does not.
    pub fn names_devices(&self) -> bool {
        self.source.device.is_none()
    }

    /// From here on, readings are of device `name`.
    ///
    /// # Errors
    /// The message does not say which, or the name is none.
    pub fn enter(&mut self, name: Option<&str>, how: impl FnOnce() -> String) -> Result<(), Refused> {
        self.current = None;
        let name = name.ok_or_else(|| (Reason::InvalidField, format!("no device: {}", how())))?;
        self.current = Some(self.device(name)?);
        Ok(())
    }

    /// Whether readings are of a device of that name now.
    pub fn is_current(&self, name: &str) -> bool {
        self.current.is_some_and(|device| self.out.devices[device as usize].name == name)
    }

    fn current(&self) -> Result<u32, Refused> {
        let unnamed = || (Reason::InvalidField, "no device: the source must name it for this format".to_owned());
        self.current.ok_or_else(unnamed)
    }

    pub fn finish(self) -> Decoded {
        self.out
    }

    /// Makes room for so many readings.
    pub fn reserve(&mut self, readings: usize) {
        let readings = readings.min(self.rules.readings_max);
        self.out.of.reserve(readings);
        self.out.time.reserve(readings);
        self.out.value.reserve(readings);
        self.out.quality.reserve(readings);
    }

    /// Begins a part, such as `line 7`.
    pub fn begin(&mut self, label: &'static str, number: usize) {
        self.part.label = label;
        self.part.number = number;
    }

    /// Something is wrong with `readings` readings of the part; the first problem names its reason.
    pub fn problem(&mut self, reason: Reason, readings: u64, detail: impl FnOnce() -> String) {
        self.part.reason.get_or_insert(reason);
        self.part.readings += readings;
        if self.out.bad.len() <= BAD_MAX && self.part.problems.len() < PROBLEMS_MAX {
            self.part.problems.push(detail());
        } else {
            self.part.untold += 1;
        }
    }

    /// Ends the part; if anything was wrong with it, it is put aside as `original`.
    pub fn end(&mut self, original: impl FnOnce() -> Original) -> Result<(), Refused> {
        if let Some(reason) = self.part.reason.take() {
            self.put_aside(reason, original);
        }
        let most = self.rules.readings_max;
        if self.out.time.len() as u64 + self.lost > most as u64 {
            let problem =
                format!("the message has more than {most} readings (message_readings_max): send smaller ones");
            return Err((Reason::TooLarge, problem));
        }
        Ok(())
    }

    fn put_aside(&mut self, reason: Reason, original: impl FnOnce() -> Original) {
        let readings = std::mem::take(&mut self.part.readings).max(1);
        self.lost += readings;
        let untold = std::mem::take(&mut self.part.untold);
        let problems = std::mem::take(&mut self.part.problems);
        if self.payload_as_original {
            // Past the bound: counted in the last one.
            if let Some(last) = self.out.bad.last_mut() {
                last.readings += readings;
            }
            return;
        }
        let mut detail = format!("{} {}: {}", self.part.label, self.part.number, problems.join("; "));
        if untold > 0 {
            detail.push_str(&format!("; and {untold} more"));
        }
        let mut kept = Bad { after: self.out.time.len(), reason, detail, readings, original: Original::Bytes(0..0) };
        let told = self.out.bad.len();
        if told < BAD_MAX && self.rendered < ROWS_BYTES_MAX {
            kept.original = original();
            if let Original::Row(row) = &kept.original {
                self.rendered += row.len();
            }
        } else {
            self.payload_as_original = true;
            kept.detail = format!(
                "{told} parts of the message were put aside one by one, the others as one, first: {}",
                kept.detail
            );
            kept.original = Original::Message;
        }
        self.out.bad.push(kept);
    }

    /// A value that is explicitly none.
    pub fn missing(&mut self) {
        self.out.missing += 1;
    }

    /// The time of a reading of the device whose turn it is: the device's own, or the arrival.
    ///
    /// # Errors
    /// It lies too far ahead of the arrival.
    pub fn stamp(&mut self, time: Option<Timestamp>) -> Result<Stamp, Refused> {
        match time {
            None => Ok(Stamp { time: self.source.arrival, quality: quality::ARRIVAL_TIME }),
            Some(time) => {
                if let Some(device) = self.current {
                    self.saw(device, time);
                }
                self.check_future(time)?;
                Ok(Stamp { time, quality: 0 })
            }
        }
    }

    /// Remembers the newest time of a device.
    pub fn saw(&mut self, device: u32, time: Timestamp) {
        let newest = &mut self.out.devices[device as usize].newest;
        *newest = (*newest).max(Some(time));
    }

    /// Whether `time` is too far ahead of the arrival.
    pub fn check_future(&self, time: Timestamp) -> Result<(), Refused> {
        let ahead = i128::from(time) - i128::from(self.source.arrival);
        if ahead <= i128::from(self.rules.future_limit) {
            return Ok(());
        }
        let detail = format!(
            "time {} is {:.3} s ahead of its arrival at {}: at most {} s are taken (future_limit_s)",
            rfc3339(time),
            ahead as f64 / 1e9,
            rfc3339(self.source.arrival),
            self.rules.future_limit / 1_000_000_000
        );
        Err((Reason::Future, detail))
    }

    /// A reading of a channel of the device whose turn it is.
    pub fn reading(&mut self, channel: &str, stamp: Stamp, value: f64) {
        if !value.is_finite() {
            return self.problem(Reason::InvalidField, 1, || format!("{} is {value}, not finite", excerpt(channel)));
        }
        match self.slot(channel) {
            Ok(slot) => self.push(slot, stamp.time, value, stamp.quality),
            Err((reason, detail)) => self.problem(reason, 1, || detail),
        }
    }

    /// A reading of a channel of the device whose turn it is that is a burst, which has been checked.
    pub fn burst_reading(&mut self, channel: &str, stamp: Stamp, burst: Burst<'_>) {
        match self.slot(channel) {
            Ok(slot) => self.push_burst(slot, stamp.time, burst, stamp.quality),
            Err((reason, detail)) => self.problem(reason, 1, || detail),
        }
    }

    /// The series of a channel of the device whose turn it is.
    ///
    /// # Errors
    /// No name, or too many.
    pub fn slot(&mut self, channel: &str) -> Result<u32, Refused> {
        let device = self.current()?;
        // Records repeat their channels in one order: mostly it is the one after the last.
        for hint in [self.hint, 0] {
            if let Some((of, known, slot)) = self.channels.get(hint)
                && (*of, known.as_str()) == (device, channel)
            {
                self.hint = hint + 1;
                return Ok(*slot);
            }
        }
        let key = (device, channel.to_owned());
        let at = match self.by_channel.get(&key) {
            Some(at) => *at,
            None => {
                let slot = self.add_series(device, &self.full(channel))?;
                self.channels.push((device, channel.to_owned(), slot));
                self.by_channel.insert(key, self.channels.len() as u32 - 1);
                self.channels.len() as u32 - 1
            }
        };
        self.hint = at as usize + 1;
        Ok(self.channels[at as usize].2)
    }

    /// A channel with what the source puts in its place or in front of it.
    fn full<'c>(&self, channel: &'c str) -> Cow<'c, str> {
        match self.source.channel {
            None => Cow::Borrowed(channel),
            Some(base) if channel == self.rules.value_key => Cow::Owned(base.to_owned()),
            Some(base) => Cow::Owned(format!("{base}.{channel}")),
        }
    }

    /// The device of that name, added where it is new.
    ///
    /// # Errors
    /// It has no name, or too long a one.
    pub fn device(&mut self, name: &str) -> Result<u32, Refused> {
        if let Some(known) = self.by_device.get(name) {
            return Ok(*known);
        }
        let Some(token) = token(name) else {
            let (found, most) = (excerpt(name), names::NAME_BYTES_MAX);
            let problem = format!("device {found} is empty or longer than {most} bytes once percent-encoded");
            return Err((Reason::InvalidField, problem));
        };
        let device = self.out.devices.len() as u32;
        self.out.devices.push(Device { name: name.to_owned(), newest: None, token, channels: 0 });
        self.by_device.insert(name.to_owned(), device);
        Ok(device)
    }

    /// A new series of a device.
    ///
    /// # Errors
    /// No name, or too many.
    pub fn add_series(&mut self, device: u32, channel: &str) -> Result<u32, Refused> {
        let Some(token) = token(channel) else {
            let (found, most) = (excerpt(channel), names::NAME_BYTES_MAX);
            let problem = format!("channel {found} is empty or longer than {most} bytes once percent-encoded");
            return Err((Reason::InvalidField, problem));
        };
        let known = &mut self.out.devices[device as usize];
        let most = self.rules.channels_max;
        if known.channels >= most {
            let found = excerpt(channel);
            let problem = format!("channel {found} is one more than {most} in a message (device_channels_max)");
            return Err((Reason::TooLarge, problem));
        }
        known.channels += 1;
        let text = [known.token.as_str(), "/", &token].concat();
        self.out.series.push(Series { text, device });
        Ok(self.out.series.len() as u32 - 1)
    }

    /// A reading that has been checked.
    pub fn push(&mut self, slot: u32, time: Timestamp, value: f64, quality: u16) {
        self.out.of.push(slot);
        self.out.time.push(time);
        self.out.value.push(value);
        self.out.quality.push(quality);
    }

    /// The same of a burst: its value is the burst's RMS.
    pub fn push_burst(&mut self, slot: u32, time: Timestamp, burst: Burst<'_>, quality: u16) {
        self.out.bursts.push(self.out.time.len(), burst);
        self.push(slot, time, burst.rms(), quality);
    }
}

/// A name as a token, if it can be one.
fn token(name: &str) -> Option<String> {
    let token = names::encode(name);
    (!token.is_empty() && token.len() <= names::NAME_BYTES_MAX).then_some(token)
}

/// A value for an error text: quoted, and cut where it is long.
pub(super) fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?} (cut, {} bytes)", &text[..end], text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_parts_past_the_bound_are_counted_in_one_with_the_whole_message() {
        let rules = crate::tests::rules();
        let source = Source { device: Some("d"), ..Source::default() };
        let mut collector = Collector::new(&source, &rules);
        for number in 0..1000 {
            collector.begin("line", number);
            collector.problem(Reason::InvalidField, 2, || "wrong".into());
            collector.reading("t", Stamp { time: number as i64, quality: 0 }, 1.0);
            collector.end(|| Original::Bytes(number..number + 1)).unwrap();
        }
        let decoded = collector.finish();
        assert_eq!((decoded.bad.len(), decoded.time.len(), decoded.readings()), (BAD_MAX + 1, 1000, 3000));
        let last = &decoded.bad[BAD_MAX];
        assert_eq!((last.readings, &last.original), (1800, &Original::Message));
        assert!(last.detail.ends_with("first: line 100: wrong"), "{}", last.detail);
        // Items alternate reading, part (a part stands after its good readings).
        assert_eq!((decoded.bad_before(0), decoded.bad_before(2), decoded.bad_before(4)), (0, 1, 2));
        assert_eq!(decoded.bad_before(decoded.len()), BAD_MAX + 1);
    }
}
