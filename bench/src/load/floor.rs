//! The floor: what four hops cost on this server and machine when a stage does nothing but pull, merge and publish.
//!
//! Four processes, as the stages are four: each with the runtime's own bus (so the same client settings and pull), on
//! streams configured like the gateway's. A hop copies what is pending into one payload, cut or repeated to the size that
//! the real hop's output had per byte of its input, publishes it guarded by the last sequence (in parts where it is over the
//! stages' bound), awaits the ack, and acknowledges its input as rarely as a stage with state does.

use std::{collections::HashMap, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use async_nats::jetstream::{
    self,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};
use bytes::Bytes;
use eddy_runtime::{
    bus::{Bus as _, Feed as _, Publication, PullBounds, Source, nats::NatsBus},
    config::{BusConfig, CommonConfig, DEFAULTS},
    position::{HEADER, Place, Position},
};
use eddy_schemas::Timestamp;
use tokio::time::Instant;

use super::{
    collected::Collected,
    feed::{self, Sent},
    gateway::Gateway,
    journey::{self, Stamp},
    process::Owned,
};

/// How many.
pub(super) const HOPS: usize = 4;
/// Bound of each of the floor's streams: the gateway's config leaves room for five.
const STREAM_BYTES_MAX: i64 = 1 << 30;

/// What one hop process is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HopArgs {
    /// The bus.
    #[arg(long)]
    url: String,
    /// Which hop, from 0.
    #[arg(long)]
    hop: usize,
    /// Bytes of output for each byte of input.
    #[arg(long)]
    ratio: f64,
}

fn stream(hop: usize) -> String {
    format!("FLOOR{hop}")
}

fn subject(hop: usize) -> String {
    format!("floor.{hop}")
}

/// The shared defaults of all stages, with another bus.
fn common(url: &str) -> Result<CommonConfig> {
    let mut table: toml::Table = DEFAULTS.parse().context("the runtime's defaults")?;
    if let Some(bus) = table.get_mut("bus").and_then(toml::Value::as_table_mut) {
        bus.insert("url".into(), url.into());
    }
    Ok(table.try_into()?)
}

/// A hop: runs until it is stopped, or until the bench that started it is gone.
///
/// # Errors
/// Whatever goes wrong: a floor that had to recover would be none.
pub(crate) async fn hop(args: &HopArgs) -> Result<()> {
    let config = common(&args.url)?;
    let bus = connect(&config.bus, args.hop).await?;
    let source = Source {
        stream: stream(args.hop),
        durable: "hop".into(),
        filter: subject(args.hop),
        // As the stages' own; far below i64::MAX.
        ack_pending_max: config.limits.ack_pending_max as i64,
        ack_wait: Duration::from_secs(config.limits.ack_wait_s),
    };
    let (output, output_subject) = (stream(args.hop + 1), subject(args.hop + 1));
    let incarnation = bus.stream(&source.stream).await?.incarnation;
    let mut guard = bus.last(&output, &output_subject).await?.map_or(0, |last| last.sequence);
    let mut feed = bus.open(&source, 1).await?;
    let bounds = PullBounds { messages: config.limits.pull_messages_max, bytes: config.limits.pull_bytes_max };
    let ack_every = Duration::from_millis(config.state.commit_interval_ms);
    let (parent, mut acked_at) = (std::os::unix::process::parent_id(), Instant::now());
    loop {
        let pulled = feed.pull(bounds, Duration::from_millis(200)).await?;
        if std::os::unix::process::parent_id() != parent {
            return Ok(());
        }
        let Some(last) = pulled.last() else { continue };
        let merged = merge(pulled.iter().map(|delivery| &delivery.payload), args.ratio);
        for (row, payload, is_last) in parts(&merged, config.limits.output_bytes_max) {
            let row = if is_last { Place::WHOLE } else { row };
            let mut position = Position::default();
            position.set(&source.stream, Place { incarnation, sequence: last.sequence, row });
            let publication = Publication {
                stream: output.clone(),
                subject: output_subject.clone(),
                headers: vec![(HEADER.into(), position.to_string())],
                payload,
                guard: Some(guard),
            };
            guard = bus.publish(vec![publication]).await?;
        }
        if acked_at.elapsed() >= ack_every {
            bus.ack(&last.token).await?;
            acked_at = Instant::now();
        }
    }
}

async fn connect(config: &BusConfig, hop: usize) -> Result<NatsBus> {
    Ok(NatsBus::connect(config, &format!("floor-{hop}")).await?)
}

/// All inputs in one payload, cut or repeated to `ratio` times their size.
fn merge<'a>(inputs: impl Iterator<Item = &'a Bytes>, ratio: f64) -> Bytes {
    let mut merged = Vec::new();
    inputs.for_each(|input| merged.extend_from_slice(input));
    // A cast of a float saturates.
    let wanted = (merged.len() as f64 * ratio).round() as usize;
    let input = merged.len();
    merged.reserve(wanted.saturating_sub(input));
    while merged.len() < wanted && input > 0 {
        merged.extend_from_within(..input.min(wanted - merged.len()));
    }
    merged.truncate(wanted);
    merged.into()
}

/// A payload in parts of at most `bytes_max`, as a stage cuts an output that is too large: each with its number from 1, and
/// whether it is the last.
fn parts(payload: &Bytes, bytes_max: usize) -> impl Iterator<Item = (u64, Bytes, bool)> + '_ {
    let count = payload.len().div_ceil(bytes_max).max(1);
    (0..count).map(move |part| {
        let range = part * bytes_max..((part + 1) * bytes_max).min(payload.len());
        (part as u64 + 1, payload.slice(range), part + 1 == count)
    })
}

/// What a run of the floor showed.
#[derive(Debug, Default)]
pub(super) struct Floor {
    /// Per message: when it was due, stored at each of the five streams, and received.
    pub(super) ways: Vec<Vec<Timestamp>>,
    /// By how much the sender was late, in nanoseconds.
    pub(super) lateness: Vec<i64>,
}

/// Runs `ticks` messages of `make` through four hops whose outputs are `ratios` as large as their inputs.
///
/// # Errors
/// If the server does not take the streams, or a hop ends.
pub(super) async fn run(
    gateway: &Gateway,
    bench: &Path,
    ratios: &[f64; HOPS],
    ticks: u64,
    make: impl FnMut(u64, Timestamp) -> Option<Bytes>,
) -> Result<Floor> {
    let url = gateway.url.as_str();
    let context = jetstream::new(async_nats::connect(url).await.context("connecting for the floor")?);
    for hop in 0..=HOPS {
        // Of an earlier round; the first time there is none.
        let _ = context.delete_stream(stream(hop)).await;
        context.create_stream(config(hop)).await.context(format!("making stream {}", stream(hop)))?;
    }
    let mut hops = Vec::new();
    for (hop, ratio) in ratios.iter().enumerate() {
        let mut command = Command::new(bench);
        command.args(["floor-hop", "--url", url, "--hop", &hop.to_string(), "--ratio", &ratio.to_string()]);
        hops.push(Owned::start(command.stdout(std::process::Stdio::null()))?);
    }
    ready(&context).await?;
    let received = Collected::of(journey::follow(url, &stream(HOPS), &subject(HOPS)).await?);
    let sent = feed::paced(&gateway.client, &subject(0), ticks, make).await?;
    settle(gateway, &mut hops).await?;
    let received = received.take(|(stamp, _)| stamp.sequence, gateway.last_sequence(&stream(HOPS)).await?).await?;
    drop(hops);
    ways(url, &sent, received).await
}

async fn ways(url: &str, sent: &[Sent], received: Vec<(Stamp, Timestamp)>) -> Result<Floor> {
    let inputs = journey::stamps(url, &stream(0), &subject(0), 1).await?;
    let due: HashMap<u64, Timestamp> = sent.iter().map(|sent| (sent.sequence, sent.due)).collect();
    let names: Vec<String> = (0..=HOPS).map(stream).collect();
    let mut chain = Vec::new();
    for hop in 1..HOPS {
        chain.push((names[hop - 1].as_str(), journey::stamps(url, &names[hop], &subject(hop), 1).await?));
    }
    let (last, arrivals): (Vec<Stamp>, Vec<Timestamp>) = received.into_iter().unzip();
    let arrived: HashMap<Timestamp, Timestamp> = last.iter().map(|stamp| stamp.stored_at).zip(arrivals).collect();
    chain.push((names[HOPS - 1].as_str(), last));
    let first: Vec<(u64, Timestamp)> = inputs.iter().map(|stamp| (stamp.sequence, stamp.stored_at)).collect();
    let journeys = journey::journeys(&first, &chain);
    // Journeys that are not complete would leave the slowest out: the feed has settled, so there are none.
    if journeys.len() != sent.len() {
        bail!("{} messages were sent through the floor, {} came through", sent.len(), journeys.len());
    }
    let whole = |(input, times): (&(u64, Timestamp), Vec<Timestamp>)| {
        let (due, arrived) = (*due.get(&input.0)?, *arrived.get(times.last()?)?);
        Some([due].into_iter().chain(times).chain([arrived]).collect())
    };
    let ways = first.iter().zip(journeys).filter_map(whole).collect();
    Ok(Floor { ways, lateness: sent.iter().map(|sent| sent.lateness).collect() })
}

/// Waits until every hop has passed on all of its input.
async fn settle(gateway: &Gateway, hops: &mut [Owned]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    for hop in 0..HOPS {
        loop {
            let last = gateway.client.last(&stream(hop + 1), &subject(hop + 1)).await?;
            let reached: Position = last.as_ref().and_then(|last| last.header(HEADER)).unwrap_or_default().parse()?;
            let next = reached.place(&stream(hop)).map_or(1, Place::next_sequence);
            if next > gateway.last_sequence(&stream(hop)).await? {
                break;
            }
            if let Some(status) = hops.iter_mut().find_map(Owned::ended) {
                bail!("a hop of the floor ended: {status}");
            }
            if Instant::now() > deadline {
                bail!("hop {hop} of the floor is not through in time");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

fn config(hop: usize) -> Config {
    Config {
        name: stream(hop),
        subjects: vec![subject(hop)],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: 1,
        max_bytes: STREAM_BYTES_MAX,
        discard: DiscardPolicy::New,
        allow_direct: true,
        ..Default::default()
    }
}

async fn ready(context: &jetstream::Context) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    for hop in 0..HOPS {
        loop {
            let consumer =
                context.get_consumer_from_stream::<jetstream::consumer::pull::Config, _, _>("hop", stream(hop));
            if let Ok(mut consumer) = consumer.await
                && consumer.info().await.is_ok_and(|info| info.num_waiting > 0)
            {
                break;
            }
            if Instant::now() > deadline {
                return Err(anyhow!("hop {hop} of the floor does not come up"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merged_payload_is_of_the_size_that_is_asked() {
        let inputs = [Bytes::from_static(b"abc"), Bytes::from_static(b"de")];
        let merged = |ratio| merge(inputs.iter(), ratio);
        assert_eq!((&merged(1.0)[..], &merged(0.4)[..]), (&b"abcde"[..], &b"ab"[..]));
        assert_eq!(&merged(2.4)[..], b"abcdeabcdeab");
        assert_eq!(merge([].iter(), 2.0).len(), 0);
    }

    #[test]
    fn a_large_payload_is_cut_and_an_empty_one_still_goes_out() {
        let cut = |payload: &'static [u8]| {
            let payload = Bytes::from_static(payload);
            parts(&payload, 2).collect::<Vec<_>>()
        };
        let expected = [(1, &b"ab"[..], false), (2, &b"cd"[..], false), (3, &b"e"[..], true)];
        assert_eq!(cut(b"abcde"), expected.map(|(part, bytes, last)| (part, Bytes::from_static(bytes), last)));
        assert_eq!(cut(b""), [(1, Bytes::new(), true)]);
    }

    #[test]
    fn a_hop_is_configured_as_a_stage() {
        let config = common("nats://127.0.0.1:1").unwrap();
        assert_eq!((config.bus.url.as_str(), config.limits.pull_messages_max), ("nats://127.0.0.1:1", 1000));
    }
}
