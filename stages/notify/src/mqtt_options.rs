//! Where a broker is and how to connect to it: address, credentials, TLS.

use std::path::Path;

use eddy_runtime::fresh::Fresh;
use reqwest::Url;
use rumqttc::{Broker, MqttOptions, Transport};

use crate::{
    config::{MqttConfig, shown},
    event::ALERT_BYTES_MAX,
};

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

/// The options of a sink of `site`, made again when a file changes that they name.
///
/// # Errors
/// Every problem of the config, and of the files that it names.
pub(crate) fn follow(config: &MqttConfig, site: &str) -> Result<Fresh<MqttOptions>, Vec<String>> {
    options(config, site)?;
    let all = [&config.password_file, &config.tls_ca_file, &config.tls_cert_file, &config.tls_key_file];
    let files = all.into_iter().filter(|path| is_set(path)).cloned().collect();
    let (config, site) = (config.clone(), site.to_owned());
    let make = move || options(&config, &site).map_err(|problems| problems.join("; "));
    Fresh::new(files, make).map_err(|problem| vec![problem])
}

fn options(config: &MqttConfig, site: &str) -> Result<MqttOptions, Vec<String>> {
    let key = |name: &str| format!("notify.mqtt[{}].{name}", config.name);
    let mut problems = Vec::new();
    let broker = Url::parse(&config.url).ok().and_then(|url| {
        let port = match url.scheme() {
            "mqtt" => 1883,
            "mqtts" => 8883,
            _ => return None,
        };
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let bare = url.username().is_empty() && url.password().is_none() && matches!(url.path(), "" | "/");
        bare.then(|| (host, url.port().unwrap_or(port), port == 8883))
    });
    if broker.is_none() {
        let (key, url) = (key("url"), shown(&config.url));
        problems.push(format!(
            "{key} = {url:?}: mqtt://host:1883 or mqtts://host:8883 is taken, without user, password and path"
        ));
    }
    let (host, port, encrypted) = broker.unwrap_or_default();
    let site = eddy_schemas::names::encode(site);
    let id =
        if config.client_id.is_empty() { format!("eddy-{site}-{}", config.name) } else { config.client_id.clone() };
    let mut options = MqttOptions::new(id, Broker::tcp(host, port));
    options.set_keep_alive(config.keep_alive_s.max(1)).set_clean_session(true);
    // Nothing is subscribed to; an outgoing packet is an alert and its topic.
    options.set_max_packet_size(64 << 10, ALERT_BYTES_MAX + (64 << 10));
    match (config.username.is_empty(), is_set(&config.password_file)) {
        (true, false) => {}
        (true, true) => problems.push(format!("{} is empty, and a password is given", key("username"))),
        (false, false) => {
            options.set_username(config.username.clone());
        }
        (false, true) => match std::fs::read_to_string(&config.password_file) {
            Ok(text) => {
                let password = text.trim_end_matches(['\r', '\n']).to_owned();
                options.set_credentials(config.username.clone(), password);
            }
            Err(error) => problems.push(format!("{} = {:?}: {error}", key("password_file"), config.password_file)),
        },
    }
    match transport(config, encrypted) {
        Ok(transport) => {
            options.set_transport(transport);
        }
        Err(found) => problems.extend(found),
    }
    if problems.is_empty() { Ok(options) } else { Err(problems) }
}

fn transport(config: &MqttConfig, encrypted: bool) -> Result<Transport, Vec<String>> {
    let key = |name: &str| format!("notify.mqtt[{}].{name}", config.name);
    let (ca, cert, own) = (is_set(&config.tls_ca_file), is_set(&config.tls_cert_file), is_set(&config.tls_key_file));
    if !encrypted {
        let given = ca || cert || own;
        return if given {
            Err(vec![format!("{} = {:?}: with TLS files mqtts:// is taken", key("url"), shown(&config.url))])
        } else {
            Ok(Transport::tcp())
        };
    }
    let mut problems = Vec::new();
    if cert != own {
        problems.push(format!("{} and tls_key_file: give both or neither", key("tls_cert_file")));
    } else if cert && !ca {
        problems.push(format!("{} needs {}", key("tls_cert_file"), key("tls_ca_file")));
    } else if cert && let Err(error) = crate::tls::identity(&config.tls_cert_file, &config.tls_key_file) {
        problems.push(format!("{}, tls_key_file: {error}", key("tls_cert_file")));
    }
    if ca && let Err(error) = crate::tls::authorities(&config.tls_ca_file) {
        problems.push(format!("{} = {:?}: {error}", key("tls_ca_file"), config.tls_ca_file));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let made = if ca {
        let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let own = cert.then(|| Ok((read(&config.tls_cert_file)?, read(&config.tls_key_file)?))).transpose();
        own.and_then(|own| Ok(Transport::tls(read(&config.tls_ca_file)?, own, None)))
    } else {
        Transport::try_tls_with_default_config().map_err(|error| error.to_string())
    };
    made.map_err(|error| vec![format!("{}: {error}", key("url"))])
}

#[cfg(test)]
mod tests {
    use rumqttc::ConnectAuth;

    use super::*;

    #[test]
    fn the_next_connection_has_the_password_that_lies_there_then() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let put = |text: &str| std::fs::write(&file, text).unwrap();
        put("one\n");
        let config = MqttConfig {
            url: "mqtt://host".into(),
            username: "u".into(),
            password_file: file.clone(),
            ..MqttConfig::default()
        };
        let followed = follow(&config, "s").unwrap();
        let says = |expected: &str| {
            let options = followed.get();
            matches!(options.auth(), ConnectAuth::UsernamePassword { password, .. } if *password == expected.as_bytes())
        };
        assert!(says("one"));
        put("twice\n");
        assert!(says("twice"));
    }
}
