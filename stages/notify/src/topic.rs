//! Topics from templates. What a template leaves open is percent-encoded, so that no device's name adds a level or a
//! wildcard.

use eddy_schemas::{alert::Alert, names};

/// The longest topic of MQTT is 65,535 bytes; what fills a template has at most 128 a part.
const TEMPLATE_BYTES_MAX: usize = 1_024;

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Site,
    Device,
    Severity,
    Phase,
}

/// A topic that depends on the alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads a template such as `eddy/{site}/{device}/alert`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > TEMPLATE_BYTES_MAX {
            return Err(format!("{} bytes: 1 to {TEMPLATE_BYTES_MAX} are taken", text.len()));
        }
        if text.starts_with('$') {
            return Err("topics that begin with $ are the broker's own".into());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("a { without its }")?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name {
                "site" => Part::Site,
                "device" => Part::Device,
                "severity" => Part::Severity,
                "phase" => Part::Phase,
                _ => {
                    return Err(format!(
                        "{{{name}}} is not known: {{site}}, {{device}}, {{severity}} and {{phase}} are"
                    ));
                }
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let bad = |c: char| "+#}\0".contains(c);
        let in_text = |part: &Part| matches!(part, Part::Text(text) if text.contains(bad));
        if parts.iter().any(in_text) {
            return Err("+, #, } and NUL cannot stand in a topic".into());
        }
        Ok(Self(parts))
    }

    /// Reads the template of a state: one topic a device.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_of_state(text: &str) -> Result<Self, String> {
        let template = Self::parse(text)?;
        if !template.0.contains(&Part::Device) {
            return Err("{device} must be in it, or all devices would share one state".into());
        }
        if template.0.contains(&Part::Phase) {
            return Err("{phase} cannot be in it: what was opened would never be closed".into());
        }
        Ok(template)
    }

    /// The topic of an alert.
    pub fn fill(&self, alert: &Alert) -> String {
        let fill = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Site => names::encode(&alert.site),
            Part::Device => names::encode(&alert.device),
            Part::Severity => alert.severity.as_str().to_owned(),
            Part::Phase => alert.phase.as_str().to_owned(),
        };
        self.0.iter().map(fill).collect()
    }
}

#[cfg(test)]
mod tests {
    use eddy_schemas::alert::{Phase, Severity};

    use super::*;
    use crate::event::tests::alert;

    #[test]
    fn no_name_of_a_device_leaves_its_level() {
        let template = Template::parse("eddy/{site}/{device}/alert").unwrap();
        for (device, level) in [
            ("pump-1", "pump-1"),
            ("a/b", "a%2Fb"),
            ("+", "%2B"),
            ("#", "%23"),
            ("$SYS", "%24SYS"),
            ("a b%", "a%20b%25"),
            ("é\0", "%C3%A9%00"),
            ("..", "%2E%2E"),
        ] {
            let topic = template.fill(&alert(device, Severity::Minor, Phase::Opened));
            assert_eq!(topic, format!("eddy/plant%201/{level}/alert"));
            assert_eq!(names::decode(level), device);
        }
    }

    #[test]
    fn all_that_is_left_open_is_filled() {
        let template = Template::parse("{severity}/x-{device}-y/{phase}").unwrap();
        assert_eq!(template.fill(&alert("d", Severity::Critical, Phase::Closed)), "critical/x-d-y/closed");
    }

    #[test]
    fn a_bad_template_says_what_is_wrong() {
        for (text, problem) in [
            ("", "0 bytes"),
            ("$SYS/x", "broker's own"),
            ("a/+/b", "cannot stand"),
            ("a/#", "cannot stand"),
            ("a/{device", "without its }"),
            ("a}", "cannot stand"),
            ("a/{channel}", "{channel} is not known"),
        ] {
            assert!(Template::parse(text).unwrap_err().contains(problem), "{text}");
        }
        assert!(Template::parse_of_state("eddy/alert").unwrap_err().contains("{device} must"));
        assert!(Template::parse_of_state("{device}/{phase}").unwrap_err().contains("never be closed"));
    }
}
