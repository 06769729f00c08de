//! A comparison as text.

use std::fmt;

use eddy_cli::output::printable;
use eddy_schemas::alert::Share;

use super::{
    Report, SideReport,
    episodes::Episode,
    matched::{Change, Pair},
};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for pair in self.alerts.iter().filter(|pair| !self.only_changes || pair.change != Change::Unchanged) {
            write!(f, "{:<9}  {}", pair.change.as_str(), printable(&pair.device))?;
            writeln!(f, "{}{}", how(pair), fault(pair))?;
            for (name, episode) in [("old", &pair.old), ("new", &pair.new)] {
                if let Some(episode) = episode {
                    writeln!(f, "  {name}  {}", line(episode))?;
                }
            }
        }
        side(f, "old", &self.old)?;
        side(f, "new", &self.new)?;
        let counts = self.summary;
        write!(
            f,
            "diff: unchanged={} moved={} added={} removed={}",
            counts.unchanged, counts.moved, counts.added, counts.removed
        )
    }
}

/// In what it moved.
fn how(pair: &Pair) -> String {
    let (Some(old), Some(new), Change::Moved) = (&pair.old, &pair.new, pair.change) else { return String::new() };
    let mut parts = Vec::new();
    match pair.later_s {
        Some(later) if later > 0.0 => parts.push(format!("{later} s later")),
        Some(later) if later < 0.0 => parts.push(format!("{} s earlier", -later)),
        _ => {}
    }
    if old.severity != new.severity {
        parts.push(format!("{} to {}", old.severity.as_str(), new.severity.as_str()));
    }
    format!("  {}", parts.join(", "))
}

fn fault(pair: &Pair) -> String {
    pair.fault.as_ref().map_or_else(String::new, |fault| format!("   <- {fault}"))
}

/// Time, severity, channels, score, tail probability and threshold.
fn line(episode: &Episode) -> String {
    let one = |share: &Share| format!("{} {:.0}%", printable(&share.name), share.share * 100.0);
    let channels: Vec<String> = episode.channels.iter().take(3).map(one).collect();
    let channels = if channels.is_empty() { "-".to_owned() } else { channels.join(", ") };
    format!(
        "{}  {:<8}  {channels}  score={:.2}  p={:.1e} of {:.1e}",
        episode.opened,
        episode.severity.as_str(),
        episode.score,
        episode.tail,
        episode.threshold
    )
}

fn side(f: &mut fmt::Formatter<'_>, name: &str, side: &SideReport) -> fmt::Result {
    let SideReport { bundle, version, digest, alerts, alerts_hash, .. } = side;
    write!(f, "{name}: bundle={bundle} version={version} digest={} alerts={alerts}", &digest[..16])?;
    if let Some(found) = &side.truth {
        write!(f, " found={}/{} false={}", found.found, found.faults, found.wrong)?;
    }
    if side.rejected > 0 || side.late > 0 {
        write!(f, " late={} rejected={}", side.late, side.rejected)?;
    }
    writeln!(f, " alerts_hash={alerts_hash}")
}
