//! Which alerts a sink is told of.

use eddy_schemas::alert::{Alert, Phase, Severity};
use serde::Deserialize;

/// `[notify.webhook.filter]` and `[notify.mqtt.filter]`; `default.toml` says what each key means.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Less severe ones are left out.
    pub severity_min: Severity,
    /// Patterns of device names; one must fit.
    pub devices: Vec<String>,
    /// Events of other phases are left out.
    pub phases: Vec<Phase>,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            severity_min: Severity::Minor,
            devices: vec!["*".into()],
            phases: vec![Phase::Opened, Phase::Updated, Phase::Closed],
        }
    }
}

impl Filter {
    /// Whether the sink is told of this event.
    pub fn takes(&self, alert: &Alert) -> bool {
        alert.severity >= self.severity_min
            && self.phases.contains(&alert.phase)
            && self.devices.iter().any(|pattern| fits(pattern, &alert.device))
    }
}

/// Whether `name` fits a pattern in which `*` stands for any characters, also none, and `?` for any one.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star stands, and how much of the name it covers: more, if what follows does not fit.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, covered)) => {
                    star = Some((at, covered + 1));
                    p = at + 1;
                    n = covered + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::alert;

    #[test]
    fn patterns_are_of_whole_names() {
        for (pattern, name, fit) in [
            ("*", "", true),
            ("*", "pump 1", true),
            ("pump*", "pump 1", true),
            ("pump*", "a pump", false),
            ("*-north-*", "hall-north-7", true),
            ("*-north-*", "hall-south-7", false),
            ("a?c", "abc", true),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("*ab*ab", "xababab", true),
            ("*ab*ab", "xabb", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern:?} {name:?}");
        }
    }

    #[test]
    fn severity_phase_and_device_must_all_fit() {
        let filter = Filter {
            severity_min: Severity::Major,
            devices: vec!["x".into(), "pump*".into()],
            phases: vec![Phase::Opened, Phase::Closed],
        };
        let takes = |device, severity, phase| filter.takes(&alert(device, severity, phase));
        assert!(takes("pump 1", Severity::Major, Phase::Opened));
        assert!(takes("x", Severity::Critical, Phase::Closed));
        assert!(!takes("pump 1", Severity::Minor, Phase::Opened));
        assert!(!takes("pump 1", Severity::Major, Phase::Updated));
        assert!(!takes("fan", Severity::Critical, Phase::Opened));
    }
}
