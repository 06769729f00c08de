//! Where rows come from: a gateway has a stream for each kind of message, a hub one for each site, with what its gateway sent.

use eddy_runtime::client::StoredMessage;
use eddy_schemas::{
    names,
    region::said_subject,
    sync::{self, stream_of, subject_of},
};

use crate::{
    class::Class,
    rows::{self, Taking, Unread},
    table::Table,
};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Streams of a gateway.
    Gateway,
    /// Streams of a region's hub.
    Hub,
}

impl Source {
    /// Whose stream is called that.
    pub fn of_stream(stream: &str) -> Self {
        if stream.starts_with(sync::STREAM_PREFIX) { Self::Hub } else { Self::Gateway }
    }

    /// The stream that has the rows of `class` of `site`.
    pub fn stream(self, class: Class, site: &str) -> String {
        match self {
            Self::Gateway => class.stream().to_owned(),
            Self::Hub => stream_of(site),
        }
    }

    /// Whether it has the rows of `class`.
    ///
    /// # Errors
    /// Why not, and where they are.
    pub fn check(self, class: Class) -> Result<(), String> {
        let why = match (self, class) {
            (Self::Gateway, _) | (Self::Hub, Class::Alerts | Class::Contexts | Class::Labels) => return Ok(()),
            (Self::Hub, Class::Readings) => {
                "it has readings only where a policy of the gateway sends some, without their quality and time of arrival"
            }
            (Self::Hub, Class::Samples) => "samples stay on the gateway",
            (Self::Hub, Class::Embeddings) => {
                "it has a byte a component of the windows that detect kept, and neither their quality nor their period"
            }
            (Self::Hub, Class::Scores) => "it has five quantiles of a device's scores in five minutes, not the scores",
        };
        let name = class.name();
        Err(format!("class {name} is not exported from a hub: {why}; export {name} from the gateway, without --hub"))
    }
}

/// How the messages of a stream are read as rows of a class.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    class: Class,
    site: String,
    /// What subjects with such rows begin with, at a gateway; what they are, at a hub.
    subjects: Vec<String>,
}

impl Reader {
    /// Of a class of a site.
    pub fn new(source: Source, class: Class, site: &str) -> Self {
        let of_sync = |class| subject_of(site, class);
        let subjects = match (source, class) {
            (Source::Gateway, _) => vec![format!("{}.{}.", class.prefix(), names::encode(site))],
            (Source::Hub, Class::Alerts) => vec![of_sync(sync::Class::Alerts)],
            (Source::Hub, Class::Contexts) => vec![of_sync(sync::Class::Contexts)],
            // Those that gateways sent, and those that were said in the region.
            (Source::Hub, Class::Labels) => vec![of_sync(sync::Class::Alerts), said_subject(site)],
            // See `Source::check`.
            (Source::Hub, _) => Vec::new(),
        };
        Self { source, class, site: site.to_owned(), subjects }
    }

    /// Whether messages on that subject have rows of the class.
    pub fn takes(&self, subject: &str) -> bool {
        match self.source {
            Source::Gateway => self.subjects.iter().any(|prefix| subject.starts_with(prefix)),
            Source::Hub => self.subjects.iter().any(|whole| subject == whole),
        }
    }

    /// Adds the rows of a message that are taken, if it is on such a subject.
    ///
    /// # Errors
    /// What of it could not be read; the rest was added.
    pub fn take(&self, message: &StoredMessage, taking: Taking<'_>, table: &mut Table) -> Result<(), Unread> {
        if !self.takes(&message.subject) {
            return Ok(());
        }
        match self.source {
            Source::Gateway => rows::take(self.class, message, taking, table).map_err(Unread::whole),
            Source::Hub => rows::take_sent(self.class, &self.site, message, taking, table),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_has_all_of_a_site_in_one_stream() {
        let hub = Source::of_stream(&stream_of("plant 1"));
        assert_eq!((hub, Source::of_stream("DETECTIONS")), (Source::Hub, Source::Gateway));
        assert_eq!(hub.stream(Class::Alerts, "plant 1"), "SITE_plant%201");
        let labels = Reader::new(hub, Class::Labels, "plant 1");
        assert!(labels.takes("sync.plant%201.alerts") && labels.takes("said.plant%201"));
        assert!(!labels.takes("sync.plant%201.contexts") && !labels.takes("said.plant%201.x"));
        let alerts = Reader::new(Source::Gateway, Class::Alerts, "plant 1");
        assert!(alerts.takes("alerts.plant%201.major.a") && !alerts.takes("alerts.plant.major.a"));
    }

    #[test]
    fn what_a_hub_has_not_is_told_with_the_reason() {
        for class in Class::ALL {
            assert_eq!(Source::Gateway.check(class), Ok(()));
            let is_there = Source::Hub.check(class);
            assert_eq!(is_there.is_ok(), Class::OF_HUB.contains(&class));
            if let Err(why) = is_there {
                assert!(why.contains(class.name()) && why.contains("from the gateway"), "{why}");
                assert!(Reader::new(Source::Hub, class, "s").subjects.is_empty());
            }
        }
    }
}
