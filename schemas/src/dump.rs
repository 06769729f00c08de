//! Any batch as lines of text, one a row: for people, and for tests that compare rows whatever the batches.

use std::fmt::Write;

use crate::{Embeddings, HeadColumn, LayoutError, Readings, Rows, Samples, Scores, embeddings::Vectors, rfc3339};

/// The rows of a batch of whichever layout. Every bit of a row shows (those of a burst as a digest), so that equal lines are
/// equal rows.
///
/// # Errors
/// If the bytes are none of the layouts that this release reads.
pub fn rows(bytes: &[u8]) -> Result<Vec<String>, LayoutError> {
    let readings = match Readings::decode(bytes) {
        Ok(batch) => {
            return Ok(lines(&batch.rows, |row, line| {
                let arrival = rfc3339(batch.arrival[row]);
                let _ = write!(line, "value={:?} quality={} arrival={arrival}", batch.value[row], batch.quality[row]);
                if let Some(burst) = batch.burst(row) {
                    let bytes: Vec<u8> = burst.values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    let (count, digest) = (burst.values.len(), blake3::hash(&bytes).to_hex());
                    let _ = write!(line, " burst={count}@{:?}Hz:{digest}", burst.rate_hz);
                }
            }));
        }
        Err(LayoutError::Layout { found, .. }) => found,
        Err(error) => return Err(error),
    };
    match readings.as_str() {
        "samples" => {
            let batch = Samples::decode(bytes)?;
            Ok(lines(&batch.rows, |row, line| {
                let (value, quality, period) = (batch.value[row], batch.quality[row], batch.period[row]);
                let _ = write!(line, "value={value:?} quality={quality} period={period}");
                if let Some(spectrum) = batch.spectrum(row) {
                    let _ = write!(line, " spectrum={spectrum:?}");
                }
            }))
        }
        "embeddings" => embeddings(&Embeddings::decode(bytes)?),
        _ => {
            let batch = Scores::decode(bytes)?;
            Ok(lines(&batch.rows, |row, line| {
                let (score, tail, flags) = (batch.score[row], batch.tail[row], batch.flags[row]);
                let _ = write!(line, "score={score:?} tail={tail:?} flags={flags} window={:?}", batch.window(row));
                let _ = write!(line, " bundle={}", batch.bundle);
            }))
        }
    }
}

fn embeddings(batch: &Embeddings) -> Result<Vec<String>, LayoutError> {
    Ok(lines(&batch.rows, |row, line| {
        let (quality, filled) = (batch.quality[row], batch.filled[row]);
        let _ = write!(line, "quality={quality} filled={filled} commissioning={} ", batch.commissioning[row]);
        let _ = write!(line, "period={} bundle={}", batch.period[row], batch.bundle);
        heads(&batch.heads, row, line);
        if let Some(shadow) = &batch.shadow {
            let _ = write!(line, " shadow={}", shadow.bundle);
            heads(&shadow.heads, row, line);
        }
    }))
}

fn heads(columns: &[HeadColumn], row: usize, line: &mut String) {
    for column in columns {
        let Some(range) = column.range(row) else { continue };
        let _ = match &column.vectors {
            Vectors::F32(values) => write!(line, " {}={:?}", column.head.name, &values[range]),
            Vectors::F16(values) => write!(line, " {}={:?}", column.head.name, &values[range]),
        };
    }
}

fn lines(rows: &Rows, mut columns: impl FnMut(usize, &mut String)) -> Vec<String> {
    let line = |row: usize| match rows.control(row) {
        Some(control) => format!("control {}", control.to_json()),
        None => {
            let mut line = format!("{} {} ", rows.name(row), rfc3339(rows.time[row]));
            columns(row, &mut line);
            line
        }
    };
    (0..rows.len()).map(line).collect()
}

#[cfg(test)]
mod tests {
    use crate::*;

    #[test]
    fn a_line_a_row_whatever_the_layout() {
        let mut samples = SamplesBuilder::default();
        samples.push("d/t", 1_000_000_000, 1.5, 8, 60);
        assert_eq!(dump::rows(&samples.encode()).unwrap(), ["d/t 1970-01-01T00:00:01Z value=1.5 quality=8 period=60"]);
        let mut scores = ScoresBuilder::new("b");
        scores.push("d/t", 0, 0.5, 0.25, 0, None);
        assert_eq!(dump::rows(&scores.encode()).unwrap().len(), 1);
        assert!(dump::rows(b"rubbish").is_err());
    }
}
