//! The wall clock: readings are judged by it, certificates expire by it, and streams are ordered by the server's.

use std::{
    mem::MaybeUninit,
    path::Path,
    time::{Duration, Instant},
};

use eddy_schemas::{
    Timestamp,
    region::{RECEIPTS, wire},
};

use super::{Patient, finding::Check};
use crate::{backup, region, supervise::http};

/// No clock of a gateway that runs this release stands before it.
const EARLIEST: Timestamp = 1_767_225_600_000_000_000;
/// How far a stored message may lie in the future: what a clock that is being disciplined does.
const AHEAD_MAX: Timestamp = 2_000_000_000;
/// A clock that moves by so much more or less than time does has been set.
const JUMP_MAX: Duration = Duration::from_millis(500);

/// Two machines whose clocks are disciplined agree far better than this.
const DRIFT_WARN: Duration = Duration::from_secs(1);
/// The hub refuses labels that lie further ahead, and certificates of the day are not good yet.
const DRIFT_MAX: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

const REMEDY: &str =
    "`timedatectl set-ntp true`, or chrony; `timedatectl status` and `chronyc tracking` say how it stands";

pub fn look(patient: &Patient, check: &mut Check<'_>) {
    let now = crate::now();
    judge(now, newest(&patient.dir.join("streams")), check);
    match synchronised() {
        Some(true) => {}
        Some(false) => check.warning("this machine", "the clock is not synchronised (adjtimex: STA_UNSYNC)", REMEDY),
        None => check.unchecked("adjtimex cannot be read here"),
    }
}

fn judge(now: Timestamp, newest: Option<Timestamp>, check: &mut Check<'_>) {
    if now < EARLIEST {
        check.error("this machine", format!("the clock says {}", eddy_schemas::rfc3339(now)), REMEDY);
    }
    if let Some(newest) = newest.filter(|newest| *newest > now + AHEAD_MAX) {
        let seconds = (newest - now) / 1_000_000_000;
        let what = format!("the clock is {seconds} s before the newest stored message: it went back, or was ahead");
        check.error("this machine", what, REMEDY);
    }
}

/// This machine's clock against the server's, and the hub's if there is one: by when they say that they answered.
pub async fn compare(patient: &Patient, check: &mut Check<'_>) {
    let Some(file) = &patient.file else { return };
    let monitoring = file.machine.monitoring.trim_start_matches("http://").to_owned();
    match asked(async move || server(&monitoring).await).await {
        Ok(told) => drifted("nats-server", told, check),
        Err(problem) => check.unchecked(format!("nats-server's: {problem}")),
    }
    let Some(gateway) = patient.gateway.as_ref().filter(|_| file.machine.http.contains_key("sync")) else { return };
    let request = wire::ReceiptsRequest { site: gateway.site.clone() };
    let hub = async || {
        let answer: wire::ReceiptsResponse = region::ask(gateway, RECEIPTS, &request).await?;
        anyhow::ensure!(answer.now != 0, "it is of a release that does not tell it");
        Ok(answer.now)
    };
    match asked(hub).await {
        Ok(told) => drifted("the hub", told, check),
        Err(problem) => check.unchecked(format!("the hub's: {problem:#}")),
    }
}

/// What somebody's clock said, and when it was asked and had answered by this one.
struct Told {
    said: Timestamp,
    asked: Timestamp,
    answered: Timestamp,
}

async fn asked(clock: impl AsyncFnOnce() -> anyhow::Result<Timestamp>) -> anyhow::Result<Told> {
    let asked = crate::now();
    let said = clock().await?;
    Ok(Told { said, asked, answered: crate::now() })
}

async fn server(monitoring: &str) -> anyhow::Result<Timestamp> {
    let (_, answer) = http::get(monitoring, "/varz", ANSWER_BYTES_MAX, PATIENCE).await?;
    let varz: serde_json::Value = serde_json::from_str(&answer)?;
    let now: jiff::Timestamp = varz["now"].as_str().unwrap_or_default().parse()?;
    Ok(Timestamp::try_from(now.as_nanosecond())?)
}

/// It was said between asking and answering: only what lies outside of these is drift.
fn drifted(who: &str, told: Told, check: &mut Check<'_>) {
    let ahead = (told.said - told.answered).max(0) - (told.asked - told.said).max(0);
    let by = Duration::from_nanos(ahead.unsigned_abs());
    if by <= DRIFT_WARN {
        return;
    }
    let which = if ahead > 0 { "behind" } else { "ahead of" };
    let what = format!("the clock is {:.1} s {which} that of {who}", by.as_secs_f64());
    if by > DRIFT_MAX {
        check.error("this machine", what, REMEDY);
    } else {
        check.warning("this machine", what, REMEDY);
    }
}

/// When the newest file of the streams was written.
fn newest(streams: &Path) -> Option<Timestamp> {
    let written = |path: &std::path::PathBuf| {
        let since = path.metadata().ok()?.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Timestamp::try_from(since.as_nanos()).ok()
    };
    backup::below(streams).iter().filter_map(written).max()
}

/// Whether the kernel's clock is disciplined by something; `None` where it does not say.
fn synchronised() -> Option<bool> {
    let mut timex = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all bytes zero is a valid timex (plain numbers); with `modes` 0 the kernel only fills it in and changes nothing.
    let (state, timex) = unsafe {
        let state = libc::adjtimex(timex.as_mut_ptr());
        (state, timex.assume_init())
    };
    (state >= 0).then_some(timex.status & libc::STA_UNSYNC == 0)
}

/// Two looks at the wall clock, against one that nobody sets.
pub struct Ticking {
    wall: Timestamp,
    steady: Instant,
}

impl Ticking {
    /// The first look.
    pub fn start() -> Self {
        Self { wall: crate::now(), steady: Instant::now() }
    }

    /// The second one.
    pub fn look(self, check: &mut Check<'_>) {
        jumped(crate::now() - self.wall, self.steady.elapsed(), check);
    }
}

fn jumped(wall: Timestamp, steady: Duration, check: &mut Check<'_>) {
    let off = wall - steady.as_nanos() as Timestamp;
    if off.unsigned_abs() > JUMP_MAX.as_nanos() as u64 {
        check.error("this machine", format!("the clock was set by {:.1} s just now", off as f64 / 1e9), REMEDY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::found;

    #[test]
    fn a_clock_of_the_past_or_behind_what_is_stored_is_told() {
        let of = |now, newest| found(|check| judge(now, newest, check)).findings;
        let now = EARLIEST + 5_000_000_000;
        assert_eq!(of(now, Some(now + AHEAD_MAX)), []);
        assert_eq!(of(now, None), []);
        assert!(of(now, Some(now + 60_000_000_000))[0].what.contains("60 s before"));
        assert!(of(0, None)[0].what.contains("1970"));
    }

    #[test]
    fn a_clock_that_differs_by_more_than_the_answer_took_is_told() {
        const S: Timestamp = 1_000_000_000;
        let of = |said, answered| {
            let told = Told { said, asked: 100 * S, answered };
            found(|check| drifted("the hub", told, check))
        };
        assert_eq!(of(100 * S, 100 * S + 5).findings, []);
        assert_eq!(of(130 * S, 160 * S).findings, [], "a slow link is no drift");
        assert!(of(110 * S, 101 * S).findings[0].what.contains("9.0 s behind that of the hub"));
        let ahead = of(90 * S, 101 * S);
        assert!(ahead.is_sound(false) && ahead.findings[0].what.contains("10.0 s ahead of"), "{ahead:?}");
        assert!(!of(300 * S, 101 * S).is_sound(false));
    }

    #[test]
    fn a_clock_that_is_set_is_told_and_one_that_goes_is_not() {
        let of = |wall, steady| found(|check| jumped(wall, Duration::from_secs(steady), check)).findings.len();
        assert_eq!((of(6_100_000_000, 6), of(9_000_000_000, 6), of(-50_000_000_000, 6)), (0, 1, 1));
    }

    #[test]
    fn the_kernel_is_asked_and_nothing_is_set() {
        let (before, steady) = (crate::now(), Instant::now());
        // A container may forbid it; what matters is that asking is safe and changes nothing.
        let _ = synchronised();
        assert!((crate::now() - before) as u128 <= steady.elapsed().as_nanos() + JUMP_MAX.as_nanos());
    }

    #[test]
    fn the_newest_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest(folder.path()), None);
        std::fs::write(folder.path().join("x"), "x").unwrap();
        assert!(newest(folder.path()).unwrap() > EARLIEST);
    }
}
