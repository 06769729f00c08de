//! Bodies that come gzipped, unpacked within the bound of those that do not.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

/// Why a body is not taken.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// It has more bytes than are taken. At most one more is unpacked.
    TooLong,
    /// It is no gzip, or a damaged one.
    NoGzip(io::Error),
}

/// Unpacks a body of at most `bytes_max` bytes.
///
/// # Errors
/// See [`Wrong`].
pub(crate) fn unpack(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, Wrong> {
    let mut unpacked = Vec::new();
    let mut reader = MultiGzDecoder::new(packed).take(bytes_max as u64 + 1);
    reader.read_to_end(&mut unpacked).map_err(Wrong::NoGzip)?;
    if unpacked.len() > bytes_max { Err(Wrong::TooLong) } else { Ok(unpacked) }
}
