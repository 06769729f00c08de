//! Signatures by Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, so that a receiver knows who wrote, and when.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;

/// Keys that sign at once: the new one and old ones, while receivers are moved over.
const KEYS_MAX: usize = 4;
/// What the specification asks of a key.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The keys of one webhook.
#[derive(Clone, Debug)]
pub struct Signer {
    keys: Vec<hmac::Key>,
}

impl Signer {
    /// Reads a file of secrets, one a line: `whsec_<base64>`.
    ///
    /// # Errors
    /// What is wrong with the file; never the secret itself.
    pub fn open(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys = lines
            .enumerate()
            .map(|(index, line)| key(line).map_err(|problem| format!("secret {}: {problem}", index + 1)));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        match keys.len() {
            1..=KEYS_MAX => Ok(Self { keys }),
            count => Err(format!("{count} secrets: 1 to {KEYS_MAX} are taken, one a line")),
        }
    }

    /// The value of `webhook-signature`: one signature a key. `timestamp` is in seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let one = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign()))
        };
        self.keys.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

fn key(line: &str) -> Result<hmac::Key, String> {
    let encoded = line.strip_prefix("whsec_").ok_or("whsec_ and base64 are taken")?;
    let bytes = STANDARD.decode(encoded).map_err(|error| format!("what follows whsec_ is not base64: {error}"))?;
    if !KEY_BYTES.contains(&bytes.len()) {
        return Err(format!("{} bytes: 24 to 64 are taken, `openssl rand -base64 32` makes some", bytes.len()));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_published_test_vector() {
        let signer = Signer::parse(SECRET).unwrap();
        let signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_keys_sign_while_a_secret_is_changed() {
        let other = format!("whsec_{}", STANDARD.encode([7; 32]));
        let signer = Signer::parse(&format!("# new\n{other}\n\n{SECRET}\n")).unwrap();
        let both = signer.sign("i", 1, b"b");
        let alone = |secret: &str| Signer::parse(secret).unwrap().sign("i", 1, b"b");
        assert_eq!(both, format!("{} {}", alone(&other), alone(SECRET)));
    }

    #[test]
    fn a_bad_secret_is_refused_and_not_shown() {
        for (text, problem) in [
            ("", "0 secrets"),
            ("hunter2", "whsec_"),
            ("whsec_hunter2!", "not base64"),
            ("whsec_aHVudGVyMg==", "7 bytes"),
        ] {
            let error = Signer::parse(text).unwrap_err();
            assert!(error.contains(problem) && !error.contains("hunter"), "{error}");
        }
    }
}
