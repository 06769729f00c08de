//! What a process takes of the machine, as the kernel tells in /proc.

use std::{fmt::Write as _, path::Path};

use metrics::{Key, Label, Recorder as _};

use super::{METADATA, Metric, Telemetry};

/// A second of processor time as /proc counts it: the same on every architecture that Linux shows this file on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What stands as their `stage`, and their ids.
pub(super) type Others = Box<dyn Fn() -> Vec<(String, u32)> + Send + Sync>;

/// What one process takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    /// Bytes: its proportional share of what it maps (PSS) where the kernel tells it, else what is resident.
    pub memory_bytes: u64,
    /// Seconds of processor time since it began.
    pub cpu_seconds: f64,
    /// When it began, in seconds since 1970.
    pub start_seconds: f64,
}

impl Process {
    /// The process `pid`; `None` if there is none, or no /proc.
    pub fn of(pid: u32) -> Option<Self> {
        Self::read(Path::new("/proc"), &pid.to_string())
    }

    /// This process.
    pub fn own() -> Option<Self> {
        Self::read(Path::new("/proc"), "self")
    }

    fn read(proc: &Path, pid: &str) -> Option<Self> {
        let text = |file: &str| std::fs::read_to_string(proc.join(file)).ok();
        let stat = text(&format!("{pid}/stat"))?;
        // The name before it, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
        let booted: f64 = text("stat")?.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        let kilobytes = |file: &str, name: &str| kilobytes(&text(&format!("{pid}/{file}"))?, name);
        let memory = kilobytes("smaps_rollup", "Pss:").or_else(|| kilobytes("status", "VmRSS:"))?;
        Some(Self {
            memory_bytes: memory << 10,
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
            start_seconds: booted + ticks(19)? / TICKS_PER_SECOND,
        })
    }
}

/// The machine's memory, what of it can still be had, in bytes, and its processors; `None` without /proc.
pub fn machine() -> Option<(u64, u64, u64)> {
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let is_core =
        |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let cores = stat.lines().filter(is_core).count() as u64;
    Some((kilobytes(&memory, "MemTotal:")? << 10, kilobytes(&memory, "MemAvailable:")? << 10, cores))
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().split(' ').next()?.parse().ok()
}

impl Telemetry {
    /// What this process takes, and those of [`Self::also_processes`], as Prometheus text: the processor time, which a counter of
    /// whole numbers cannot hold. The rest is set.
    pub(super) fn processes(&self, out: &mut String) {
        let others = self.others.get().map(|others| others()).unwrap_or_default();
        let others = others.into_iter().filter_map(|(name, pid)| Some((Some(name), Process::of(pid)?)));
        let all: Vec<_> = Process::own().map(|own| (None, own)).into_iter().chain(others).collect();
        if all.is_empty() {
            return;
        }
        let name = Metric::Cpu.name();
        // Writing to a string does not fail.
        let _ = write!(out, "# HELP {name} {}\n# TYPE {name} counter\n", Metric::Cpu.help());
        for (other, process) in all {
            let labels = match other {
                None => self.labels.clone(),
                Some(stage) => vec![Label::new("stage", stage), Label::from_static_parts("shard", "0")],
            };
            let gauge = |metric: Metric, value: f64| {
                self.recorder.register_gauge(&Key::from_parts(metric.name(), labels.clone()), &METADATA).set(value);
            };
            gauge(Metric::Memory, process.memory_bytes as f64);
            gauge(Metric::StartTime, process.start_seconds);
            let text: Vec<String> = labels.iter().map(|label| format!("{}={:?}", label.key(), label.value())).collect();
            let _ = writeln!(out, "{name}{{{}}} {}", text.join(","), process.cpu_seconds);
        }
        out.push('\n');
    }

    /// Which other processes are told beside this one, asked at each scrape: what stands as their `stage`, and their ids. For those
    /// that serve no `/metrics`. Only the first call counts.
    pub fn also_processes(&self, others: impl Fn() -> Vec<(String, u32)> + Send + Sync + 'static) {
        let _ = self.others.set(Box::new(others));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_process_is_read_whatever_it_is_called() {
        let proc = tempfile::tempdir().unwrap();
        let at = |file: &str, text: &str| {
            std::fs::create_dir_all(proc.path().join("7")).unwrap();
            std::fs::write(proc.path().join(file), text).unwrap();
        };
        at("stat", "cpu  1 2\ncpu0 1 2\nbtime 1000\n");
        // utime 250, stime 50, starttime 500: fields 14, 15 and 22.
        at("7/stat", "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4 0 500 0\n");
        at("7/status", "Name:\tx\nVmRSS:\t    64 kB\n");
        let read = || Process::read(proc.path(), "7").unwrap();
        let expected = Process { memory_bytes: 65_536, cpu_seconds: 3.0, start_seconds: 1005.0 };
        assert_eq!(read(), expected);
        at("7/smaps_rollup", "00 ---p [rollup]\nRss: 64 kB\nPss:                  32 kB\nPss_Dirty: 1 kB\n");
        assert_eq!(read(), Process { memory_bytes: 32_768, ..expected });
        assert_eq!(Process::read(proc.path(), "8"), None);
    }

    #[test]
    fn this_process_and_others_are_told_apart_by_their_stage() {
        let telemetry = Telemetry::new("gateway", 0, Duration::from_secs(1));
        telemetry.also_processes(|| vec![("nats-server".into(), std::process::id()), ("ended".into(), u32::MAX)]);
        let text = telemetry.render();
        for stage in ["gateway", "nats-server"] {
            for name in ["eddy_cpu_seconds_total", "eddy_memory_bytes", "eddy_start_time_seconds"] {
                let line = format!("{name}{{stage=\"{stage}\",shard=\"0\"}} ");
                assert!(text.contains(&line), "{line:?} is missing in:\n{text}");
            }
        }
        assert!(!text.contains("stage=\"ended\""));
        let (memory, available, cores) = machine().unwrap();
        assert!(memory > available && available > 0 && cores > 0);
    }
}
