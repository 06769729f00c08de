//! Names under which a store files the windows of several sites: a device's token there is that of `<site>/<device>`.
//!
//! So the name of a site has no `/`.

use eddy_schemas::{SeriesName, names};

/// A device's token.
pub fn device(site: &str, device: &str) -> String {
    names::encode(&format!("{site}/{device}"))
}

/// A series.
pub fn series(site: &str, device: &str, channel: &str) -> String {
    SeriesName::encode(&format!("{site}/{device}"), channel)
}

/// Site, device and channel of a series.
pub fn parts(series: &str) -> Option<(String, String, String)> {
    let (device, channel) = series.split_once('/')?;
    let filed = names::decode(device);
    let (site, device) = filed.split_once('/')?;
    Some((site.to_owned(), device.to_owned(), names::decode(channel)))
}

/// What an alert's windows are tagged with.
pub fn tag(site: &str, alert: &str) -> String {
    format!("{}/{}", names::encode(site), names::encode(alert))
}

/// Site and alert of a tag.
pub fn tagged(tag: &str) -> Option<(String, String)> {
    tag.split_once('/').map(|(site, alert)| (names::decode(site), names::decode(alert)))
}

/// Whether a site can be filed.
pub fn is_site(name: &str) -> bool {
    names::is_valid(name) && !name.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let all = ("plant 1.b".to_owned(), "pump/7 %2F".to_owned(), "a/b".to_owned());
        assert_eq!(parts(&series(&all.0, &all.1, &all.2)), Some(all.clone()));
        assert!(series(&all.0, &all.1, &all.2).starts_with(&device(&all.0, &all.1)));
        assert_eq!(tagged(&tag("s/1", "x/y")), Some(("s/1".into(), "x/y".into())));
        assert!(is_site("plant 1") && !is_site("a/b") && !is_site(""));
    }
}
