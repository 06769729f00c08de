//! What holds for what stands around a message: the topic that it came on, and the gzip that it came in.

use crate::sources::{
    gzip::{self, Wrong},
    topic::Template,
};

/// Bytes of an unpacked body here.
const BODY_BYTES_MAX: usize = 4096;

/// A template, a newline, a topic: what is subscribed to is what can be read, as MQTT's own rules say it.
pub fn topic(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (template, topic) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(read) = Template::parse(template) else { return };
    assert_eq!(Template::parse(template).as_ref(), Ok(&read));
    let filter = read.filter();
    assert!(filter.len() <= template.len() && filter.split('/').count() == template.split('/').count());
    let named = read.read(topic);
    assert_eq!(named.is_some(), matches(&filter, topic), "{filter:?} {topic:?}");
    let Some(named) = named else { return };
    assert_eq!(named.device.is_some(), template.contains("{device}"));
    assert!(named.channel.is_none() || template.contains("{channel"));
    assert!(named.channel.is_some() || !template.contains("{channel}"));
    let levels: Vec<_> = topic.split('/').collect();
    assert!(named.device.is_none_or(|device| levels.contains(&device.as_str())));
    if let (Some(channel), false) = (named.channel, template.contains("{channel...}")) {
        assert!(levels.contains(&channel.as_str()));
    }
}

/// MQTT 3.1.1, 4.7: `+` is one level, `#` all that follow and the level above them.
fn matches(filter: &str, topic: &str) -> bool {
    let (mut levels, mut parts) = (filter.split('/'), topic.split('/'));
    loop {
        match (levels.next(), parts.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(part)) if level == part => {}
            _ => return false,
        }
    }
}

/// Unpacks within its bound; what was unpacked and packed again is the same.
pub fn gzip(data: &[u8]) {
    match gzip::unpack(data, BODY_BYTES_MAX) {
        Ok(body) => {
            assert!(body.len() <= BODY_BYTES_MAX);
            assert_eq!(gzip::unpack(&pack(&body), BODY_BYTES_MAX).ok(), Some(body));
        }
        Err(Wrong::TooLong) => assert!(gzip::unpack(data, 0).is_err()),
        Err(Wrong::NoGzip(error)) => assert!(!error.to_string().is_empty()),
    }
}

pub(crate) fn pack(body: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, body).expect("writing to memory");
    packer.finish().expect("writing to memory")
}
