//! `poison`: rubbish, hostile names, huge messages and wrong types between the readings, by every way that a device has.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use async_nats::{HeaderMap, jetstream};
use eddy_runtime::dead_letter::DeadLetter;
use eddy_schemas::names;

use super::Disturb;
use crate::{feed, judge::Run, trial::Trial};

/// Between two pieces.
const PAUSE_MS: (u64, u64) = (20, 150);
const ARROW: &str = "application/vnd.apache.arrow.stream";
const JSON: &str = "application/json";
/// Larger than what can be put aside, and so refused to the sender's face.
const TOO_LARGE_BYTES: usize = 3_500_000;

/// A piece of it: what follows the site in the subject, its content type, its payload.
struct Piece {
    stream: &'static str,
    place: String,
    content_type: Option<&'static str>,
    payload: Vec<u8>,
}

/// By the stream and sequence that it was given, which device or control it came as.
#[derive(Debug, Default)]
pub(crate) struct Poison {
    nth: usize,
    accepted: BTreeMap<(&'static str, u64), String>,
}

/// One more than there are kinds is the first again, sent as another device.
fn piece(nth: usize, devices: &[String]) -> Piece {
    let ingest = |content_type, payload: &[u8]| ("INGEST", content_type, payload.to_vec());
    let nested = format!("{}{}", "[".repeat(9_000), "]".repeat(9_000));
    let wrong_control = br#"{"id":"1","origin":"x","time":0,"control":{"kind":"format_disk","device":"d"}}"#;
    let mut pieces = vec![
        ingest(None, b""),
        ingest(None, b"{\"time\":"),
        ingest(Some(JSON), b"[1, 2"),
        ingest(Some(JSON), b"\xff\xfe"),
        ingest(Some("application/senml+json"), b"{\"n\": 5}"),
        ingest(Some(ARROW), b"ARROW1 no"),
        ingest(Some(ARROW), &[0xff; 4_096]),
        ingest(Some("text/plain"), b"not line protocol at all"),
        ingest(Some("application/x-nonsense"), &[0; 100]),
        ingest(Some(JSON), nested.as_bytes()),
        ingest(Some(JSON), br#"{"temperature":"warm"}"#),
        ingest(Some(JSON), br#"{"time":"2200-01-01T00:00:00Z","temperature":1}"#),
        ingest(Some(JSON), br#"{"time":1e300,"temperature":1}"#),
        ingest(Some(JSON), &vec![b'x'; 1_500_000]),
    ];
    pieces.push(("CONTROL", None, b"stop everything".to_vec()));
    pieces.push(("CONTROL", None, wrong_control.to_vec()));
    pieces.push(("CONTROL", None, vec![0; 1_500_000]));
    let hostile = [">", "*", "a.b", "..", "x'; drop table", "\u{202e}evil", "a b"].map(names::encode);
    // A device of the recording, or one with a name that is meant to hurt: as tokens, and as a subject of too many.
    let device = match nth % 3 {
        0 => names::encode(&devices[nth % devices.len()]),
        1 => hostile[nth % hostile.len()].clone(),
        _ => "a.b.c".to_owned(),
    };
    let (stream, content_type, payload) = pieces.swap_remove(nth % pieces.len());
    let place = if stream == "CONTROL" { "maintenance".to_owned() } else { device };
    Piece { stream, place, content_type, payload }
}

impl Poison {
    /// Sends a piece, each time another one.
    ///
    /// # Errors
    /// If the server does not take it: it takes all of them, for capture to judge.
    pub(crate) async fn one(&mut self, context: &jetstream::Context, trial: &mut Trial<'_>) -> Result<()> {
        self.nth += 1;
        let piece = piece(self.nth, &trial.kit.recording.devices);
        let prefix = if piece.stream == "CONTROL" { "control" } else { "ingest" };
        let subject = format!("{prefix}.{}.{}", names::encode(&trial.sandbox.plan.site), piece.place);
        let mut headers = HeaderMap::new();
        if let Some(kind) = piece.content_type {
            headers.insert("Content-Type", kind);
        }
        let ack = context.publish_with_headers(subject.clone(), headers, piece.payload.into()).await?.await?;
        self.accepted.insert((piece.stream, ack.sequence), subject);
        trial.did(format!("rubbish on {prefix}"));
        Ok(())
    }
}

impl Disturb for Poison {
    async fn act(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let context = feed::connect(&trial.sandbox.url()).await?;
        let subject = format!("ingest.{}.d", names::encode(&trial.sandbox.plan.site));
        self.nth = trial.dice.below(1_000) as usize;
        while !trial.is_fed() {
            trial.pause_between(PAUSE_MS.0, PAUSE_MS.1).await?;
            self.one(&context, trial).await?;
            if self.nth.is_multiple_of(20) {
                let sent = context.publish(subject.clone(), vec![0; TOO_LARGE_BYTES].into()).await;
                let stored = match sent {
                    Ok(ack) => ack.await.is_ok(),
                    Err(_) => false,
                };
                if stored {
                    trial.problems.push(format!("a message of {TOO_LARGE_BYTES} bytes was accepted"));
                }
                trial.did("too large a message refused");
            }
        }
        Ok(())
    }

    fn check(&mut self, trial: &mut Trial<'_>, _run: &Run, letters: &[DeadLetter]) {
        let of = |letter: &DeadLetter| (letter.stream.clone(), letter.sequence);
        let known: BTreeSet<_> = letters.iter().map(of).collect();
        let missing =
            self.accepted.iter().filter(|((stream, sequence), _)| !known.contains(&((*stream).to_owned(), *sequence)));
        for ((stream, sequence), subject) in missing.take(3) {
            trial.problems.push(format!("no dead letter of {stream}'s message {sequence} on {subject}"));
        }
        if let Some(letter) = letters.iter().find(|letter| letter.rejection.detail.is_empty()) {
            let (stream, sequence) = of(letter);
            trial.problems.push(format!("the dead letter of {stream}'s message {sequence} gives no reason"));
        }
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        for letter in letters {
            *reasons.entry(format!("{:?}", letter.rejection.reason).to_lowercase()).or_default() += 1;
        }
        trial.figures.insert("dead_letters".to_owned(), serde_json::json!(reasons));
    }
}
