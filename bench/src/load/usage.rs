//! What the processes of a gateway used over a stretch of time: CPU seconds, and memory at its end.

use std::collections::BTreeMap;

use super::{
    figures::rounded,
    process::{self, Memory},
};

/// CPU times at the start of a stretch.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    pids: BTreeMap<String, u32>,
    cpu: BTreeMap<String, f64>,
    own: f64,
}

/// What was used.
#[derive(Clone, Debug, Default)]
pub(super) struct Used {
    /// Per process: CPU seconds, and memory at the end.
    pub(super) processes: BTreeMap<String, (f64, Memory)>,
    /// CPU seconds of the bench itself: generator and subscriber.
    pub(super) generator_cpu_s: f64,
}

impl Meter {
    /// Begins a stretch.
    pub(super) fn start(pids: BTreeMap<String, u32>) -> Self {
        let cpu = pids.iter().map(|(name, pid)| (name.clone(), process::cpu_seconds(*pid).unwrap_or(0.0))).collect();
        Self { pids, cpu, own: own_cpu() }
    }

    /// Ends it. A process that is gone counts nothing.
    pub(super) fn stop(&self) -> Used {
        let used = |(name, pid): (&String, &u32)| {
            let cpu = process::cpu_seconds(*pid)? - self.cpu.get(name)?;
            Some((name.clone(), (cpu, process::memory(*pid)?)))
        };
        Used { processes: self.pids.iter().filter_map(used).collect(), generator_cpu_s: own_cpu() - self.own }
    }
}

fn own_cpu() -> f64 {
    process::cpu_seconds(std::process::id()).unwrap_or(0.0)
}

impl Used {
    /// Adds an earlier stretch's CPU times; memory is that of the later one.
    pub(super) fn add(&mut self, earlier: &Self) {
        self.generator_cpu_s += earlier.generator_cpu_s;
        for (name, (cpu, _)) in &earlier.processes {
            if let Some((sum, _)) = self.processes.get_mut(name) {
                *sum += cpu;
            }
        }
    }

    /// Memory of all processes together, in MB.
    pub(super) fn pss_mb_total(&self) -> f64 {
        megabytes(self.processes.values().map(|(_, memory)| memory.pss).sum())
    }

    /// CPU seconds of all processes together.
    pub(super) fn cpu_s_total(&self) -> f64 {
        self.processes.values().map(|(cpu, _)| cpu).sum()
    }

    /// `{"detect": {"cpu_s": …, "pss_mb": …, "pss_anon_mb": …}, …}`
    pub(super) fn json(&self) -> serde_json::Value {
        let one = |(cpu, memory): &(f64, Memory)| {
            serde_json::json!({
                "cpu_s": rounded(*cpu),
                "pss_mb": megabytes(memory.pss),
                "pss_anon_mb": megabytes(memory.anonymous),
            })
        };
        self.processes.iter().map(|(name, used)| (name.clone(), one(used))).collect()
    }
}

/// Bytes in MB of 2^20.
fn megabytes(bytes: u64) -> f64 {
    rounded(bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_add_up_in_time_but_not_in_memory() {
        let memory = Memory { pss: 7 << 20, anonymous: 2 << 20 };
        let used = |cpu| Used { processes: [("a".to_owned(), (cpu, memory))].into(), generator_cpu_s: 1.0 };
        let mut both = used(2.0);
        both.add(&used(3.0));
        assert_eq!((both.cpu_s_total(), both.pss_mb_total(), both.generator_cpu_s), (5.0, 7.0, 2.0));
        assert_eq!(both.json(), serde_json::json!({"a": {"cpu_s": 5.0, "pss_mb": 7.0, "pss_anon_mb": 2.0}}));
    }
}
