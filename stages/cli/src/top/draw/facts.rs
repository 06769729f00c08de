//! How everything but stages and alerts is, a line each.

use eddy_schemas::{
    Timestamp,
    health::{Condition, Health},
    models::Phase,
    rfc3339,
    sync::{ClassStats, UplinkStats},
};

use crate::{
    output::printable,
    rollout::short,
    status::{Aside, StreamUse, show::bytes},
    top::{
        look::Level,
        words::{count, name, number, short_moment, span},
    },
    watch::view::{Disk, StageState, View},
};

/// Fuller than this in percent a stream, or a partition, is worth a look; or soon in the way.
const FULL: (u64, u64) = (80, 95);
/// Seconds until a partition is full, likewise.
const FULL_IN_S: (f64, f64) = (7.0 * 86_400.0, 86_400.0);
/// Of many things so many are named.
const NAMED: usize = 3;

/// A line.
pub struct Fact {
    /// What it is about.
    pub about: &'static str,
    /// How much it matters.
    pub level: Level,
    /// How it is.
    pub text: String,
}

fn fact(about: &'static str, level: Level, text: impl Into<String>) -> Fact {
    Fact { about, level, text: text.into() }
}

/// All of them, in the order in which they are shown.
pub fn facts(view: &View) -> Vec<Fact> {
    let mut facts = Vec::new();
    facts.extend(view.trouble.as_ref().map(|why| fact("trouble", Level::Broken, printable(why))));
    facts.push(stages(view));
    facts.push(streams(&view.streams));
    facts.push(link(view.link.as_ref()));
    facts.extend(view.disk.as_ref().map(disk));
    facts.push(index(view));
    facts.extend(bundles(view));
    facts.push(aside(view));
    facts.extend(devices(view));
    facts
}

/// How much a stage's state matters.
pub fn level(state: StageState) -> Level {
    match state {
        StageState::Reading => Level::Fine,
        StageState::Away => Level::Warning,
        StageState::Unwell | StageState::GivenUp => Level::Broken,
    }
}

/// In words.
pub fn state(state: StageState) -> &'static str {
    match state {
        StageState::Reading => "reading",
        StageState::Away => "away",
        StageState::Unwell => "unwell",
        StageState::GivenUp => "given up",
    }
}

fn stages(view: &View) -> Fact {
    let worst = view.stages.iter().map(|stage| level(stage.state)).max().unwrap_or(Level::Warning);
    let well = view.stages.iter().filter(|stage| stage.state == StageState::Reading).count();
    let mut text = format!("{well} of {} well", view.stages.len());
    for stage in view.stages.iter().filter(|stage| stage.state != StageState::Reading) {
        let why = stage.problem.as_ref().map_or_else(String::new, |why| format!(": {}", printable(why)));
        text += &format!("; {} {}{why}", name(&stage.name), state(stage.state));
    }
    fact("stages", worst, text)
}

fn limit(value: u64, (warning, broken): (u64, u64)) -> Level {
    match value {
        value if value >= broken => Level::Broken,
        value if value >= warning => Level::Warning,
        _ => Level::Fine,
    }
}

/// How full a stream is, in percent of its bound.
pub fn percent(stream: &StreamUse) -> Option<u64> {
    stream.bytes_max.map(|max| stream.bytes.saturating_mul(100) / max.max(1))
}

/// How much that matters.
pub fn fullness(percent: u64) -> Level {
    limit(percent, FULL)
}

fn streams(streams: &[StreamUse]) -> Fact {
    let mut full: Vec<(u64, &str)> = streams.iter().filter_map(|s| Some((percent(s)?, s.name.as_str()))).collect();
    full.sort_by_key(|(percent, _)| std::cmp::Reverse(*percent));
    let level = full.first().map_or(Level::Fine, |(percent, _)| fullness(*percent));
    let named: Vec<String> = full.iter().take(NAMED).map(|(percent, name)| format!("{name} {percent}%")).collect();
    let text = if named.is_empty() { "none".to_owned() } else { format!("fullest {}", named.join(", ")) };
    fact("streams", level, text)
}

fn link(link: Option<&UplinkStats>) -> Fact {
    let Some(link) = link else { return fact("region", Level::Fine, "none, or sync does not answer") };
    let waiting: Vec<String> = link.classes.iter().filter(|class| class.waiting > 0).map(class).collect();
    let lost: u64 = link.classes.iter().map(|class| class.lost).sum();
    let level = if link.connected && lost == 0 { Level::Fine } else { Level::Warning };
    let mut text = if link.connected { "connected" } else { "no link" }.to_owned();
    if lost > 0 {
        text += &format!("; {} lost", number(lost));
    }
    text +=
        &if waiting.is_empty() { "; nothing waits".to_owned() } else { format!("; waiting {}", waiting.join(", ")) };
    fact("region", level, format!("{text}; {}", printable(&link.hub)))
}

/// What of a class waits.
pub fn class(class: &ClassStats) -> String {
    format!("{} {} ({})", number(class.waiting), class.class, bytes(class.waiting_bytes))
}

fn disk(disk: &Disk) -> Fact {
    let used = 100 - disk.free.saturating_mul(100) / disk.total.max(1);
    let soon = match disk.full_in_s {
        Some(s) if s < FULL_IN_S.1 => Level::Broken,
        Some(s) if s < FULL_IN_S.0 => Level::Warning,
        _ => Level::Fine,
    };
    let full = disk.full_in_s.map_or_else(|| "does not fill up".to_owned(), |s| format!("full in {}", span(s)));
    let text = format!("{} of {} free, {full}", bytes(disk.free), bytes(disk.total));
    fact("disk", soon.max(limit(used, FULL)), text)
}

fn index(view: &View) -> Fact {
    let Some(index) = &view.index else { return fact("index", Level::Warning, "does not answer") };
    let mut text = format!("{} of {} series", count(index.windows as usize, "window"), number(index.series));
    text += &format!(", {} in memory, {}", number(index.tail), bytes(index.bytes));
    if index.missed > 0 {
        text += &format!(", {} missed", count(index.missed as usize, "message"));
    }
    fact("index", if index.missed > 0 { Level::Warning } else { Level::Fine }, text)
}

/// Which one judges, and those that would.
fn bundles(view: &View) -> Vec<Fact> {
    let active: Vec<&str> = view.bundles.active.iter().map(|digest| short(digest)).collect();
    let text =
        if active.is_empty() { "nothing was judged yet".to_owned() } else { format!("{} judges", active.join(", ")) };
    let mut facts = vec![fact("bundle", Level::Fine, text)];
    if let Some(wish) = view.wish.as_ref().filter(|wish| wish.phase != Phase::Active) {
        let level = if wish.phase == Phase::Refused { Level::Warning } else { Level::Fine };
        let phase = format!("{:?}", wish.phase).to_lowercase();
        let learned = view
            .bundles
            .shadow_of(&wish.digest)
            .map(|report| format!(", {} of {} series warm", report.warm, report.series));
        let text =
            format!("{} {phase}{}: {}", short(&wish.digest), learned.unwrap_or_default(), printable(&wish.reason));
        facts.push(fact("rollout", level, text));
    }
    facts
}

fn aside(view: &View) -> Fact {
    let one = |(stage, aside): (&String, &Aside)| {
        let refused: u64 = aside.refused.values().sum();
        let of = |n: u64, what: &str| (n > 0).then(|| format!("{} {what} at {}", number(n), name(stage)));
        [of(refused, "refused"), of(aside.late_readings, "late")].into_iter().flatten().collect::<Vec<_>>()
    };
    let parts: Vec<String> = view.aside.iter().flat_map(one).collect();
    let refused = view.aside.values().any(|aside| !aside.refused.is_empty());
    let text = if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") };
    fact("aside", if refused { Level::Warning } else { Level::Fine }, text)
}

/// A condition in words.
pub fn condition(health: &Health) -> String {
    let channel = health.channel.as_ref().map_or_else(String::new, |channel| format!("/{}", name(channel)));
    let condition = match health.condition {
        Condition::Silence => "silent",
        Condition::Stuck => "stuck",
        Condition::Range => "out of range",
        Condition::ClockOffset => "clock off",
    };
    format!("{}{channel} {condition}", name(&health.device))
}

/// Until when somebody is at work on a device.
pub fn maintenance(device: &str, until: Option<Timestamp>) -> String {
    let until = until
        .map_or_else(|| "until it is ended".to_owned(), |until| format!("until {}", short_moment(&rfc3339(until))));
    format!("{} {until}", name(device))
}

/// The first few of many, in words.
fn some<T>(all: impl ExactSizeIterator<Item = T>, word: impl Fn(T) -> String) -> String {
    let more = if all.len() > NAMED { ", …" } else { "" };
    all.take(NAMED).map(word).collect::<Vec<_>>().join(", ") + more
}

/// Which conditions hold, and who is under maintenance.
fn devices(view: &View) -> Vec<Fact> {
    let conditions = &view.conditions;
    let mut facts = vec![match conditions.len() {
        0 => fact("devices", Level::Fine, "nothing to report"),
        n => fact(
            "devices",
            Level::Warning,
            format!("{}: {}", count(n, "condition"), some(conditions.iter(), condition)),
        ),
    }];
    let maintained = &view.maintenance;
    if !maintained.is_empty() {
        let named = some(maintained.iter(), |(device, until)| maintenance(device, *until));
        facts.push(fact("at work", Level::Fine, format!("{} under maintenance: {named}", maintained.len())));
    }
    facts
}
