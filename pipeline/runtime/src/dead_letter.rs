//! Dead letters: what was refused, why, and the original, as JSON on `deadletter.<site>.<stage>.<shard>`.
//!
//! One message holds the rejections of one part, so that a flood of rubbish costs one publish per pull, not one each.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use eddy_schemas::side::Rejection;
use serde::{Deserialize, Serialize};

use crate::stage::Rejected;

/// One rejected input in a dead-letter message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Why, and what it came on.
    #[serde(flatten)]
    pub rejection: Rejection,
    /// The stream it was read from.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
    /// The row within that message from which on it was refused.
    pub row: usize,
    /// The original as text, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The original in base64, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl DeadLetter {
    /// Of message `sequence` of `stream`.
    pub fn new(stream: &str, sequence: u64, rejected: Rejected) -> Self {
        let original = &rejected.original;
        // Text whose JSON escapes take more than base64 would (a megabyte of NUL is six) is no text for people either.
        let is_tidy = |text: &&str| text.len() + escapes(text) <= text.len() * 4 / 3 + 16;
        let text = std::str::from_utf8(original).ok().filter(is_tidy).map(str::to_owned);
        let base64 = text.is_none().then(|| STANDARD.encode(original));
        Self { rejection: rejected.rejection, stream: stream.to_owned(), sequence, row: rejected.row, text, base64 }
    }

    /// The original bytes.
    ///
    /// # Errors
    /// If the base64 is damaged.
    pub fn original(&self) -> Result<Vec<u8>, base64::DecodeError> {
        match (&self.text, &self.base64) {
            (Some(text), _) => Ok(text.clone().into_bytes()),
            (None, Some(base64)) => STANDARD.decode(base64),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Reads a dead-letter message.
    ///
    /// # Errors
    /// If it is not what [`chunks`] writes.
    pub fn read(payload: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        serde_json::from_slice(payload)
    }
}

/// How many bytes JSON adds to `text` by escaping.
fn escapes(text: &str) -> usize {
    let of = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        0..0x20 => 5,
        _ => 0,
    };
    text.bytes().map(of).sum()
}

/// A message of these.
pub(crate) fn payload(letters: &[DeadLetter]) -> Bytes {
    serde_json::to_vec(letters).expect("a DeadLetter has string keys only, so it always serializes").into()
}

/// Where a letter comes from: input, message, row.
pub(crate) type Place = (usize, u64, usize);

/// One dead-letter message.
pub(crate) struct Chunk {
    pub(crate) payload: Bytes,
    pub(crate) places: Vec<Place>,
}

/// Writes rejections as messages of about `bytes_max` each. One rejection may be larger by itself: the largest original
/// that INGEST takes ([`crate::provision::SOURCE_BYTES_MAX`]) stays, in base64, under the server's `max_payload`.
pub(crate) fn chunks<'a>(
    rejected: Vec<((usize, u64), Rejected)>,
    bytes_max: usize,
    stream: impl Fn(usize) -> &'a str,
) -> Vec<Chunk> {
    let mut messages = Vec::new();
    let (mut letters, mut places) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for ((input, sequence), one) in rejected {
        let size = one.original.len() * 4 / 3 + 512;
        if bytes > 0 && bytes + size > bytes_max {
            messages.push((std::mem::take(&mut letters), std::mem::take(&mut places)));
            bytes = 0;
        }
        bytes += size;
        places.push((input, sequence, one.row));
        letters.push(DeadLetter::new(stream(input), sequence, one));
    }
    if !letters.is_empty() {
        messages.push((letters, places));
    }
    let chunk = |(letters, places): (Vec<DeadLetter>, Vec<Place>)| Chunk { payload: payload(&letters), places };
    messages.into_iter().map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use eddy_schemas::side::Reason;

    use super::*;

    #[test]
    fn text_stays_readable_and_bytes_come_back() {
        let rejected = |original: &'static [u8]| {
            let rejection =
                Rejection { reason: Reason::Malformed, detail: "d".into(), subject: "ingest.s.d".into(), readings: 1 };
            Rejected { row: 0, rejection, original: Bytes::from_static(original) }
        };
        let all = vec![((0, 1), rejected(b"text \"quoted\"")), ((0, 2), rejected(b"\xff\x00"))];
        let messages = chunks(all, 100, |_| "INGEST");
        assert_eq!(messages.len(), 2, "the bound splits them");
        assert_eq!(messages[0].places, [(0, 1, 0)]);
        let read: Vec<_> = messages.iter().flat_map(|message| DeadLetter::read(&message.payload).unwrap()).collect();
        assert_eq!(read[0].text.as_deref(), Some("text \"quoted\""));
        assert_eq!(read[1].original().unwrap(), b"\xff\x00");
        assert_eq!((read[1].sequence, read[1].stream.as_str()), (2, "INGEST"));
    }

    #[test]
    fn the_largest_original_fits_a_message_whatever_its_bytes() {
        for byte in [0, b'"', b'a', 0xff] {
            let original = Bytes::from(vec![byte; crate::provision::SOURCE_BYTES_MAX as usize]);
            let rejection =
                Rejection { reason: Reason::TooLarge, detail: "d".repeat(1_000), subject: "s".into(), readings: 1 };
            let all = vec![((0, 1), Rejected { row: 0, rejection, original: original.clone() })];
            let messages = chunks(all, 1_000_000, |_| "INGEST");
            assert!(messages[0].payload.len() < 4_000_000, "{} bytes of {byte}", messages[0].payload.len());
            assert_eq!(DeadLetter::read(&messages[0].payload).unwrap()[0].original().unwrap(), original);
        }
    }
}
