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

use super::config;
use crate::config_files;

pub(super) const REDACTED: &str = "[redacted]";
/// A secret that is shorter could be any word.
const SECRET_BYTES_MIN: usize = 4;
/// A name that is shorter is one only where a subject, a path or quotes say so.
const NAME_BYTES_MIN: usize = 3;

/// What becomes of the names of devices and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// That was asked for.
    AsTheyAre,
    /// They become pseudonyms.
    Known,
    /// Nobody says which words are names.
    Unknown,
}

/// What is taken out.
#[derive(Default)]
pub struct Scrub {
    /// Longest first, so that what contains another goes as a whole.
    secrets: Vec<String>,
    names: Vec<(String, String)>,
    notes: Vec<String>,
}

impl Scrub {
    /// What stands in the config, and what lies in the files that it names; relative paths are of the folder `cwd`.
    pub fn of_secrets(config: Option<&Path>, cwd: &Path) -> Self {
        let mut scrub = Self::default();
        let text = config.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        for table in config::readable(&text) {
            config::inline_secrets(&table).iter().for_each(|secret| scrub.secret(secret));
            let named = config_files::named_in(table);
            let is_secret = |key: &str| !key.ends_with("ca_file") && !key.ends_with("cert_file");
            named.iter().filter(|named| is_secret(&named.key)).for_each(|named| scrub.file(&cwd.join(&named.path)));
        }
        scrub.secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        scrub.secrets.dedup();
        scrub
    }

    fn file(&mut self, path: &Path) {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).for_each(|line| self.secret(line));
        self.secret(text.trim());
    }

    fn secret(&mut self, value: &str) {
        if value.len() < SECRET_BYTES_MIN {
            return;
        }
        let encoded = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].map(|engine| engine.encode(value));
        let inner = value.strip_prefix("whsec_").map(str::to_owned);
        let quoted = value.escape_debug().to_string();
        let all = encoded.into_iter().chain(inner).chain([names::encode(value), quoted, value.to_owned()]);
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

    /// What it has to say.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the bundle says of itself.
    pub fn about(&self, names: Names) -> String {
        let of_names = match names {
            Names::AsTheyAre => "as they are (--names)",
            Names::Known => {
                "those that the streams tell are name-XXXXXXXX, the same for the same name of this site; in the config \
                 they are taken out"
            }
            Names::Unknown => {
                "in the config they are taken out; everywhere else, in the logs too, they are as they are"
            }
        };
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
        let text = by_looks(&without_userinfo(&without_quoted_config(&text)));
        self.names.iter().fold(text, |text, (name, pseudonym)| replace_name(&text, name, pseudonym))
    }
}

/// Seeds of NKeys, tokens of JWT's and Standard Webhooks' kinds.
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
            out.push_str(word);
        }
        out.push_str(rest);
    }
    out
}

/// `scheme://user:password@host` without user and password. A password may hold any sign, also one that ends a host or a word: what
/// stands before the last `@` goes, up to white space or the end of a quotation.
fn without_userinfo(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (scheme, after) = rest.split_at(at + "://".len());
        out.push_str(scheme);
        let mut before = ' ';
        let ends = |c: char| {
            let is_end = c.is_whitespace() || c == '"' && before != '\\';
            before = c;
            is_end
        };
        let url = &after[..after.find(ends).unwrap_or(after.len())];
        let host = url.rfind('@').unwrap_or(0);
        if host > 0 {
            out.push_str(REDACTED);
        }
        rest = &after[host..];
    }
    out + rest
}

/// The TOML parser's messages without the line of the config that they quote.
fn without_quoted_config(text: &str) -> String {
    const BEFORE: &str = "TOML parse error at line ";
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(BEFORE) {
        let (told, after) = rest.split_at(at + BEFORE.len());
        out.push_str(told);
        let line: String = after.chars().take_while(char::is_ascii_digit).collect();
        // The quotation follows at once: `LINE | what stands there`.
        let quote = format!("{line} | ");
        let Some(from) = after.find(&quote).map(|from| from + quote.len()) else {
            rest = after;
            continue;
        };
        // Up to the line with the mark below it; in JSON the end of a line is written out.
        let in_json = format!("\\n{}|", " ".repeat(line.len() + 1));
        let ends = [after[from..].find('\n'), after[from..].find(&in_json)];
        let end = ends.into_iter().flatten().min().map_or(after.len(), |end| from + end);
        out.push_str(&after[..from]);
        out.push_str(REDACTED);
        rest = &after[end..];
    }
    out + rest
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_in_every_form_and_by_their_looks() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, config) = (folder.path().join("s"), folder.path().join("c.toml"));
        std::fs::write(&secret, "hunter2-of-the-gateway\n").unwrap();
        std::fs::write(&config, format!("[capture.http]\ntoken_file = {secret:?}\n")).unwrap();
        let scrub = Scrub::of_secrets(Some(&config), Path::new("/"));
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
    fn a_password_in_a_url_goes_whatever_signs_it_holds() {
        let scrub = Scrub::default();
        for url in ["mqtt://us-er:p!ss~w0rdMQ@127.0.0.1:9", "mqtt://us-er:p/ss?w0rdMQ,'@@127.0.0.1:9"] {
            let told = scrub.text(&format!("url = {url:?}: x {{\"a\":\"{url}\",\"b\":\"c@d\"}} http://h/x y@z"));
            let expected = "url = \"mqtt://[redacted]@127.0.0.1:9\": x {\"a\":\"mqtt://[redacted]@127.0.0.1:9\",\"b\":\"c@d\"} http://h/x y@z";
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn a_secret_in_the_config_goes_by_its_value_though_the_config_is_no_toml() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s"), "hunter2").unwrap();
        let config = folder.path().join("c.toml");
        let text = "token_file = \"s\"\nurl = \"mqtt://me:pa ss\\\"w@h\"\npassword = \"swordfish\"\nbroken = \"x\n";
        std::fs::write(&config, text).unwrap();
        let told = Scrub::of_secrets(Some(&config), folder.path()).text("hunter2 pa ss\\\"w swordfish");
        assert_eq!(told, "[redacted] [redacted] [redacted]");
    }

    #[test]
    fn the_line_that_a_parser_quotes_goes() {
        let text = "[a]\nurl = \"https://hooks.example/T0/BROKENSECRET";
        let problem = text.parse::<toml::Table>().unwrap_err().to_string();
        assert!(problem.contains("BROKENSECRET"));
        for told in [problem.clone(), serde_json::json!({"what": problem, "next": 1}).to_string()] {
            let told = Scrub::default().text(&format!("{told} and more"));
            assert!(!told.contains("BROKENSECRET") && told.contains("line 2") && told.ends_with(" and more"), "{told}");
        }
    }

    #[test]
    fn the_bundle_says_what_became_of_names() {
        let of = |names| Scrub::default().about(names);
        assert!(of(Names::Known).contains("name-XXXXXXXX"));
        assert!(!of(Names::Unknown).contains("name-XXXXXXXX") && of(Names::Unknown).contains("as they are"));
    }
}
