//! Arrow IPC streams: eddy's own readings layout here, any other table in [`super::table`].
//!
//! The frames are walked first: what a stream says of its lengths is checked before anything is read by it, and a second
//! batch, which the layout's reader would not look at, is seen.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::{MessageHeader, reader::StreamDecoder, root_as_message};
use arrow_schema::ArrowError;
use eddy_schemas::{LayoutError, Readings, SeriesName, quality, side::Reason};

use super::{
    Refused, burst,
    collect::{Collector, Original, excerpt},
    table,
};

/// The flags that a source may set: all but those that only preprocess can know.
const QUALITY_TAKEN: u16 =
    quality::RANGE | quality::SPIKE | quality::STUCK | quality::INTERPOLATED | quality::HELD | quality::ARRIVAL_TIME;

pub(super) fn decode(payload: &[u8], out: &mut Collector<'_>) -> Result<(), Refused> {
    let frames = guarded(|| walk(payload))?;
    if !frames.is_layout {
        let batches = guarded(|| batches(payload))?;
        let rows = batches.iter().map(RecordBatch::num_rows).fold(0, usize::saturating_add);
        check_size(rows, out)?;
        let mut first = 0;
        for batch in &batches {
            table::decode(batch, first, out)?;
            first += batch.num_rows();
        }
        return Ok(());
    }
    if frames.batches != 1 {
        let found = frames.batches;
        return Err((
            Reason::Malformed,
            format!("a readings message holds one batch, not {found}: send one message for each"),
        ));
    }
    let readings = guarded(|| {
        Readings::decode(payload).map_err(|error| match error {
            LayoutError::Version { .. } => (Reason::UnknownVersion, error.to_string()),
            _ => (Reason::Malformed, error.to_string()),
        })
    })?;
    check_size(readings.rows.len(), out)?;
    layout(&readings, out)
}

fn check_size(rows: usize, out: &Collector<'_>) -> Result<(), Refused> {
    let most = out.rules.readings_max;
    if rows <= most {
        return Ok(());
    }
    Err((Reason::TooLarge, format!("the message has {rows} rows, at most {most} are taken (message_readings_max)")))
}

/// Runs a reader of bytes that anyone may have sent: arrow-ipc checks most lengths with an error, a few with an assertion.
fn guarded<T>(read: impl FnOnce() -> Result<T, Refused>) -> Result<T, Refused> {
    let panicked = |_| (Reason::Malformed, "not an Arrow IPC stream: its lengths contradict each other".to_owned());
    catch_unwind(AssertUnwindSafe(read)).map_err(panicked)?
}

/// What the frames of a stream say.
#[derive(Default)]
struct Frames {
    batches: usize,
    is_layout: bool,
}

fn malformed(problem: impl std::fmt::Display) -> Refused {
    (Reason::Malformed, format!("not an Arrow IPC stream: {problem}"))
}

/// Walks the frames: a continuation marker, the metadata's length, the metadata, the body that it announces.
fn walk(payload: &[u8]) -> Result<Frames, Refused> {
    let (mut frames, mut at) = (Frames::default(), 0);
    if payload.starts_with(b"ARROW1") {
        return Err(malformed("it is an Arrow file: send the stream format"));
    }
    while at < payload.len() {
        let word = |at: usize| {
            let bytes =
                payload.get(at..at + 4).ok_or_else(|| malformed(format!("cut off at byte {}", payload.len())))?;
            Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let marker = word(at)?;
        if marker != u32::MAX {
            return Err(malformed(format!("byte {at} should begin a message, found 0x{marker:08x}")));
        }
        let length = word(at + 4)? as usize;
        at += 8;
        if length == 0 {
            if at < payload.len() {
                return Err(malformed(format!("{} bytes follow its end at byte {at}", payload.len() - at)));
            }
            break;
        }
        let cut = || malformed(format!("the message at byte {at} is cut off: the stream has {} bytes", payload.len()));
        let metadata = at.checked_add(length).and_then(|end| payload.get(at..end)).ok_or_else(cut)?;
        let message = root_as_message(metadata).map_err(malformed)?;
        let body = usize::try_from(message.bodyLength()).map_err(malformed)?;
        let end = (at + length).checked_add(body).filter(|end| *end <= payload.len()).ok_or_else(cut)?;
        match message.header_type() {
            MessageHeader::RecordBatch => frames.batches += 1,
            MessageHeader::Schema => {
                let metadata = message.header_as_schema().and_then(|schema| schema.custom_metadata());
                frames.is_layout |=
                    metadata.is_some_and(|pairs| pairs.iter().any(|pair| pair.key() == Some("eddy.layout")));
            }
            _ => {}
        }
        at = end;
    }
    Ok(frames)
}

fn batches(payload: &[u8]) -> Result<Vec<RecordBatch>, Refused> {
    let read = || -> Result<Vec<RecordBatch>, ArrowError> {
        let (mut decoder, mut buffer, mut batches) = (StreamDecoder::new(), Buffer::from(payload), Vec::new());
        while !buffer.is_empty() {
            batches.extend(decoder.decode(&mut buffer)?);
        }
        decoder.finish()?;
        Ok(batches)
    };
    read().map_err(malformed)
}

/// What a name of the batch's dictionary stands for.
#[derive(Clone, Copy)]
enum Known {
    NotYet,
    Series { slot: u32, device: u32 },
    Refused,
}

fn layout(readings: &Readings, out: &mut Collector<'_>) -> Result<(), Refused> {
    let (rows, mut known) = (&readings.rows, vec![Known::NotYet; readings.rows.names.len()]);
    out.reserve(rows.len());
    for row in 0..rows.len() {
        let (time, value, burst) = (rows.time[row], readings.value[row], readings.burst(row));
        if rows.control(row).is_none() {
            let name = rows.series[row] as usize;
            if matches!(known[name], Known::NotYet) {
                known[name] = resolve(&rows.names[name], out).unwrap_or(Known::Refused);
            }
            if let Known::Series { slot, device } = known[name] {
                let quality = readings.quality[row] & QUALITY_TAKEN;
                if quality & quality::ARRIVAL_TIME == 0 {
                    out.saw(device, time);
                }
                let is_good = match &burst {
                    None => value.is_finite(),
                    Some(burst) => burst::problem(burst, out.rules).is_none(),
                };
                if is_good && out.check_future(time).is_ok() {
                    match burst {
                        None => out.push(slot, time, value, quality),
                        Some(burst) => out.push_burst(slot, time, burst, quality),
                    }
                    continue;
                }
            }
        }
        out.begin("row", row);
        let (reason, problem) = problem(readings, row, &known, out);
        out.problem(reason, 1, || problem);
        out.end(|| Original::Row(render(readings, row)))?;
    }
    Ok(())
}

fn resolve(name: &str, out: &mut Collector<'_>) -> Result<Known, Refused> {
    let unnamed = || (Reason::InvalidField, format!("series {} is not device/channel", excerpt(name)));
    let series = SeriesName::parse(name).ok_or_else(unnamed)?;
    if let Some(own) = out.source.device.filter(|own| !out.rules.any_device && *own != series.device) {
        let (other, own) = (excerpt(&series.device), excerpt(own));
        let problem = format!("device {other} in a message of device {own} (any_device is false)");
        return Err((Reason::InvalidField, problem));
    }
    let device = out.device(&series.device)?;
    let slot = out.add_series(device, &series.channel)?;
    Ok(Known::Series { slot, device })
}

/// Why a row was not taken.
fn problem(readings: &Readings, row: usize, known: &[Known], out: &mut Collector<'_>) -> Refused {
    let rows = &readings.rows;
    if let Some(control) = rows.control(row) {
        let id = excerpt(&control.id);
        return (Reason::InvalidField, format!("control {id} among readings: publish it on control.<site>.<kind>"));
    }
    if let Known::Refused = known[rows.series[row] as usize]
        && let Err(refused) = resolve(rows.name(row), out)
    {
        return refused;
    }
    match out.check_future(rows.time[row]) {
        Err(refused) => refused,
        Ok(()) => {
            let (name, value) = (excerpt(rows.name(row)), readings.value[row]);
            let of_burst = readings.burst(row).and_then(|burst| burst::problem(&burst, out.rules));
            let problem = of_burst.unwrap_or_else(|| format!("{value}, not finite"));
            (Reason::InvalidField, format!("{name} is {problem}"))
        }
    }
}

fn render(readings: &Readings, row: usize) -> String {
    let rows = &readings.rows;
    let series = match rows.control(row) {
        Some(control) => return control.to_json(),
        None => rows.name(row),
    };
    // JSON has no NaN: `Value::from` makes it null, so it is told as text.
    let value = readings.value[row];
    let value = if value.is_finite() { value.into() } else { serde_json::Value::from(value.to_string()) };
    serde_json::json!({ "series": series, "time": rows.time[row], "value": value, "quality": readings.quality[row] })
        .to_string()
}
