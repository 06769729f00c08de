//! MQTT topics: which part of one is the device, which the channel.

/// A topic with places: `plant/{device}/{channel}`, `+/{device}/#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Text(String),
    /// `+`
    Any,
    /// `#`, the last one
    Rest,
    /// `{device}`
    Device,
    /// `{channel}`
    Channel,
    /// `{channel...}`, the last one: all that is left, joined by dots; none where nothing is
    ChannelRest,
}

/// What a topic tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub device: Option<String>,
    pub channel: Option<String>,
}

impl Template {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut levels = Vec::new();
        let (mut devices, mut channels) = (0, 0);
        let parts: Vec<&str> = text.split('/').collect();
        for (at, part) in parts.iter().enumerate() {
            let is_last = at + 1 == parts.len();
            levels.push(match *part {
                "+" => Level::Any,
                "#" if is_last => Level::Rest,
                "{device}" => {
                    devices += 1;
                    Level::Device
                }
                "{channel}" => {
                    channels += 1;
                    Level::Channel
                }
                "{channel...}" if is_last => {
                    channels += 1;
                    Level::ChannelRest
                }
                part if part.contains(['+', '#', '{', '}', '\0']) => {
                    return Err(format!(
                        "level {part:?} is none of a plain text, +, {{device}}, {{channel}} or, at the end, # or {{channel...}}"
                    ));
                }
                part => Level::Text(part.to_owned()),
            });
        }
        match (text.is_empty() || text.len() > 1_000, devices > 1 || channels > 1) {
            (true, _) => Err("1 to 1,000 bytes are taken".into()),
            (_, true) => Err("{device} and {channel} may stand there once".into()),
            _ => Ok(Self { levels }),
        }
    }

    /// What is subscribed to.
    pub fn filter(&self) -> String {
        let level = |level: &Level| match level {
            Level::Text(text) => text.clone(),
            Level::Any | Level::Device | Level::Channel => "+".to_owned(),
            Level::Rest | Level::ChannelRest => "#".to_owned(),
        };
        self.levels.iter().map(level).collect::<Vec<_>>().join("/")
    }

    /// What `topic` tells; `None` if it is not one of these.
    pub fn read(&self, topic: &str) -> Option<Named> {
        let mut named = Named::default();
        let mut parts = topic.split('/');
        for level in &self.levels {
            if *level == Level::Rest {
                return Some(named);
            }
            let Some(part) = parts.next() else {
                // To MQTT, `a/#` is `a` too: a device that says something without a channel.
                return (*level == Level::ChannelRest).then_some(named);
            };
            match level {
                Level::Text(text) if text != part => return None,
                Level::Text(_) | Level::Any | Level::Rest => {}
                Level::Device => named.device = Some(part.to_owned()),
                Level::Channel => named.channel = Some(part.to_owned()),
                Level::ChannelRest => {
                    let rest = parts.by_ref().fold(part.to_owned(), |rest, part| rest + "." + part);
                    named.channel = Some(rest);
                }
            }
        }
        parts.next().is_none().then_some(named)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_template_subscribes_to_what_it_can_read() {
        for (template, filter, topic, device, channel) in [
            ("plant/{device}/{channel}", "plant/+/+", "plant/pump 7/temp", Some("pump 7"), Some("temp")),
            ("+/{device}/#", "+/+/#", "a/pump/b/c", Some("pump"), None),
            ("{device}/{channel...}", "+/#", "pump/motor/temp", Some("pump"), Some("motor.temp")),
            ("{device}/{channel...}", "+/#", "pump", Some("pump"), None),
            ("+/{device}/#", "+/+/#", "a/pump", Some("pump"), None),
            ("sensors", "sensors", "sensors", None, None),
        ] {
            let read = Template::parse(template).unwrap();
            assert_eq!(read.filter(), filter);
            let named = Named { device: device.map(Into::into), channel: channel.map(Into::into) };
            assert_eq!(read.read(topic), Some(named), "{template} {topic}");
        }
        let plant = Template::parse("plant/{device}/{channel}").unwrap();
        for other in ["plant/a", "plant/a/b/c", "other/a/b", ""] {
            assert_eq!(plant.read(other), None, "{other}");
        }
    }

    #[test]
    fn what_no_template_can_be_is_refused() {
        for wrong in ["", "#/a", "a+/b", "{device}/{device}", "{channel...}/a", "{site}/a"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// Whether a broker would send `topic` to a subscriber of `filter` (MQTT 3.1.1, 4.7).
    fn is_sent(filter: &str, topic: &str) -> bool {
        let mut topic = topic.split('/');
        for level in filter.split('/') {
            match (level, topic.next()) {
                ("#", _) => return true,
                (_, None) => return false,
                ("+", Some(_)) => {}
                (level, Some(part)) if level != part => return false,
                _ => {}
            }
        }
        topic.next().is_none()
    }

    fn level() -> impl Strategy<Value = String> {
        prop_oneof!["[a-c]", Just("+".into()), Just("{device}".into()), Just("{channel}".into())]
    }

    proptest! {
        /// What the broker sends is read, and nothing else: a message without its names would be a dead letter. (`a/#` is also
        /// sent what is on `a`: that one has no channel.)
        #[test]
        fn a_template_reads_what_its_filter_is_sent(
            mut levels in proptest::collection::vec(level(), 1..5),
            rest in prop_oneof![Just(""), Just("#"), Just("{channel...}")],
            topic in "([a-c]|d\\.e| f)?(/([a-c]|d\\.e| f)?){0,5}",
        ) {
            if !rest.is_empty() {
                levels.push(rest.into());
            }
            let text = levels.join("/");
            let Ok(template) = Template::parse(&text) else { return Ok(()) };
            let read = template.read(&topic);
            let parts: Vec<&str> = topic.split('/').collect();
            prop_assert_eq!(read.is_some(), is_sent(&template.filter(), &topic), "{} {}", text, topic);
            if let Some(Named { device, channel }) = read {
                let at = |place: &str| levels.iter().position(|level| level == place);
                prop_assert_eq!(device.as_deref(), at("{device}").map(|at| parts[at]));
                // `a/#` is sent `a` too: a device without a channel.
                let joined = at("{channel...}").filter(|at| *at < parts.len()).map(|at| parts[at..].join("."));
                prop_assert_eq!(channel, at("{channel}").map(|at| parts[at].to_owned()).or(joined));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}", topic in "\\PC{0,40}") {
            if let Ok(template) = Template::parse(&text) {
                let _ = (template.filter(), template.read(&topic));
            }
        }
    }
}
