//! What holds for every decoder of this crate, whatever bytes come. The property tests, the replay of the committed corpus
//! and the fuzz targets in `schemas/fuzz` (which take this file in by its path) all run these same checks.
//!
//! A batch that is decoded has columns of one length, a whole name behind every measurement, and no row that is lost or
//! changed when it is written and read again: as one batch, or cut in two. A text that is read, written and read again
//! says the same. The same bytes always give the same result, and what is refused says why.

use eddy_schemas::{
    Control, Embeddings, EmbeddingsBuilder, HeadLayout, LayoutError, Readings, ReadingsBuilder, Rows, Samples,
    SamplesBuilder, Scores, ScoresBuilder, SeriesName, Told, Vectors, alert::CloudEvent, dump, health::Health, names,
    sync,
};
use prost::Message as _;

/// Bytes of a reason beside those of the input that it cites.
const REASON_BYTES_MAX: usize = 4096;

/// The batch, if it is one. Whoever refuses it says why.
fn read<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, LayoutError>) -> Option<T> {
    match (decode(bytes), decode(bytes)) {
        (Ok(batch), Ok(_)) => Some(batch),
        (Err(one), Err(other)) => {
            let reason = one.to_string();
            assert_eq!(reason, other.to_string(), "the same bytes, another reason");
            assert!(!reason.is_empty() && reason.len() <= 8 * bytes.len() + REASON_BYTES_MAX, "{} bytes", reason.len());
            None
        }
        _ => panic!("the same bytes, another result"),
    }
}

/// `named`: no measurement is of a series without a name.
fn columns(rows: &Rows, lengths: &[usize], named: bool) {
    assert!(lengths.iter().all(|length| *length == rows.len()), "{lengths:?} of {}", rows.len());
    assert_eq!(rows.series.len(), rows.len());
    assert!(rows.controls.iter().map(|(row, _)| row).is_sorted());
    for row in 0..rows.len() {
        if rows.control(row).is_none() {
            let name = rows.name(row);
            assert!(
                SeriesName::parse(name).is_some() || (name.is_empty() && !named),
                "row {row} is of series {name:?}"
            );
        }
    }
}

/// Writes the rows of a batch anew, whole and in two parts, and compares what is read: `push(from, to)` writes a part.
fn written_again(bytes: &[u8], rows: usize, write: impl Fn(std::ops::Range<usize>) -> Vec<u8>) {
    let lines = |bytes: &[u8]| dump::rows(bytes).expect("a batch that was read before");
    let before = lines(bytes);
    assert_eq!(lines(&write(0..rows)), before, "written and read again");
    let mut parts = lines(&write(0..rows / 2));
    parts.extend(lines(&write(rows / 2..rows)));
    assert_eq!(parts, before, "cut in two");
}

/// READINGS.
pub fn readings(data: &[u8]) {
    let Some(batch) = read(data, Readings::decode) else { return };
    columns(&batch.rows, &[batch.value.len(), batch.quality.len(), batch.arrival.len()], false);
    written_again(data, batch.rows.len(), |range| {
        let mut builder = ReadingsBuilder::default();
        for row in range {
            match batch.rows.control(row) {
                Some(control) => builder.push_control(control, batch.arrival[row]),
                None => {
                    let (name, time) = (batch.rows.name(row), batch.rows.time[row]);
                    builder.push(name, time, batch.value[row], batch.quality[row], batch.arrival[row]);
                }
            }
        }
        builder.encode()
    });
}

/// SAMPLES.
pub fn samples(data: &[u8]) {
    let Some(batch) = read(data, Samples::decode) else { return };
    columns(&batch.rows, &[batch.value.len(), batch.quality.len(), batch.period.len()], true);
    written_again(data, batch.rows.len(), |range| {
        let mut builder = SamplesBuilder::default();
        for row in range {
            match batch.rows.control(row) {
                Some(control) => builder.push_control(control),
                None => {
                    let (name, time) = (batch.rows.name(row), batch.rows.time[row]);
                    builder.push(name, time, batch.value[row], batch.quality[row], batch.period[row]);
                }
            }
        }
        builder.encode()
    });
}

/// EMBEDDINGS.
pub fn embeddings(data: &[u8]) {
    let Some(batch) = read(data, Embeddings::decode) else { return };
    let rows = &batch.rows;
    columns(rows, &[batch.quality.len(), batch.filled.len(), batch.commissioning.len(), batch.period.len()], true);
    for column in &batch.heads {
        let values = match &column.vectors {
            Vectors::F32(values) => values.len(),
            Vectors::F16(values) => values.len(),
        };
        assert!(values >= rows.len() * column.head.dimensions, "{values} values of {:?}", column.head);
    }
    let heads: Vec<HeadLayout> = batch.heads.iter().map(|column| column.head.clone()).collect();
    written_again(data, rows.len(), |range| {
        let mut builder = EmbeddingsBuilder::new(&batch.bundle, &heads);
        for row in range {
            if let Some(control) = rows.control(row) {
                builder.push_control(control);
                continue;
            }
            let commissioning = batch.commissioning[row] != 0;
            let (quality, filled, period) = (batch.quality[row], batch.filled[row], batch.period[row]);
            builder.push(rows.name(row), rows.time[row], quality, filled, commissioning, period);
            for (index, column) in batch.heads.iter().enumerate() {
                let mut vector = vec![0.0; column.head.dimensions];
                column.copy_to(row, &mut vector);
                builder.extend_head(index, &vector);
            }
        }
        builder.encode()
    });
}

/// DETECTIONS' scores.
pub fn scores(data: &[u8]) {
    let Some(batch) = read(data, Scores::decode) else { return };
    let rows = &batch.rows;
    columns(rows, &[batch.score.len(), batch.tail.len(), batch.flags.len()], true);
    written_again(data, rows.len(), |range| {
        let mut builder = ScoresBuilder::new(&batch.bundle);
        for row in range {
            if let Some(control) = rows.control(row) {
                builder.push_control(control);
                continue;
            }
            let window = batch.window(row);
            let vector: Vec<f32> = window.iter().flat_map(|window| &window.vector).map(|x| x.to_f32()).collect();
            let told = window.as_ref().map(|window| Told { span: window.span, filled: window.filled, vector: &vector });
            let (score, tail, flags) = (batch.score[row], batch.tail[row], batch.flags[row]);
            builder.push(rows.name(row), rows.time[row], score, tail, flags, told);
        }
        builder.encode()
    });
}

/// A control as it stands on CONTROL.
pub fn control(data: &[u8]) {
    let read = Control::parse(data);
    assert_eq!(read, Control::parse(data), "the same bytes, another result");
    match read {
        Ok(control) => {
            assert!(control.device().is_none_or(names::is_valid) && (1..=128).contains(&control.id.len()));
            assert!(!control.subject_token().is_empty());
            assert_eq!(Control::parse(control.to_json().as_bytes()), Ok(control));
        }
        Err(reason) => assert!(!reason.is_empty() && reason.len() <= 8 * data.len() + REASON_BYTES_MAX),
    }
}

/// An alert, and a device's condition.
pub fn alert(data: &[u8]) {
    if let Ok(event) = serde_json::from_slice::<CloudEvent>(data) {
        let json = event.to_json();
        let again: CloudEvent = serde_json::from_slice(&json).expect("an alert that was just written");
        assert_eq!(again, event, "written and read again");
        assert_eq!(again.to_json(), json);
        let subject = event.nats_subject();
        let tokens: Vec<_> = subject.split('.').collect();
        assert_eq!((tokens.len(), tokens[0], tokens[2]), (4, "alerts", event.data.severity.as_str()));
        assert_eq!((names::decode(tokens[1]), names::decode(tokens[3])), (event.data.site, event.data.device));
    }
    if let Ok(health) = serde_json::from_slice::<Health>(data) {
        let json = serde_json::to_vec(&health).expect("a condition has string keys only");
        assert_eq!(serde_json::from_slice::<Health>(&json).ok(), Some(health));
    }
}

/// A device's name and a channel's, with a newline between them; and the text as a token and a series.
pub fn series(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (device, channel) = text.split_once('\n').unwrap_or((text, ""));
    for name in [device, channel] {
        let token = names::encode(name);
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_%".contains(&byte)), "{token:?}");
        assert_eq!(names::decode(&token), name);
        assert!((1..5).all(|shards| names::shard_of(name, shards) < shards));
    }
    let series = SeriesName::encode(device, channel);
    let whole = SeriesName { device: device.to_owned(), channel: channel.to_owned() };
    let is_valid = names::is_valid(device) && names::is_valid(channel);
    assert_eq!(SeriesName::parse(&series), is_valid.then_some(whole));
    assert_eq!(SeriesName::device_token(&series), names::encode(device));
    // Anything may come as a token or as a series: it is read in one way, and never grows.
    assert!(names::decode(text).len() <= text.len());
    if let Some(read) = SeriesName::parse(text) {
        assert!(!read.device.is_empty() && !read.channel.is_empty());
        assert_eq!(names::decode(SeriesName::device_token(text)), read.device);
    }
}

/// What a gateway sends to its region.
pub fn batch(data: &[u8]) {
    let read = sync::wire::Batch::read(data);
    assert_eq!(read, sync::wire::Batch::read(data), "the same bytes, another result");
    match read {
        Ok((batch, entries)) => {
            let missing: u64 = batch.gaps.iter().map(|gap| gap.last - gap.first + 1).sum();
            assert_eq!(
                batch.last - batch.first + 1,
                missing + entries.entries.len() as u64,
                "a number without its entry"
            );
            let written = batch.encode_to_vec();
            assert_eq!(sync::wire::Batch::read(&written), Ok((batch.clone(), entries)), "written and read again");
            assert_ne!(sync::receipt(&batch.previous, &written), sync::receipt(&[1], &written));
        }
        Err(reason) => assert!(!reason.is_empty() && reason.len() <= 8 * data.len() + REASON_BYTES_MAX),
    }
}
