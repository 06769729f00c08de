//! The way of a message through the streams, from what the streams themselves say: when the server stored each message,
//! and by its header which input it reaches. Read afterwards, headers only, so that nothing of it is in the way.

use anyhow::{Context as _, Result, anyhow};
use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, pull},
};
use eddy_runtime::{
    clock::{Clock as _, SystemClock},
    position::{HEADER, Position},
};
use eddy_schemas::Timestamp;
use futures_util::{Stream, StreamExt as _};

/// A message's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Its sequence.
    pub(super) sequence: u64,
    /// When the server stored it.
    pub(super) stored_at: Timestamp,
    /// Bytes of its payload.
    pub(super) bytes: u64,
    /// The position that it reaches, if it is a stage's output.
    pub(super) reaches: Position,
}

/// Where reading of envelopes begins.
fn ordered(subject: &str, deliver_policy: DeliverPolicy) -> pull::OrderedConfig {
    pull::OrderedConfig { deliver_policy, filter_subject: subject.to_owned(), headers_only: true, ..Default::default() }
}

/// The envelopes of `stream` on `subject` (wildcards allowed) from sequence `from` to the last one there is, in order.
///
/// # Errors
/// If the stream cannot be read to its end.
pub(super) async fn stamps(url: &str, stream: &str, subject: &str, from: u64) -> Result<Vec<Stamp>> {
    let context = jetstream::new(async_nats::connect(url).await.context("connecting to read envelopes")?);
    let config = ordered(subject, DeliverPolicy::ByStartSequence { start_sequence: from.max(1) });
    let consumer = context.create_consumer_on_stream(config, stream).await.context(format!("reading {stream}"))?;
    let mut found = Vec::new();
    if consumer.cached_info().num_pending == 0 {
        return Ok(found);
    }
    let mut messages = consumer.messages().await?;
    while let Some(message) = messages.next().await {
        let (stamp, pending) = stamp(&message?)?;
        found.push(stamp);
        if pending == 0 {
            break;
        }
    }
    Ok(found)
}

/// Follows `stream` from now on: each envelope with the time at which it was received. Ends when it is dropped.
///
/// # Errors
/// If there is no such stream.
pub(super) async fn follow(
    url: &str,
    stream: &str,
    subject: &str,
) -> Result<impl Stream<Item = Result<(Stamp, Timestamp)>> + Send + use<>> {
    let context = jetstream::new(async_nats::connect(url).await.context("connecting to follow a stream")?);
    let config = ordered(subject, DeliverPolicy::New);
    let consumer = context.create_consumer_on_stream(config, stream).await.context(format!("following {stream}"))?;
    let messages = consumer.messages().await?;
    Ok(messages.map(|message| {
        let received = SystemClock.now();
        anyhow::Ok((stamp(&message?)?.0, received))
    }))
}

/// A message's envelope, and how many follow it.
fn stamp(message: &jetstream::Message) -> Result<(Stamp, u64)> {
    let info = message.info().map_err(|error| anyhow!("{}: a message without its place: {error}", message.subject))?;
    let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name)).map(|v| v.as_str());
    let stamp = Stamp {
        sequence: info.stream_sequence,
        // A server's clock lies within i64's 292 years around 1970.
        stored_at: info.published.unix_timestamp_nanos() as i64,
        bytes: header("Nats-Msg-Size").and_then(|size| size.parse().ok()).unwrap_or(0),
        reaches: header(HEADER).unwrap_or_default().parse()?,
    };
    Ok((stamp, info.pending))
}

/// For each input, the index of the first output that covers it to its end; `None` where none does. Both in order.
pub(super) fn covering(inputs: &[u64], stream: &str, outputs: &[Stamp]) -> Vec<Option<usize>> {
    let mut at = 0;
    let covers = |stamp: &Stamp, input| stamp.reaches.place(stream).is_some_and(|place| place.next_sequence() > input);
    inputs
        .iter()
        .map(|input| {
            while at < outputs.len() && !covers(&outputs[at], *input) {
                at += 1;
            }
            (at < outputs.len()).then_some(at)
        })
        .collect()
}

/// Follows each of `first` through `chain`, which is (input stream, its outputs) hop by hop: when it was stored there.
/// Messages that are not covered at every hop are left out.
pub(super) fn journeys(first: &[(u64, Timestamp)], chain: &[(&str, Vec<Stamp>)]) -> Vec<Vec<Timestamp>> {
    let mut ways: Vec<(u64, Vec<Timestamp>)> = first.iter().map(|(sequence, at)| (*sequence, vec![*at])).collect();
    for (stream, outputs) in chain {
        let inputs: Vec<u64> = ways.iter().map(|(sequence, _)| *sequence).collect();
        let found = covering(&inputs, stream, outputs);
        ways = ways
            .into_iter()
            .zip(found)
            .filter_map(|((_, mut times), index)| {
                let output = &outputs[index?];
                times.push(output.stored_at);
                Some((output.sequence, times))
            })
            .collect();
    }
    ways.into_iter().map(|(_, times)| times).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(sequence: u64, stored_at: i64, reaches: &str) -> Stamp {
        Stamp { sequence, stored_at, bytes: 1, reaches: reaches.parse().unwrap() }
    }

    #[test]
    fn a_merged_output_covers_its_inputs_and_a_part_covers_none_of_its_own() {
        let outputs = [stamp(5, 0, "S@1:2"), stamp(6, 0, "S@1:4.10"), stamp(7, 0, "C@9:1,S@1:4")];
        assert_eq!(covering(&[1, 2, 3, 4, 5], "S", &outputs), [Some(0), Some(0), Some(1), Some(2), None]);
        assert_eq!(covering(&[1], "T", &outputs), [None]);
    }

    #[test]
    fn journeys_tell_the_time_at_every_hop() {
        let chain = [("A", vec![stamp(10, 20, "A@1:1"), stamp(11, 30, "A@1:3")]), ("B", vec![stamp(90, 44, "B@1:11")])];
        let found = journeys(&[(1, 11), (2, 12), (3, 13), (4, 14)], &chain);
        assert_eq!(found, [vec![11, 20, 44], vec![12, 30, 44], vec![13, 30, 44]]);
    }
}
