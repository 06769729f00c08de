//! Which words are names of devices and channels: what the streams' subjects and newest batches say.

use std::collections::BTreeSet;

use eddy_runtime::client::{Client, ReadFrom};
use eddy_schemas::{Readings, SeriesName, names};
use futures_util::TryStreamExt as _;

use crate::gateway::Gateway;

/// Streams whose subjects end with a device.
const BY_DEVICE: [&str; 4] = ["INGEST", "DETECTIONS", "CONTEXT", "HEALTH"];
/// So many of the newest messages of READINGS are looked at for channels.
const NEWEST: u64 = 200;

/// Names as they are; what cannot be asked for is left out.
pub async fn known(gateway: &Gateway) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for stream in BY_DEVICE {
        let subjects = gateway.client.subjects(stream, ">").await.unwrap_or_default();
        let devices = subjects.into_keys().filter(|subject| !subject.starts_with("scores."));
        found.extend(devices.filter_map(|subject| subject.rsplit('.').next().map(names::decode)));
    }
    // Without the newest batches channels are not known; the devices are.
    let _ = of_series(&gateway.client, &mut found).await;
    found
}

async fn of_series(client: &Client, found: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let last = client.stream("READINGS").await?.map_or(0, |info| info.last_sequence);
    let messages = client.read("READINGS", &[], ReadFrom::Sequence(last.saturating_sub(NEWEST))).await?;
    let read = messages.try_for_each(|message| {
        if let Ok(batch) = Readings::decode(&message.payload) {
            for row in 0..batch.rows.len() {
                if let Some(SeriesName { device, channel }) = SeriesName::parse(batch.rows.name(row)) {
                    found.extend([device, channel]);
                }
            }
        }
        std::future::ready(Ok(()))
    });
    Ok(read.await?)
}
