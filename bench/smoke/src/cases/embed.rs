//! SAMPLES to EMBEDDINGS with the default bundle, once series are commissioned: windows are cut and go through the graph.

use std::path::Path;

use anyhow::{Result, ensure};
use eddy_embed::Embed;
use eddy_runtime::stage::Outbox;
use eddy_schemas::{EmbeddingsBuilder, SamplesBuilder};

use super::staged::{Read, all_decoded, check, default_bundle, default_key, outbox, process, stage};
use crate::{
    counted::counted,
    made::{SECOND, START, series, value},
};

/// Series of a message, a sample each: three full runs of the graph.
const SERIES: usize = 192;
/// Rows of commissioning: fewer than the bundle would ask for change nothing in what comes after.
const COMMISSIONING: &str = "4";
const WARM: usize = 5;
const COUNTED: usize = 10;

fn messages(rows: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    let message = |row: usize| {
        let mut batch = SamplesBuilder::default();
        for number in 0..SERIES {
            batch.push(&series(number), START + row as i64 * SECOND, value(number, row), 0, SECOND);
        }
        batch.encode()
    };
    rows.map(message).collect()
}

/// A stage whose series are commissioned, and what comes next.
fn commissioned() -> Result<(Embed, Vec<Read<Embed>>, Outbox<EmbeddingsBuilder>)> {
    let (bundle, keys) = (default_bundle(), format!("[{:?}]", default_key()));
    let mut embed: Embed = stage(&[
        ("EDDY_EMBED_BUNDLE", &bundle),
        ("EDDY_EMBED_TRUSTED_KEYS", &keys),
        ("EDDY_EMBED_COMMISSIONING_ROWS", COMMISSIONING),
    ])?;
    let warm = all_decoded(&embed, messages(0..WARM))?;
    let mut out = outbox(&embed);
    process(&mut embed, &warm, &mut out)?;
    out.clear();
    let messages = all_decoded(&embed, messages(WARM..WARM + COUNTED))?;
    Ok((embed, messages, out))
}

pub fn window(_: &Path) -> Result<u64> {
    let (mut embed, messages, mut out) = commissioned()?;
    let windows = counted(|| process(&mut embed, &messages, &mut out))?;
    check(&out, windows)?;
    Ok(windows)
}

/// The bytes of EMBEDDINGS.
pub fn encode(_: &Path) -> Result<u64> {
    let (mut embed, messages, mut out) = commissioned()?;
    let windows = process(&mut embed, &messages, &mut out)?;
    let bytes = counted(|| out.main[0].encode()).len();
    ensure!(bytes > SERIES * COUNTED * 60, "{bytes} bytes");
    Ok(windows)
}
