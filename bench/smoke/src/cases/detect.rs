//! EMBEDDINGS to DETECTIONS with the default bundle's heads, once histories are full.

use std::{hint::black_box, path::Path};

use anyhow::{Result, anyhow, ensure};
use eddy_detect::Detect;
use eddy_runtime::{
    bundle::{Bundle, HeadInput},
    stage::{Batch as _, Stage as _},
};
use eddy_schemas::{Embeddings, EmbeddingsBuilder, HeadLayout};

use super::staged::{all_decoded, check, default_bundle, default_key, outbox, process, stage};
use crate::{
    counted::counted,
    made::{SECOND, START, series, value},
};

/// Series: three devices of three channels.
pub const SERIES: usize = 9;
/// Rows of commissioning, as the default bundle says.
const COMMISSIONING: usize = 400;
/// Rows after which histories are full and distances calibrated.
const WARM: usize = 640;
/// Rows of each series that are counted.
const COUNTED: usize = 100;
/// Rows of each series in a message.
pub const MESSAGE: usize = 10;
/// Between two rows.
const STEP: i64 = 60 * SECOND;

/// A new stage of the default bundle.
pub fn detect() -> Result<Detect> {
    let (bundle, keys) = (default_bundle(), format!("[{:?}]", default_key()));
    stage(&[("EDDY_DETECT_BUNDLE", &bundle), ("EDDY_DETECT_TRUSTED_KEYS", &keys)])
}

fn mean_and_deviation(values: &[f32]) -> [f32; 2] {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / values.len() as f32;
    [mean, variance.sqrt()]
}

/// What the default bundle's heads make of the last 256 values, but for the learned one: its vector is the window's outline.
fn head(name: &str, window: &[f32]) -> Result<Vec<f32>> {
    let last = |count: usize| &window[window.len() - count..];
    let halves = |count: usize| {
        let (old, new) = last(count).split_at(count / 2);
        [mean_and_deviation(old), mean_and_deviation(new)].concat()
    };
    Ok(match name {
        "value" => last(1).to_vec(),
        "contrast" => vec![last(1)[0] - mean_and_deviation(&last(11)[..10])[0]],
        "level" => mean_and_deviation(last(20)).to_vec(),
        "learned" => {
            let mean = mean_and_deviation(last(64))[0];
            last(64).chunks(4).map(|part| part.iter().sum::<f32>() / 4.0 - mean).collect()
        }
        span if span.starts_with("span") => halves(span["span".len()..].parse()?),
        other => return Err(anyhow!("the default bundle has a head {other:?}, of which this case knows nothing")),
    })
}

/// Messages of the rows of every series.
pub fn messages(rows: std::ops::Range<usize>) -> Result<Vec<Vec<u8>>> {
    let bundle = Bundle::open(Path::new(&default_bundle()), &[default_key()], false)?;
    let layout = bundle.manifest.heads.iter().map(|head| HeadLayout {
        name: head.name.clone(),
        dimensions: head.dimensions,
        optional: head.input == HeadInput::Spectrum,
    });
    let layout: Vec<HeadLayout> = layout.collect();
    let curves: Vec<Vec<f32>> = (0..SERIES)
        .map(|number| (0..256 + rows.end).map(|row| ((value(number, row) - 20.0) / 3.0) as f32).collect())
        .collect();
    let mut payloads = Vec::new();
    let mut batch = EmbeddingsBuilder::new(&bundle.digest, &layout);
    for row in rows {
        for (number, curve) in curves.iter().enumerate() {
            let time = START + row as i64 * STEP;
            batch.push(&series(number), time, 0, 256, row < COMMISSIONING, STEP);
            for (index, layout) in layout.iter().enumerate().filter(|(_, layout)| !layout.optional) {
                batch.extend_head(index, &head(&layout.name, &curve[row..row + 256])?);
            }
        }
        if (row + 1) % MESSAGE == 0 {
            payloads.push(batch.encode());
        }
    }
    Ok(payloads)
}

/// A stage whose histories are full.
fn warm() -> Result<Detect> {
    let mut detect = detect()?;
    let messages = all_decoded(&detect, messages(0..WARM)?)?;
    let mut out = outbox(&detect);
    let rows = process(&mut detect, &messages, &mut out)?;
    check(&out, rows)?;
    Ok(detect)
}

pub fn decode(_: &Path) -> Result<u64> {
    let payloads = messages(0..COUNTED)?;
    let rows = counted(|| -> Result<usize> {
        let mut rows = 0;
        for payload in &payloads {
            rows += black_box(Embeddings::decode(payload)?).rows.len();
        }
        Ok(rows)
    })?;
    ensure!(rows == COUNTED * SERIES, "{rows} rows");
    Ok(rows as u64)
}

pub fn judge(_: &Path) -> Result<u64> {
    let mut detect = warm()?;
    let messages = all_decoded(&detect, messages(WARM..WARM + COUNTED)?)?;
    let mut out = outbox(&detect);
    let windows = counted(|| process(&mut detect, &messages, &mut out))?;
    // A row more for each device whenever its channels have been judged together.
    check(&out, windows + windows / 3)?;
    Ok(windows)
}

/// The bytes of DETECTIONS.
pub fn encode(_: &Path) -> Result<u64> {
    let mut detect = warm()?;
    let messages = all_decoded(&detect, messages(WARM..WARM + COUNTED)?)?;
    let mut out = outbox(&detect);
    process(&mut detect, &messages, &mut out)?;
    let rows = out.main[0].rows();
    let bytes = counted(|| out.main[0].encode()).len();
    ensure!(bytes > rows * 16, "{bytes} bytes for {rows} rows");
    Ok(rows as u64)
}

/// The records of all series that changed, as a commit collects them.
pub fn records(_: &Path) -> Result<u64> {
    let mut detect = warm()?;
    let mut bytes = 0;
    counted(|| {
        detect.begin_save();
        let mut tell = |key: &[u8], value: Option<&[u8]>| bytes += key.len() + value.map_or(0, <[u8]>::len);
        while !detect.save_some(64, &mut tell) {}
    });
    ensure!(bytes > SERIES * 1_000, "{bytes} bytes");
    Ok(SERIES as u64)
}
