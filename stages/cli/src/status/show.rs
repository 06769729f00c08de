//! Status for people.

use eddy_schemas::{
    alert::CloudEvent,
    models::Phase,
    sync::{ClassStats, UplinkStats},
};

use super::Status;
use crate::{alerts, output::printable, rollout::short};

/// The lines of a status.
pub fn show(status: &Status) -> Vec<String> {
    let mut lines = vec![format!("site {} at {}", printable(&status.site), status.url), String::new()];
    lines.push(format!("{:<14} {:<11} {:>10} {:>10} {:>9}  state", "stage", "reads", "lag", "in flight", "msg/s"));
    for reader in &status.readers {
        lines.push(format!(
            "{:<14} {:<11} {:>10} {:>10} {:>9}  {}",
            reader.name,
            reader.stream,
            reader.lag_messages,
            reader.in_flight_messages,
            reader.messages_per_s,
            if reader.connected { "reading" } else { "not reading" },
        ));
    }
    lines.push(String::new());
    for checkpoint in &status.checkpoints {
        let reaches = checkpoint.reaches.as_deref().unwrap_or("nothing that is known");
        lines.push(format!("{:<14} reaches {reaches}, {} ago", checkpoint.stage, age(checkpoint.age_s)));
    }
    lines.push(String::new());
    lines.push(format!(
        "{:<14} {:>11} {:>10} {:>10} {:>5} {:>9}",
        "stream", "messages", "bytes", "bound", "full", "msg/s"
    ));
    for stream in &status.streams {
        let full = stream.bytes_max.map_or("-".to_owned(), |max| format!("{}%", stream.bytes * 100 / max.max(1)));
        lines.push(format!(
            "{:<14} {:>11} {:>10} {:>10} {:>5} {:>9}",
            stream.name,
            stream.messages,
            bytes(stream.bytes),
            stream.bytes_max.map_or("-".to_owned(), bytes),
            full,
            stream.messages_per_s,
        ));
    }
    lines.push(String::new());
    lines.push(index(status));
    lines.extend(status.region.as_ref().map(region));
    lines.extend(bundles(status));
    let event = status.last_alert.clone().and_then(|json| serde_json::from_value::<CloudEvent>(json).ok());
    lines.push(format!("last alert: {}", event.as_ref().map_or("none".to_owned(), alerts::line)));
    conditions(status, &mut lines);
    lines
}

fn index(status: &Status) -> String {
    let Some(index) = &status.index else { return "index: does not answer".to_owned() };
    let missed = if index.missed > 0 { format!(", {} messages missed", index.missed) } else { String::new() };
    format!(
        "index: {} windows of {} series ({} in memory, {} scanned from disk), {} segments, {} labels, {}{missed}",
        index.windows,
        index.series,
        index.tail,
        index.flat,
        index.segments,
        index.labels,
        bytes(index.bytes),
    )
}

fn bundles(status: &Status) -> Vec<String> {
    let active: Vec<&str> = status.bundles.active.iter().map(|digest| short(digest)).collect();
    let mut lines = vec![match active.as_slice() {
        [] => "bundle: nothing was judged yet".to_owned(),
        active => format!("bundle: {} judges", active.join(" and, in another shard, ")),
    }];
    for report in &status.bundles.shadow {
        lines.push(format!(
            "  {} in the shadow: {} of {} series past commissioning, {} rows since, {} alerts where the active one opened {}",
            short(&report.bundle),
            report.warm,
            report.series,
            report.rows,
            report.opened,
            report.told,
        ));
    }
    let wish = status.wish.as_ref().filter(|wish| wish.phase != Phase::Active);
    lines.extend(wish.map(|wish| format!("  {} is wanted: {:?}: {}", short(&wish.digest), wish.phase, wish.reason)));
    lines
}

fn region(uplink: &UplinkStats) -> String {
    let link = if uplink.connected { "connected" } else { "no connection: all waits in the queue" };
    let of = |class: &ClassStats| {
        let lost = if class.lost > 0 { format!(" and {} lost", class.lost) } else { String::new() };
        format!("{} {} ({}){lost}", class.waiting, class.class, bytes(class.waiting_bytes))
    };
    let waiting: Vec<String> = uplink.classes.iter().filter(|class| class.waiting + class.lost > 0).map(of).collect();
    let waiting =
        if waiting.is_empty() { "nothing waits".to_owned() } else { format!("waiting: {}", waiting.join(", ")) };
    format!("region: {} {link}; {waiting}", printable(&uplink.hub))
}

fn conditions(status: &Status, lines: &mut Vec<String>) {
    for (name, ending) in &status.given_up {
        lines.push(format!(
            "given up: {name} ended with {ending} and is not started again: its log says why; then start `eddy up` anew"
        ));
    }
    if status.health.is_empty() && status.given_up.is_empty() {
        lines.push("health: nothing to report".to_owned());
    }
    for health in &status.health {
        let channel = health.channel.as_deref().map(|channel| format!("/{}", printable(channel)));
        let condition = format!("{:?}", health.condition).to_lowercase();
        let since = eddy_schemas::rfc3339(health.since);
        let device = printable(&health.device);
        lines.push(format!(
            "health: {device}{}: {condition} since {since} ({})",
            channel.unwrap_or_default(),
            health.value
        ));
    }
    for (stage, aside) in &status.aside {
        if aside.late_readings > 0 {
            lines.push(format!("late: {} readings at {stage}", aside.late_readings));
        }
        for (reason, count) in &aside.refused {
            lines.push(format!("refused: {count} at {stage}: {reason}"));
        }
        if let Some(last) = &aside.last_refusal {
            lines.push(format!("  the last: {}", printable(last)));
        }
    }
}

fn age(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3_600.0),
    }
}

pub(crate) fn bytes(n: u64) -> String {
    match n {
        n if n < 10_000 => format!("{n} B"),
        n if n < 10_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        n if n < 10_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        n => format!("{:.1} GB", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_the_region_and_what_is_lost_is_told() {
        let class = |class: &str, waiting, lost| ClassStats {
            class: class.into(),
            next: 100,
            waiting,
            waiting_bytes: 10 * waiting,
            lost,
        };
        let mut uplink =
            UplinkStats { hub: "tls://hub:4222".into(), connected: true, classes: vec![class("alerts", 0, 0)] };
        assert_eq!(region(&uplink), "region: tls://hub:4222 connected; nothing waits");
        uplink.connected = false;
        uplink.classes = vec![class("alerts", 2, 0), class("deltas", 150, 810)];
        assert_eq!(
            region(&uplink),
            "region: tls://hub:4222 no connection: all waits in the queue; waiting: 2 alerts (20 B), 150 deltas (1500 B) and 810 lost"
        );
    }

    #[test]
    fn sizes_and_ages_read_well() {
        assert_eq!(
            (bytes(999), bytes(1_234_567), bytes(64 << 20)),
            ("999 B".into(), "1234.6 kB".into(), "67.1 MB".into())
        );
        assert_eq!((age(1.25), age(600.0), age(86_400.0)), ("1.2 s".into(), "10 min".into(), "24 h".into()));
    }
}
