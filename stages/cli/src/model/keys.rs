//! Keys and the passwords of secret ones.

use std::{fs, io::IsTerminal as _, path::Path};

use anyhow::{Context as _, bail, ensure};
use minisign::{PublicKey, SecretKey, SecretKeyBox};

/// Where a password may stand.
pub(super) const PASSWORD: &str = "EDDY_MODEL_PASSWORD";
/// Larger files are no keys.
const KEY_BYTES_MAX: u64 = 64 * 1024;
/// Characters of a secret key's line.
const SECRET_CHARS: usize = 212;
/// How that of an encrypted one begins.
const ENCRYPTED: &str = "RWRTY";

/// A key's number, as minisign writes it.
pub(super) fn number(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

/// The password for a new key, which is asked twice, or for one that is there.
pub(super) fn password(is_new: bool) -> anyhow::Result<String> {
    let password = match std::env::var(PASSWORD) {
        Ok(password) => password,
        Err(_) if !std::io::stdin().is_terminal() => {
            bail!("there is no terminal to ask for the key's password on: set {PASSWORD}")
        }
        Err(_) => {
            let asked = rpassword::prompt_password("Password of the key: ")?;
            let again = if is_new { rpassword::prompt_password("The same again: ")? } else { asked.clone() };
            ensure!(asked == again, "the passwords differ");
            asked
        }
    };
    ensure!(!password.is_empty(), "the password is empty: a key without one is made by --no-password");
    Ok(password)
}

/// The secret key in a file; its password is asked for if it has one.
pub(super) fn secret(path: &Path) -> anyhow::Result<SecretKey> {
    let is_no_key = || format!("{}: no secret key of minisign's", path.display());
    let bytes = fs::metadata(path).with_context(|| path.display().to_string())?.len();
    ensure!(bytes <= KEY_BYTES_MAX, "{}: {bytes} bytes, at most {KEY_BYTES_MAX} are taken", is_no_key());
    let text = fs::read_to_string(path).with_context(is_no_key)?;
    let line = text.lines().nth(1).unwrap_or_default().trim();
    ensure!(line.len() == SECRET_CHARS, "{}: a public key, or damaged", is_no_key());
    let boxed = SecretKeyBox::from_string(&text)?;
    if line.starts_with(ENCRYPTED) {
        let key = boxed.into_secret_key(Some(password(false)?));
        return key.with_context(|| format!("{}: the password is wrong, or the file damaged", path.display()));
    }
    boxed.into_unencrypted_secret_key().with_context(|| format!("{}: damaged", is_no_key()))
}

/// The public key of an entry of trusted keys: base64, or the path of a `.pub` file.
pub(super) fn public(entry: &str) -> anyhow::Result<PublicKey> {
    let key = if entry.ends_with(".pub") { PublicKey::from_file(entry) } else { PublicKey::from_base64(entry) };
    key.with_context(|| format!("{entry}: no public key of minisign's"))
}
