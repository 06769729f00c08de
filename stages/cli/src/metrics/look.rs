//! One look at a machine.

use std::{collections::BTreeMap, path::Path};

use eddy_runtime::client::ClientError;
use nix::sys::statvfs::statvfs;

use super::{SUPERVISOR, Watched};
use crate::{config_files, doctor::certificates};

/// Everything that there is to be seen. What cannot be is left as it was told last.
pub async fn all(watched: &Watched) {
    let telemetry = &watched.telemetry;
    telemetry.machine();
    if let Ok(stat) = statvfs(&watched.dir) {
        let fragment = stat.fragment_size();
        telemetry.disk(stat.blocks_available() * fragment, stat.blocks() * fragment);
    }
    let restarts = watched.register.restarts();
    for (process, times) in restarts.iter().filter(|(process, _)| *process != SUPERVISOR) {
        telemetry.restarts(process, *times);
    }
    telemetry.given_up(watched.register.file().given_up.len() as u64);
    for (key, expires) in watched.config_file.as_deref().map(expiries).unwrap_or_default() {
        telemetry.certificate(&key, expires);
    }
    // The server may be starting again.
    let _ = streams(watched).await;
}

async fn streams(watched: &Watched) -> Result<(), ClientError> {
    let Some(client) = &watched.client else { return Ok(()) };
    for name in client.streams("").await? {
        let Some(stream) = client.stream(&name).await? else { continue };
        watched.telemetry.stream(&name, stream.messages, stream.bytes, stream.bytes_max);
        // A tool's own consumer is no stage.
        for consumer in client.consumers(&name).await?.into_iter().filter(|consumer| consumer.durable) {
            watched.telemetry.consumer(&name, &consumer.name, consumer.pending, consumer.ack_pending);
        }
    }
    Ok(())
}

/// By the config's key when the first certificate of its file expires; of the files of a list, the first.
fn expiries(config_file: &Path) -> BTreeMap<String, i64> {
    let mut all = BTreeMap::new();
    for named in config_files::named(config_file).unwrap_or_default() {
        if !named.key.ends_with("ca_file") && !named.key.ends_with("cert_file") {
            continue;
        }
        let text = std::fs::read_to_string(&named.path).unwrap_or_default();
        if let Some(expires) = certificates::expires(&text) {
            let first = all.entry(named.key).or_insert(expires);
            *first = expires.min(*first);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn of_several_certificates_the_first_that_expires_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let made = |name: &str, year: i32| {
            let mut params = CertificateParams::new(vec!["hub".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, 1, 1);
            let path = folder.path().join(name);
            std::fs::write(&path, params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()).unwrap();
            path
        };
        let config = folder.path().join("eddy.toml");
        let text = format!(
            "[sync.hub]\ntls_cert_file = {:?}\ntls_key_file = \"k\"\n[[notify.webhook]]\nca_file = {:?}\n[[notify.webhook]]\nca_file = {:?}\n",
            made("a", 2030),
            made("b", 2032),
            made("c", 2031)
        );
        std::fs::write(&config, text).unwrap();
        let years = |year: i32| date_time_ymd(year, 1, 1).unix_timestamp();
        let expected = [("notify.webhook.ca_file", years(2031)), ("sync.hub.tls_cert_file", years(2030))];
        assert_eq!(expiries(&config), expected.map(|(key, at)| (key.to_owned(), at)).into());
    }
}
