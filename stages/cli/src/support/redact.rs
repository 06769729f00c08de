//! Taking out of text what may not leave: secrets by their values and their looks, names by pseudonyms.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use eddy_schemas::names;

use crate::config_files;

const REDACTED: &str = "[redacted]";
/// A secret that is shorter could be any word.
const SECRET_BYTES_MIN: usize = 4;
/// A name that is shorter is one only where a subject, a path or quotes say so.
const NAME_BYTES_MIN: usize = 3;

/// What is taken out.
#[derive(Default)]
pub struct Scrub {
    /// Longest first, so that what contains another goes as a whole.
    secrets: Vec<String>,
    names: Vec<(String, String)>,
    notes: Vec<String>,
}

impl Scrub {
    /// What lies in the files that the config names.
    pub fn of_secrets(config: Option<&Path>) -> Self {
        let mut scrub = Self::default();
        let named = config.map(config_files::named).and_then(Result::ok).unwrap_or_default();
        for file in named.iter().filter(|named| !named.key.ends_with("ca_file") && !named.key.ends_with("cert_file")) {
            let text = std::fs::read_to_string(&file.path).unwrap_or_default();
            let lines = text.lines().map(str::trim);
            lines.filter(|line| !line.starts_with("-----")).for_each(|line| scrub.secret(line));
            scrub.secret(text.trim());
        }
        scrub.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        scrub.secrets.dedup();
        scrub
    }

    fn secret(&mut self, value: &str) {
        if value.len() < SECRET_BYTES_MIN {
            return;
        }
        let encoded = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].map(|engine| engine.encode(value));
        let inner = value.strip_prefix("whsec_").map(str::to_owned);
        let all = encoded.into_iter().chain(inner).chain([names::encode(value), value.to_owned()]);
        self.secrets.extend(all.filter(|form| form.len() >= SECRET_BYTES_MIN));
    }

    /// Names become pseudonyms, the same ones in every bundle of this site.
    pub fn names(&mut self, known: BTreeSet<String>, site: &str) {
        let mut forms = BTreeMap::new();
        for name in known.into_iter().filter(|name| !name.is_empty() && name != site) {
            let hash = blake3::hash(format!("{site}\0{name}").as_bytes()).to_hex();
            let pseudonym = format!("name-{}", &hash[..8]);
            forms.insert(names::encode(&name), pseudonym.clone());
            forms.insert(name, pseudonym);
        }
        self.names = forms.into_iter().collect();
        self.names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    }

    /// Something to say of it.
    pub fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    /// What the bundle says of itself.
    pub fn about(&self, names: bool) -> String {
        let of_names =
            if names { "as they are (--names)" } else { "as name-XXXXXXXX, the same for the same name of this site" };
        format!(
            "eddy {} support bundle\nsecrets: taken out by their values, by the names of keys, and by their looks\ndevices and channels: {of_names}\n\
             readings, payloads of dead letters, alerts, state: not in it\n{}\n",
            env!("CARGO_PKG_VERSION"),
            self.notes.join("\n")
        )
    }

    /// The text without what may not leave.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), REDACTED);
            }
        }
        let text = by_looks(&text);
        self.names.iter().fold(text, |text, (name, pseudonym)| replace_name(&text, name, pseudonym))
    }
}

/// Seeds of NKeys, tokens of JWT's and Standard Webhooks' kinds, userinfo of URLs.
fn by_looks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let is_part =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '/' | '=' | '@' | ':' | '%');
    for piece in text.split_inclusive(|c: char| !is_part(c)) {
        let end = piece.char_indices().next_back().filter(|(_, c)| !is_part(*c)).map_or(piece.len(), |(at, _)| at);
        let (word, rest) = piece.split_at(end);
        // A key and its value may be one word: `seed=SU…`.
        let value = word.rsplit(['=', ':']).find(|part| !part.is_empty()).unwrap_or(word);
        let is_seed = value.len() == 58
            && value.starts_with('S')
            && value.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        let is_token = value.starts_with("whsec_") || (value.starts_with("eyJ") && value.matches('.').count() == 2);
        if is_seed || is_token {
            out.push_str(&word[..word.len() - value.len()]);
            out.push_str(REDACTED);
        } else {
            out.push_str(&without_userinfo(word));
        }
        out.push_str(rest);
    }
    out
}

/// `scheme://user:password@host` without user and password.
fn without_userinfo(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((userinfo, _)) => format!("{scheme}://{REDACTED}{}", &rest[userinfo.len()..]),
        None => word.to_owned(),
    }
}

fn replace_name(text: &str, name: &str, pseudonym: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (rest[..at].chars().next_back(), rest[at + name.len()..].chars().next());
        let is_word = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '-');
        let is_sign = |c: Option<char>| c.is_some_and(|c| matches!(c, '.' | '/' | '"' | '='));
        let is_name = is_word(before)
            && is_word(after)
            && (name.len() >= NAME_BYTES_MIN || is_sign(before) && (is_sign(after) || after.is_none()));
        out.push_str(&rest[..at]);
        out.push_str(if is_name { pseudonym } else { name });
        rest = &rest[at + name.len()..];
    }
    out + rest
}

/// A config without the values of secrets and without what stands in URLs beside the host.
pub fn config(text: &str) -> String {
    let Ok(mut table) = text.parse::<toml::Table>() else { return "it is no TOML".into() };
    table.iter_mut().for_each(|(key, value)| redact(key, value));
    table.to_string()
}

fn redact(key: &str, value: &mut toml::Value) {
    match value {
        toml::Value::Table(table) => table.iter_mut().for_each(|(key, value)| redact(key, value)),
        toml::Value::Array(all) if is_secret(key) => all.clear(),
        toml::Value::Array(all) => all.iter_mut().for_each(|value| redact(key, value)),
        toml::Value::String(text) if text.is_empty() => {}
        toml::Value::String(text) if is_secret(key) => *text = REDACTED.into(),
        toml::Value::String(text) => {
            if let Some((scheme, rest)) = text.split_once("://") {
                // A webhook's path is often its secret.
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let host = authority.rsplit('@').next().unwrap_or_default();
                *text = format!("{scheme}://{host}");
            }
        }
        _ if is_secret(key) => *value = toml::Value::String(REDACTED.into()),
        _ => {}
    }
}

fn is_secret(key: &str) -> bool {
    let ends = ["secret", "token", "password", "key", "credentials", "authorization", "username"];
    ends.iter().any(|end| key == *end || key.ends_with(&format!("_{end}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_in_every_form_and_by_their_looks() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, config) = (folder.path().join("s"), folder.path().join("c.toml"));
        std::fs::write(&secret, "hunter2-of-the-gateway\n").unwrap();
        std::fs::write(&config, format!("[capture.http]\ntoken_file = {secret:?}\n")).unwrap();
        let scrub = Scrub::of_secrets(Some(&config));
        let seed = format!("SU{}", "A".repeat(56));
        let encoded = STANDARD.encode("hunter2-of-the-gateway");
        let text = format!(
            "Token hunter2-of-the-gateway, {encoded}; seed={seed} whsec_abc nats://me:pw@host:4222/x eyJa.b.c and words"
        );
        assert_eq!(
            scrub.text(&text),
            "Token [redacted], [redacted]; seed=[redacted] [redacted] nats://[redacted]@host:4222/x [redacted] and words"
        );
    }

    #[test]
    fn names_become_the_same_pseudonyms_and_short_ones_only_where_they_are_names() {
        let mut scrub = Scrub::default();
        scrub.names(["pump 1", "a", "voc"].map(str::to_owned).into(), "plant");
        let text = scrub.text("ingest.plant.pump%201 pump 1/voc vocal a \"a\" plant");
        assert!(!text.contains("pump") && text.contains(" vocal a ") && text.ends_with(" plant"), "{text}");
        let words: Vec<_> = text.split([' ', '/', '.', '"']).filter(|word| word.starts_with("name-")).collect();
        assert_eq!(words.len(), 4, "{text}");
        assert_eq!(words[0], words[1]);
    }

    #[test]
    fn a_config_shows_hosts_and_no_secrets() {
        let text = "[notify]\n[[notify.webhook]]\nurl = \"https://u:p@hooks.example/T0/SECRET?x=1\"\nsecret_file = \"/s\"\nmade_up_token = \"abc\"\n[a]\npassword = 7\n";
        let told = config(text);
        assert!(told.contains("https://hooks.example\"") && told.contains("secret_file = \"/s\""), "{told}");
        assert!(
            !told.contains("SECRET") && !told.contains("abc") && !told.contains('7') && !told.contains("u:p"),
            "{told}"
        );
    }
}
