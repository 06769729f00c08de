//! Spans of batches that are part of sampled traces: `verify`, and within it in the trace `merge`, until the transaction is on disk.

use eddy_runtime::{
    bus::Delivery,
    telemetry::Telemetry,
    trace::{Kind, Value},
};
use eddy_schemas::{Timestamp, sync::Class};

use crate::chain::Verdict;

/// A batch that was held against the ledger.
#[derive(Debug)]
pub struct Judged {
    sequence: u64,
    class: Class,
    verdict: &'static str,
    start: Timestamp,
    end: Timestamp,
}

impl Judged {
    pub(super) fn new(
        delivery: &Delivery,
        class: Class,
        verdict: &Verdict,
        (start, end): (Timestamp, Timestamp),
    ) -> Self {
        let verdict = match verdict {
            Verdict::Next(_) => "taken",
            Verdict::Replayed(_) => "replayed",
            Verdict::Refused(_) => "refused",
        };
        Self { sequence: delivery.sequence, class, verdict, start, end }
    }
}

/// The transaction with them is on disk.
pub(super) fn finish(telemetry: &Telemetry, deliveries: &[Delivery], judged: &[Judged], shard: u32) {
    let Some(tracer) = telemetry.tracer() else { return };
    for batch in judged {
        let Some(delivery) = deliveries.iter().find(|delivery| delivery.sequence == batch.sequence) else { continue };
        let attributes: [(&'static str, Value); 5] = [
            ("messaging.system", "nats".into()),
            ("messaging.destination.subject", delivery.subject.as_str().into()),
            ("eddy.sequence", batch.sequence.into()),
            ("eddy.class", batch.class.token().into()),
            ("eddy.shard", u64::from(shard).into()),
        ];
        let open = tracer.open("verify", Kind::Consumer, &delivery.provenance.contexts, batch.start);
        let verdict = ("eddy.verdict", batch.verdict.into());
        let of_verify: Vec<_> = attributes.iter().cloned().chain([verdict]).collect();
        let error = (batch.verdict == "refused").then_some("the batch does not follow its chain");
        open.finish(batch.end, &of_verify, error).for_each(|span| tracer.emit(span));
        if batch.verdict == "taken" {
            let merge = tracer.open("merge", Kind::Internal, open.contexts(), batch.end);
            tracer.close(&merge, &attributes, None);
        }
    }
}
