//! What the bus tells: streams near their bounds, consumers that do not progress, what was refused lately.

use std::{collections::BTreeMap, time::Duration};

use eddy_runtime::client::{ClientError, ConsumerInfo, ReadFrom, StreamInfo};
use eddy_schemas::{names, side::Rejection};
use futures_util::TryStreamExt as _;

use super::finding::{Check, Report};
use crate::gateway::Gateway;

/// Streams that refuse at their bound, and what fills them up when it does not read.
const BOUND: [(&str, &str); 6] = [
    ("INGEST", "capture"),
    ("CONTROL", "capture"),
    ("READINGS", "preprocess"),
    ("SAMPLES", "embed"),
    ("EMBEDDINGS", "detect"),
    ("DETECTIONS", "the janitor"),
];
/// The janitor keeps half of a bound by default; who is past these has readers that do not come after.
const WARN_PERCENT: u64 = 80;
const FULL_PERCENT: u64 = 97;
/// Dead letters that are older are history.
const LATELY: Duration = Duration::from_secs(86_400);

pub async fn look(gateway: &Gateway, report: &mut Report, interval: Duration) {
    match bounds(gateway).await {
        Ok(streams) => streams.iter().for_each(|stream| near_its_bound(stream, &mut report.check("streams"))),
        Err(problem) => report.check("streams").unchecked(problem),
    }
    match progress(gateway, interval).await {
        Ok(pairs) => pairs.iter().for_each(|(was, now)| stuck(was, now, interval, &mut report.check("consumers"))),
        Err(problem) => report.check("consumers").unchecked(problem),
    }
    match refused(gateway).await {
        Ok(refused) => dead_letters(&refused, &mut report.check("dead letters")),
        Err(problem) => report.check("dead letters").unchecked(problem),
    }
}

async fn bounds(gateway: &Gateway) -> Result<Vec<StreamInfo>, ClientError> {
    let mut found = Vec::new();
    for (name, _) in BOUND {
        found.extend(gateway.client.stream(name).await?);
    }
    Ok(found)
}

fn near_its_bound(stream: &StreamInfo, check: &mut Check<'_>) {
    let (Some(bound), Some((_, reader))) = (stream.bytes_max, BOUND.iter().find(|(name, _)| *name == stream.name))
    else {
        return;
    };
    let percent = stream.bytes * 100 / bound.max(1);
    let what = format!("{percent}% of its {} MB", bound >> 20);
    let key = stream.name.to_lowercase();
    let remedy =
        format!("does {reader} come after? `eddy status`; else raise gateway.streams.{key}_mb and restart `eddy up`");
    if percent >= FULL_PERCENT {
        check.error(&stream.name, format!("{what}: it refuses what is sent"), remedy);
    } else if percent >= WARN_PERCENT {
        check.warning(&stream.name, what, remedy);
    }
}

async fn consumers(gateway: &Gateway) -> Result<Vec<ConsumerInfo>, ClientError> {
    let mut all = Vec::new();
    for stream in gateway.client.streams("").await? {
        // A tool's own consumer is no stage.
        all.extend(gateway.client.consumers(&stream).await?.into_iter().filter(|consumer| consumer.durable));
    }
    Ok(all)
}

/// Two looks at each consumer; the second at once if none has anything to do.
async fn progress(gateway: &Gateway, interval: Duration) -> Result<Vec<(ConsumerInfo, ConsumerInfo)>, ClientError> {
    let first = consumers(gateway).await?;
    if first.iter().any(waits) {
        tokio::time::sleep(interval).await;
    }
    let second = consumers(gateway).await?;
    let of = |was: ConsumerInfo| {
        let now = second.iter().find(|now| (&now.stream, &now.name) == (&was.stream, &was.name))?;
        Some((was, now.clone()))
    };
    Ok(first.into_iter().filter_map(of).collect())
}

fn waits(consumer: &ConsumerInfo) -> bool {
    consumer.pending > 0 || consumer.ack_pending > 0
}

fn stuck(was: &ConsumerInfo, now: &ConsumerInfo, interval: Duration, check: &mut Check<'_>) {
    let moved = was.ack_floor != now.ack_floor || was.delivered != now.delivered;
    if !waits(was) || !waits(now) || moved {
        return;
    }
    let waiting = now.pending + now.ack_pending;
    let place = format!("{} of {}", now.name, now.stream);
    if now.pulls_waiting == 0 && now.ack_pending == 0 {
        let remedy = "its stage does not read: `eddy status` says whether it runs, logs/ why not";
        check.error(place, format!("{waiting} messages wait, and nobody asks for them"), remedy);
    } else {
        let stage = now.name.split('-').next().unwrap_or_default();
        let remedy =
            format!("logs/{stage}.log says what it waits for; `eddy status` whether what comes after it is full");
        check.error(place, format!("{waiting} messages wait, and none was done in {interval:?}"), remedy);
    }
}

/// How many readings or messages were refused lately, by stage and reason.
pub async fn refused(gateway: &Gateway) -> Result<BTreeMap<(String, String), u64>, ClientError> {
    let filter = format!("deadletter.{}.>", gateway.site_token());
    let since = crate::now() - LATELY.as_nanos() as i64;
    let messages = gateway.client.read("SIDE", &[&filter], ReadFrom::Time(since)).await?;
    let mut found = BTreeMap::new();
    let counted = messages.try_for_each(|message| {
        let stage = message.subject.split('.').nth(2).map(names::decode).unwrap_or_default();
        for rejection in serde_json::from_slice::<Vec<Rejection>>(&message.payload).unwrap_or_default() {
            *found.entry((stage.clone(), rejection.reason.as_str().to_owned())).or_default() += 1;
        }
        std::future::ready(Ok(()))
    });
    counted.await?;
    Ok(found)
}

fn dead_letters(refused: &BTreeMap<(String, String), u64>, check: &mut Check<'_>) {
    for ((stage, reason), count) in refused {
        let remedy = "`eddy status` shows the last of them; `nats stream view SIDE` their originals";
        check.warning(stage, format!("{count} refused in the last 24 h: {reason}"), remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::found;

    fn stream(bytes: u64) -> StreamInfo {
        StreamInfo {
            name: "READINGS".into(),
            subjects: Vec::new(),
            incarnation: 1,
            messages: 1,
            bytes,
            bytes_max: Some(100 << 20),
            first_sequence: 1,
            last_sequence: 1,
            last_at: Some(1),
        }
    }

    #[test]
    fn a_stream_is_told_near_its_bound_and_one_that_drops_its_oldest_never() {
        let of = |megabytes: u64| found(|check| near_its_bound(&stream(megabytes << 20), check));
        assert_eq!(of(79).findings, []);
        let near = of(85);
        assert!(near.is_sound(false) && near.findings[0].remedy.contains("gateway.streams.readings_mb"), "{near:?}");
        assert!(!of(98).is_sound(false));
        let side = StreamInfo { name: "SIDE".into(), ..stream(100 << 20) };
        assert_eq!(found(|check| near_its_bound(&side, check)).findings, []);
    }

    fn consumer(pending: u64, ack_floor: u64, pulls: usize) -> ConsumerInfo {
        ConsumerInfo {
            stream: "SAMPLES".into(),
            name: "embed-0".into(),
            durable: true,
            pending,
            ack_pending: 0,
            delivered: ack_floor,
            ack_floor,
            pulls_waiting: pulls,
        }
    }

    #[test]
    fn a_consumer_that_has_something_to_do_and_does_not_do_it_is_told() {
        let of = |was, now| found(|check| stuck(&was, &now, Duration::from_secs(6), check)).findings;
        assert_eq!(of(consumer(5, 7, 1), consumer(5, 8, 1)), [], "it goes on");
        assert_eq!(of(consumer(0, 7, 1), consumer(3, 7, 1)), [], "they came just now");
        assert_eq!(of(consumer(0, 7, 0), consumer(0, 7, 0)), [], "nothing to do");
        assert!(of(consumer(5, 7, 1), consumer(6, 7, 1))[0].what.contains("none was done"));
        assert!(of(consumer(5, 7, 0), consumer(6, 7, 0))[0].what.contains("nobody asks"));
    }

    #[test]
    fn what_was_refused_is_told_by_reason() {
        let refused = [(("capture".to_owned(), "undecodable".to_owned()), 3)].into();
        let told = found(|check| dead_letters(&refused, check));
        assert!(told.is_sound(false) && told.findings[0].what.contains("3 refused"), "{told:?}");
        assert_eq!(found(|check| dead_letters(&BTreeMap::new(), check)).findings, []);
    }
}
