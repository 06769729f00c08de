//! Names of devices and channels, as subject tokens and as series.
//!
//! A device may be called `a.b`, `>` or `a b`; NATS gives those characters a meaning (and accepts them in published
//! subjects all the same), so names are percent-encoded wherever they become part of a subject or a series.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but letters, digits, `-` and `_`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The longest device or channel name that is taken, in bytes after encoding.
pub const NAME_BYTES_MAX: usize = 128;

/// A name as one subject token.
pub fn encode(name: &str) -> String {
    utf8_percent_encode(name, RESERVED).to_string()
}

/// The name behind a token; a token that is not valid UTF-8 once decoded is returned as it stands.
pub fn decode(token: &str) -> String {
    percent_decode_str(token).decode_utf8().map_or_else(|_| token.to_owned(), |name| name.into_owned())
}

/// A series: one channel of one device. Written `device/channel`, both percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesName {
    /// The device, as its operator calls it.
    pub device: String,
    /// The channel of the device.
    pub channel: String,
}

impl SeriesName {
    /// The canonical text, `device/channel`.
    pub fn encode(device: &str, channel: &str) -> String {
        format!("{}/{}", encode(device), encode(channel))
    }

    /// Reads the canonical text. `None` if there is no `/`, or either part is empty or too long.
    pub fn parse(text: &str) -> Option<Self> {
        tokens(text).map(|(device, channel)| Self { device: decode(device), channel: decode(channel) })
    }

    /// Whether [`Self::parse`] could read it; every series of every batch is asked.
    pub fn is_canonical(text: &str) -> bool {
        tokens(text).is_some()
    }

    /// The device's token (still encoded) of a canonical text; the whole text where there is no `/`.
    pub fn device_token(text: &str) -> &str {
        text.split_once('/').map_or(text, |(device, _)| device)
    }
}

/// The two parts of a series' text, still encoded.
fn tokens(text: &str) -> Option<(&str, &str)> {
    let fits = |token: &str| !token.is_empty() && token.len() <= NAME_BYTES_MAX;
    text.split_once('/').filter(|(device, channel)| fits(device) && fits(channel))
}

/// Whether `name` can be a device or channel: not empty, and not too long once encoded.
pub fn is_valid(name: &str) -> bool {
    !name.is_empty() && encode(name).len() <= NAME_BYTES_MAX
}

/// The shard of a device among `shards`, by the first eight bytes of BLAKE3 of its name.
///
/// Fixed when a gateway is provisioned: order holds within a shard.
pub fn shard_of(device: &str, shards: u32) -> u32 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(device.as_bytes()).as_bytes()[..8]);
    // A remainder of a u32 divisor fits u32.
    (u64::from_le_bytes(first) % u64::from(shards.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_survive_a_round_trip_as_one_token() {
        for name in ["a.b", ">", "*", "a b", "é/ü", "%41", "\u{0}", "plain-1_x"] {
            let token = encode(name);
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_%".contains(&b)), "{token}");
            assert_eq!(decode(&token), name);
            let series = SeriesName::encode(name, name);
            assert_eq!(SeriesName::parse(&series), Some(SeriesName { device: name.into(), channel: name.into() }));
            assert!(SeriesName::is_canonical(&series));
        }
    }

    #[test]
    fn a_series_without_device_or_channel_is_none() {
        for text in ["", "a", "/", "a/", "/b"] {
            assert_eq!((SeriesName::parse(text), SeriesName::is_canonical(text)), (None, false), "{text:?}");
        }
    }

    #[test]
    fn one_shard_takes_every_device() {
        assert!((0..100).all(|i| shard_of(&i.to_string(), 1) == 0));
        assert!((0..100).any(|i| shard_of(&i.to_string(), 4) == 3));
    }
}
