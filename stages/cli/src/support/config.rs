//! A config as it may leave: without secrets, without what stands in URLs beside the host, and without names of devices and channels.

use super::redact::REDACTED;

/// Keys whose values are names of devices, channels and topics, or patterns of them.
const NAMES: [&str; 8] = ["device", "devices", "channel", "channels", "series", "match", "topic", "topics"];

/// A config without the values of secrets and without what stands in URLs beside the host; names only where they are wanted.
pub fn shown(text: &str, names: bool) -> String {
    let Ok(mut table) = text.parse::<toml::Table>() else { return "it is no TOML".into() };
    table.iter_mut().for_each(|(key, value)| redact(key, value, names));
    table.to_string()
}

fn redact(key: &str, value: &mut toml::Value, names: bool) {
    match value {
        toml::Value::Table(table) => table.iter_mut().for_each(|(key, value)| redact(key, value, names)),
        toml::Value::Array(all) if is_secret(key) => all.clear(),
        toml::Value::Array(all) => all.iter_mut().for_each(|value| redact(key, value, names)),
        toml::Value::String(text) if text.is_empty() => {}
        toml::Value::String(text) if is_secret(key) || !names && is_of_names(key) && says_something(text) => {
            *text = REDACTED.into();
        }
        toml::Value::String(text) => {
            if let Some((scheme, rest)) = text.split_once("://") {
                // A webhook's path is often its secret.
                let rest = rest.rsplit('@').next().unwrap_or_default();
                *text = format!("{scheme}://{}", rest.split(['/', '?', '#']).next().unwrap_or_default());
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

fn is_of_names(key: &str) -> bool {
    NAMES.contains(&key) || key.ends_with("_topic")
}

/// Whether a pattern has words of its own, besides wildcards and the places of device and channel.
fn says_something(pattern: &str) -> bool {
    let own = pattern.split('{').enumerate().map(|(index, part)| match index {
        0 => part,
        _ => part.split_once('}').map_or(part, |(_, rest)| rest),
    });
    own.flat_map(str::chars).any(|c| !matches!(c, '*' | '?' | '+' | '#' | '/' | '.'))
}

/// The tables of a config; of one that is no TOML, each line that is.
pub fn readable(text: &str) -> Vec<toml::Table> {
    match text.parse() {
        Ok(table) => vec![table],
        Err(_) => text.lines().filter_map(|line| line.parse().ok()).collect(),
    }
}

/// Secrets that stand in a config itself: values of keys that are called so, and passwords in URLs.
pub fn inline_secrets(table: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    table.iter().for_each(|(key, value)| gather(key, value, &mut found));
    found
}

fn gather(key: &str, value: &toml::Value, found: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(key, value)| gather(key, value, found)),
        toml::Value::Array(all) => all.iter().for_each(|value| gather(key, value, found)),
        // A user's name, or a key of JSON, may be any word.
        toml::Value::String(text) if is_secret(key) && !key.ends_with("username") && !key.ends_with("key") => {
            found.push(text.clone());
        }
        toml::Value::String(text) => {
            let userinfo = text.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
            let password = userinfo.and_then(|(userinfo, _)| userinfo.split_once(':'));
            found.extend(password.map(|(_, password)| password.to_owned()));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_shows_hosts_and_no_secrets() {
        let text = "[notify]\n[[notify.webhook]]\nurl = \"https://u:p/q@hooks.example/T0/SECRET?x=1\"\nsecret_file = \"/s\"\nmade_up_token = \"abc\"\n[a]\npassword = 7\n";
        let told = shown(text, false);
        assert!(told.contains("https://hooks.example\"") && told.contains("secret_file = \"/s\""), "{told}");
        assert!(
            !told.contains("SECRET") && !told.contains("abc") && !told.contains('7') && !told.contains("u:p"),
            "{told}"
        );
    }

    #[test]
    fn names_and_patterns_of_names_are_shown_only_where_they_are_wanted() {
        let text = "[capture.mqtt]\ntopics = [\"{device}/{channel}\", \"hall-7/{device}\"]\n[[notify.webhook]]\nurl = \"http://h\"\n\
                    [notify.webhook.filter]\ndevices = [\"ultra-secret-device*\", \"*\"]\n[[notify.mqtt]]\nstate_topic = \"hall-7/x\"\n\
                    [[preprocess.series]]\nmatch = \"hall-7/*\"\n[[sync.policy]]\nseries = \"hall-7/*\"\n";
        let told = shown(text, false);
        assert!(!told.contains("hall-7") && !told.contains("ultra-secret"), "{told}");
        assert!(told.contains("\"{device}/{channel}\"") && told.contains("\"*\""), "{told}");
        let named = shown(text, true);
        assert_eq!((named.matches("hall-7").count(), named.matches("ultra-secret").count()), (4, 1), "{named}");
    }
}
