//! How a client tells the server who it is: by an NKey or a credentials file, read anew at each connection, so that a key can be
//! replaced under a running process.
//!
//! An NKey's seed signs what the server sends; the server knows its public half. See
//! [NATS: NKeys](https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth).

use std::path::{Path, PathBuf};

use async_nats::{Auth, AuthError, ConnectOptions};
use nkeys::KeyPair;

/// Who a client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// Whoever the server takes it for.
    #[default]
    Nobody,
    /// A file that holds an NKey's seed, and nothing else.
    NKey(PathBuf),
    /// A NATS credentials file: a JWT and a seed.
    Credentials(PathBuf),
}

impl Identity {
    /// From two paths of which at most one is not empty.
    pub fn new(credentials_file: &Path, nkey_file: &Path) -> Self {
        if !nkey_file.as_os_str().is_empty() {
            Self::NKey(nkey_file.to_owned())
        } else if !credentials_file.as_os_str().is_empty() {
            Self::Credentials(credentials_file.to_owned())
        } else {
            Self::Nobody
        }
    }

    /// Options of a connection that says so each time it is made.
    ///
    /// # Errors
    /// What is wrong with the file now.
    pub fn options(&self) -> Result<ConnectOptions, String> {
        self.answer(b"")?;
        let identity = self.clone();
        Ok(match self {
            Self::Nobody => ConnectOptions::new(),
            Self::NKey(_) | Self::Credentials(_) => ConnectOptions::with_auth_callback(move |nonce| {
                // A file of a few lines, read when a connection is made: not worth a thread.
                let answer = identity.answer(&nonce).map_err(AuthError::new);
                async move { answer }
            }),
        })
    }

    /// What the subjects of answers to it begin with, unless it is told otherwise: `None` is the client's own default. A server that tells its
    /// users apart lets the one whose seed lies in `NAME.nk` hear `_EDDY.NAME.>`.
    pub fn inbox_prefix(&self) -> Option<String> {
        match self {
            Self::NKey(file) => file.file_stem().map(|name| inbox_of(&name.to_string_lossy())),
            Self::Nobody | Self::Credentials(_) => None,
        }
    }

    /// What it says when the server has sent `nonce`.
    fn answer(&self, nonce: &[u8]) -> Result<Auth, String> {
        let mut auth = Auth::new();
        let (file, jwt) = match self {
            Self::Nobody => return Ok(auth),
            Self::NKey(file) => (file, None),
            Self::Credentials(file) => (file, Some("USER JWT")),
        };
        let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
        let seed = match jwt {
            None => text.trim(),
            Some(title) => {
                auth.jwt = Some(block(&text, title).ok_or_else(|| wrong(&"no user JWT in it"))?.to_owned());
                block(&text, "USER NKEY SEED").ok_or_else(|| wrong(&"no NKey seed in it"))?
            }
        };
        let pair = KeyPair::from_seed(seed).map_err(|error| wrong(&format!("no NKey seed: {error}")))?;
        auth.signature = Some(pair.sign(nonce).map_err(|error| wrong(&error))?);
        if auth.jwt.is_none() {
            auth.nkey = Some(pair.public_key());
        }
        Ok(auth)
    }
}

/// What the subjects of answers to the user called so begin with.
pub fn inbox_of(user: &str) -> String {
    format!("_EDDY.{user}")
}

/// A new key of a user: its seed, and its public half.
///
/// # Errors
/// That the seed cannot be written as text.
pub fn new_key() -> Result<(String, String), String> {
    let pair = KeyPair::new_user();
    let seed = pair.seed().map_err(|error| error.to_string())?;
    Ok((seed, pair.public_key()))
}

/// The public half of a user's key.
///
/// # Errors
/// That it is no seed.
pub fn public_key(seed: &str) -> Result<String, String> {
    KeyPair::from_seed(seed.trim()).map(|pair| pair.public_key()).map_err(|error| error.to_string())
}

/// The line below `-----BEGIN title-----`.
fn block<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let mut lines = text.lines().skip_while(|line| !(line.contains("BEGIN") && line.contains(title)));
    lines.nth(1).map(str::trim).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_answers_what_its_public_half_checks_and_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("detect.nk");
        let identity = Identity::new(Path::new(""), &file);
        assert!(identity.options().is_err(), "there is no file yet");
        for _ in 0..2 {
            let (seed, public) = new_key().unwrap();
            std::fs::write(&file, seed + "\n").unwrap();
            let auth = identity.answer(b"nonce").unwrap();
            assert_eq!(auth.nkey.as_deref(), Some(public.as_str()));
            KeyPair::from_public_key(&public).unwrap().verify(b"nonce", &auth.signature.unwrap()).unwrap();
        }
        assert_eq!(identity.inbox_prefix().as_deref(), Some("_EDDY.detect"));
    }

    #[test]
    fn credentials_bring_their_jwt_and_sign_with_their_seed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("user.creds");
        let (seed, public) = new_key().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\ne30.e30.x\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(&file, text).unwrap();
        let auth = Identity::new(&file, Path::new("")).answer(b"nonce").unwrap();
        assert_eq!((auth.jwt.as_deref(), auth.nkey), (Some("e30.e30.x"), None));
        KeyPair::from_public_key(&public).unwrap().verify(b"nonce", &auth.signature.unwrap()).unwrap();
        std::fs::write(&file, "-----BEGIN NATS USER JWT-----\n").unwrap();
        assert!(Identity::new(&file, Path::new("")).options().is_err());
    }
}
