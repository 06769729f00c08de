//! Windows as a gateway's sync sends them: batches of a chain, guarded, each after the other.

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream;
use bytes::Bytes;
use eddy_schemas::{
    SeriesName,
    sync::{
        Class, receipt, stream_of, subject_of,
        wire::{Action, Batch, Codes, Entries, Entry, VectorDelta, entry::What},
    },
};
use eddy_vectors::quantizer::int8;
use futures_util::future::try_join_all;
use prost::Message as _;

use crate::{ann::Queried, sync::sites::Sites};

/// Windows of a batch.
const EACH: usize = 2_000;
/// Series of a site.
const SERIES: usize = 3_000;
const MINUTE: i64 = 60_000_000_000;
/// What made-up batches say of their bundle.
pub(super) const BUNDLE: [u8; 32] = [0xc0; 32];

/// Deals the windows out to the sites, and sends them.
pub(super) async fn fill(sites: &Sites, split: &Queried) -> Result<()> {
    let context = jetstream::new(sites.region.clone());
    let count = sites.sites.len();
    let all: Vec<&[f32]> = split.base.chunks_exact(split.dimensions).collect();
    try_join_all(sites.sites.iter().enumerate().map(|(at, site)| {
        let own: Vec<&[f32]> = all.iter().skip(at).step_by(count).copied().collect();
        Chain::default().send(&context, &site.name, own)
    }))
    .await?;
    Ok(())
}

/// Where a site's chain stands.
#[derive(Default)]
struct Chain {
    number: u64,
    last: u64,
    receipt: Bytes,
}

impl Chain {
    async fn send(mut self, context: &jetstream::Context, site: &str, vectors: Vec<&[f32]>) -> Result<()> {
        let subject = subject_of(site, Class::Deltas);
        for vectors in vectors.chunks(EACH) {
            let payload = Bytes::from(self.batch(site, vectors)?.encode_to_vec());
            self.receipt = receipt(&self.receipt, &payload).to_vec().into();
            let ack = context.publish(subject.clone(), payload).await?.await;
            let ack = ack.with_context(|| subject.clone())?;
            ensure!(ack.stream == stream_of(site), "{subject} lies in {}", ack.stream);
        }
        Ok(())
    }

    fn batch(&mut self, site: &str, vectors: &[&[f32]]) -> Result<Batch> {
        let first = self.last + 1;
        let mut entries = Entries { bundles: vec![Bytes::from_static(&BUNDLE)], ..Default::default() };
        for (id, vector) in (first..).zip(vectors) {
            let at = id as usize % SERIES;
            entries.series.push(SeriesName::encode(&format!("pump {}", at / 3), ["vibration", "heat", "flow"][at % 3]));
            let (scale, codes) = int8::encode(vector)?;
            let delta = VectorDelta {
                action: Action::Insert.into(),
                series: entries.series.len() as u32,
                bundle: 1,
                sequence: id,
                end: id as i64 * MINUTE,
                filled: 64,
                score: 0.1,
                codes: Codes::Int8.into(),
                scale,
                vector: codes.into(),
                ..Default::default()
            };
            entries.entries.push(Entry { id, what: Some(What::Delta(delta)) });
        }
        (self.number, self.last) = (self.number + 1, self.last + vectors.len() as u64);
        let mut batch = Batch {
            site: site.to_owned(),
            class: Class::Deltas.into(),
            chain: vec![7; 16].into(),
            number: self.number,
            first,
            last: self.last,
            previous: self.receipt.clone(),
            ..Default::default()
        };
        batch.pack(&entries);
        Ok(batch)
    }
}
