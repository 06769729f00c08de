//! Tests of the whole stage.

mod arrow;
mod checks;
mod contract;
mod corpus;
mod golden;
mod properties;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use bytes::Bytes;
use eddy_runtime::stage::{Incoming, Outbox, Scope, Stage};
use eddy_schemas::{Readings, Timestamp, quality, rfc3339};

use crate::{Capture, Config, decode::Rules};

pub(crate) fn config() -> Config {
    let table: toml::Table = toml::from_str(Capture::DEFAULTS).unwrap();
    table["capture"].clone().try_into().unwrap()
}

pub(crate) fn rules() -> Rules {
    config().validate().unwrap().0
}

fn capture(shards: u32) -> Capture {
    Capture::new(config(), &Scope { site: "plant".into(), shard: 0, shards }).unwrap()
}

fn message(subject: &str, content_type: Option<&str>, stored_at: Timestamp, payload: Vec<u8>) -> Incoming {
    let stream = if subject.starts_with("control.") { "CONTROL" } else { "INGEST" };
    Incoming {
        stream: stream.into(),
        subject: subject.into(),
        sequence: 1,
        stored_at,
        content_type: content_type.map(Into::into),
        payload: Bytes::from(payload),
    }
}

fn table(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)));
    stream(&batch.unwrap())
}

fn stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// What a stage makes of one message, as lines: readings of each shard, then what was put aside.
fn run(stage: &mut Capture, message: &Incoming) -> Vec<String> {
    let mut out = Outbox::new(stage.outputs(), usize::MAX);
    let input = match stage.decode(message) {
        Ok(input) => input,
        Err((reason, detail)) => return vec![format!("refused {}: {detail}", reason.as_str())],
    };
    assert_eq!(stage.process(message, &input, 0..Capture::rows(&input), &mut out), Capture::rows(&input));
    let mut lines = Vec::new();
    for batch in &mut out.main {
        let read = Readings::decode(&batch.encode()).unwrap();
        for row in 0..read.rows.len() {
            lines.push(match read.rows.control(row) {
                Some(control) => format!("control {}", control.to_json()),
                None => {
                    assert_eq!(read.arrival[row], message.stored_at);
                    let flags = quality::names(read.quality[row]).join(",");
                    let (name, time) = (read.rows.name(row), rfc3339(read.rows.time[row]));
                    let burst = read.burst(row).map_or_else(String::new, |burst| {
                        format!("burst of {} at {} Hz", burst.values.len(), burst.rate_hz)
                    });
                    format!("{name} {time} {:?} {flags} {burst}", read.value[row]).trim_end().to_owned()
                }
            });
        }
    }
    for rejected in out.rejected {
        let rejection = rejected.rejection;
        assert_eq!(rejection.subject, message.subject);
        let (reason, readings) = (rejection.reason.as_str(), rejection.readings);
        lines.push(format!("rejected {reason} x{readings} at item {}: {}", rejected.row, rejection.detail));
        lines.push(format!("  original: {}", String::from_utf8_lossy(&rejected.original)));
    }
    lines.extend(out.decisions.iter().map(|(kind, n)| format!("counted {kind} {n}")));
    lines
}
