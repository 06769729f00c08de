//! Why a bundle is refused: what was expected, what was found, what to do.

use std::{io, path::PathBuf};

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file is missing or cannot be read.
    #[error("{}: {error}: a bundle is a folder of model.toml, model.toml.minisig and model.onnx", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file is past its bound.
    #[error("{} has {bytes} bytes, at most {bytes_max} are taken", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// What is taken.
        bytes_max: u64,
    },
    /// There is no signature.
    #[error(
        "{} is missing, so the bundle is unsigned: sign model.toml with minisign, or set allow_unsigned = true",
        path.display()
    )]
    Unsigned {
        /// The signature file that was looked for.
        path: PathBuf,
    },
    /// The signature file is not one.
    #[error("{}: expected a minisign signature of four lines, found {problem}", path.display())]
    Signature {
        /// The signature file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A trusted key is not one.
    #[error("trusted_keys: {key:?} is not a minisign public key: {problem}")]
    Key {
        /// The entry.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Signed, but by a key that is not trusted.
    #[error(
        "{}: signed by none of the {trusted} trusted keys (its comment: {comment:?}): \
         add its public key to trusted_keys if you know where it comes from",
        path.display()
    )]
    Untrusted {
        /// The signature file.
        path: PathBuf,
        /// How many keys are trusted.
        trusted: usize,
        /// The signature's own comment, which anyone can write.
        comment: String,
    },
    /// The file is not what was signed.
    #[error("{}: the signature is by a trusted key, but of other bytes: the file or its signature was altered", path.display())]
    Altered {
        /// The file.
        path: PathBuf,
    },
    /// Not TOML, or a key of it is unknown, missing or of the wrong type.
    #[error("{}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// Fields hold what they cannot.
    #[error("{}: {}", path.display(), problems.join("; "))]
    Fields {
        /// The file.
        path: PathBuf,
        /// Every problem.
        problems: Vec<String>,
    },
    /// The graph is not the one that the manifest was made for.
    #[error("{}: expected BLAKE3 {expected} as model.toml says, found {found}", path.display())]
    OnnxDigest {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// A bundle cannot be taken into the folder.
    #[error("{}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A bundle was asked for by its digest where there is no folder of bundles.
    #[error("bundle {digest}: no folder of bundles is configured (the key `bundles`)")]
    NoFolder {
        /// What was asked for.
        digest: String,
    },
    /// A folder holds another bundle than its name says.
    #[error("{}: expected the bundle of digest {expected}, found {found}", path.display())]
    Another {
        /// The folder.
        path: PathBuf,
        /// What was asked for.
        expected: String,
        /// What lies there.
        found: String,
    },
}
