//! Who may ask, looked at before anything else is.
//!
//! On loopback nobody logs in, but every page that a browser has open can send requests there. So the `Host` must be one of ours (a name
//! that somebody else has pointed here is not), and what changes something must say that it comes from our own page. With a token
//! every request needs it: as `Authorization: Bearer`, or as a cookie that the login form gives for it.

use std::{net::IpAddr, path::Path, time::Duration};

use axum::http::{HeaderMap, HeaderName, Method, header};
use blake3::Hash;
use eddy_runtime::fresh::Fresh;
use eddy_schemas::Timestamp;
use tokio::sync::Semaphore;

/// The session's cookie.
const COOKIE: &str = "eddy_console";
/// How long a login holds.
const SESSION_S: i64 = 12 * 3_600;
/// Tokens that are easier to guess are not taken.
const TOKEN_BYTES_MIN: usize = 16;
/// Logins that are looked at at once, and how long a wrong one is kept waiting.
const LOGINS: usize = 4;
const WRONG_LOGIN: Duration = Duration::from_secs(1);

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum No {
    /// Its `Host` is none of ours.
    Host,
    /// It comes from another page.
    Origin,
    /// It does not know the token.
    Token,
}

/// What is known of who may ask.
#[derive(Debug)]
pub(super) struct Access {
    listen: IpAddr,
    hosts: Vec<String>,
    /// `None` in it: the file holds no token (any more), and nobody knows it.
    token: Option<Fresh<Option<String>>>,
    /// Signs sessions: they end with the process.
    key: [u8; 32],
    logins: Semaphore,
}

impl Access {
    /// # Errors
    /// That the token's file is no good.
    pub fn new(listen: IpAddr, hosts: &[String], token_file: Option<&Path>) -> Result<Self, String> {
        let token = token_file.map(|path| {
            // From the beginning it must be good. Later a file that is emptied or taken away takes the token with it: whoever does that
            // wants nobody in.
            read_token(path)?;
            let file = path.to_owned();
            Fresh::new(vec![path.to_owned()], move || Ok(read_token(&file).ok()))
        });
        Ok(Self {
            listen,
            hosts: hosts.iter().map(|host| host.to_lowercase()).collect(),
            token: token.transpose()?,
            key: rand::random(),
            logins: Semaphore::new(LOGINS),
        })
    }

    /// Whether a request may be answered.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), No> {
        let host = text(headers, header::HOST);
        if !self.is_ours(host) {
            return Err(No::Host);
        }
        if !is_from_here(method, path, headers, host) {
            return Err(No::Origin);
        }
        // The login form and what it looks like, and that somebody answers.
        let is_open = matches!(path, "/login" | "/style.css" | "/healthz");
        if is_open || self.knows_token(headers) { Ok(()) } else { Err(No::Token) }
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = name_of(host);
        if let Ok(address) = name.parse::<IpAddr>() {
            // An address is never looked up, so nobody else can have pointed it here.
            return address.is_loopback() || address == self.listen || self.listen.is_unspecified();
        }
        name == "localhost" || self.hosts.contains(&name)
    }

    /// Whether a request knows the token as it is now, if one is asked for.
    pub fn knows_token(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let token = token.get();
        let Some(token) = token.as_ref() else { return false };
        let said = text(headers, header::AUTHORIZATION).split_once(' ');
        if let Some((_, said)) = said.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
            return is_same(said, token);
        }
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut sessions = cookies.flat_map(|all| all.split("; ")).filter_map(|one| one.strip_prefix("eddy_console="));
        sessions.any(|session| self.is_session(session, token, crate::now()))
    }

    /// The cookie for who knows the token; `None` for who does not. Who is wrong waits, and few at once are looked at.
    pub async fn login(&self, said: &str) -> Option<String> {
        let _place = self.logins.try_acquire().ok()?;
        let token = self.token.as_ref()?.get();
        let token = token.as_ref().as_ref()?;
        if !is_same(said, token) {
            tokio::time::sleep(WRONG_LOGIN).await;
            return None;
        }
        let session = self.session(token, crate::now() / 1_000_000_000 + SESSION_S);
        Some(format!("{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={SESSION_S}"))
    }

    /// It ends at a time, with the token, or with the process, whichever comes first.
    fn session(&self, token: &str, ends_s: i64) -> String {
        format!("{ends_s}.{}", self.sign(token, ends_s).to_hex())
    }

    fn sign(&self, token: &str, ends_s: i64) -> Hash {
        blake3::keyed_hash(&self.key, format!("{ends_s} {token}").as_bytes())
    }

    fn is_session(&self, session: &str, token: &str, now: Timestamp) -> bool {
        let Some((ends, signed)) = session.split_once('.') else { return false };
        let (Ok(ends), Ok(signed)) = (ends.parse::<i64>(), Hash::from_hex(signed)) else { return false };
        now / 1_000_000_000 < ends && signed == self.sign(token, ends)
    }
}

/// blake3's hashes are compared in constant time, whatever was said.
fn is_same(said: &str, token: &str) -> bool {
    blake3::hash(said.as_bytes()) == blake3::hash(token.as_bytes())
}

fn read_token(file: &Path) -> Result<String, String> {
    let text =
        std::fs::read_to_string(file).map_err(|problem| format!("--token-file {}: {problem}", file.display()))?;
    let token = text.trim();
    if token.len() < TOKEN_BYTES_MIN || token.contains(char::is_whitespace) {
        return Err(format!("--token-file {}: one word of at least {TOKEN_BYTES_MIN} bytes is taken", file.display()));
    }
    Ok(token.to_owned())
}

/// A page of another site may show a link to ours, and no more: it reads nothing and changes nothing.
fn is_from_here(method: &Method, path: &str, headers: &HeaderMap, host: &str) -> bool {
    let site = text(headers, HeaderName::from_static("sec-fetch-site"));
    if matches!(*method, Method::GET | Method::HEAD) {
        let is_link = path == "/" && text(headers, HeaderName::from_static("sec-fetch-mode")) == "navigate";
        return matches!(site, "" | "same-origin" | "none") || is_link;
    }
    let origin = text(headers, header::ORIGIN);
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let is_own = authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host));
    // Over plain HTTP browsers send the first to loopback alone, the second always.
    is_own && matches!(site, "" | "same-origin")
}

/// Without its port.
fn name_of(host: &str) -> String {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.trim_end_matches('.').to_lowercase()
}

/// A header as text; what is sent twice is taken for missing.
fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(only), None) => only.to_str().unwrap_or_default(),
        _ => "",
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn access(listen: &str) -> Access {
        Access::new(listen.parse().unwrap(), &["Plant.example".into()], None).unwrap()
    }

    #[test]
    fn a_name_that_somebody_pointed_here_is_none_of_ours() {
        let local = access("127.0.0.1");
        for host in ["localhost", "LOCALHOST:8087", "127.0.0.1:1", "[::1]:8087", "plant.example.", "plant.example:443"]
        {
            assert!(local.is_ours(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example:8087", "[evil]"]
        {
            assert!(!local.is_ours(host), "{host}");
        }
        assert!(access("10.0.0.1").is_ours("10.0.0.1:80") && !access("10.0.0.1").is_ours("10.0.0.2"));
        assert!(access("0.0.0.0").is_ours("10.0.0.2") && !access("0.0.0.0").is_ours("evil.example"));
    }

    #[test]
    fn what_changes_something_comes_from_our_own_page() {
        let asked = |method: Method, path: &str, pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            is_from_here(&method, path, &headers, "localhost:1")
        };
        let own = ("origin", "http://localhost:1");
        assert!(asked(Method::POST, "/act", &[own]));
        assert!(asked(Method::POST, "/act", &[own, ("sec-fetch-site", "same-origin")]));
        assert!(!asked(Method::POST, "/act", &[]));
        assert!(!asked(Method::POST, "/act", &[("origin", "null")]));
        assert!(!asked(Method::POST, "/act", &[("origin", "http://localhost:2")]));
        assert!(!asked(Method::POST, "/act", &[own, ("sec-fetch-site", "cross-site")]));
        assert!(asked(Method::GET, "/events", &[]) && asked(Method::GET, "/", &[("sec-fetch-site", "none")]));
        assert!(!asked(Method::GET, "/events", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
        assert!(asked(Method::GET, "/", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
    }

    #[test]
    fn a_session_ends_with_its_time_and_with_its_token() {
        let access = access("127.0.0.1");
        let session = access.session("token", 100);
        let at = |s: i64| s * 1_000_000_000;
        assert!(access.is_session(&session, "token", at(99)));
        assert!(!access.is_session(&session, "token", at(100)));
        assert!(!access.is_session(&session, "other", at(99)));
        assert!(!access.is_session(&session.replace("100.", "200."), "token", at(99)));
        assert!(!access.is_session("", "token", at(1)) && !access.is_session("1.2", "token", 0));
    }

    #[test]
    fn a_token_that_is_easily_guessed_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        for bad in ["", "short\n", "two words that are long enough"] {
            std::fs::write(&file, bad).unwrap();
            assert!(read_token(&file).unwrap_err().contains("at least 16 bytes"), "{bad}");
        }
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        assert_eq!(read_token(&file).unwrap(), "0123456789abcdef");
    }
}
