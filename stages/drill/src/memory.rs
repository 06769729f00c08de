//! Memory of processes, so that a sum over them is right.

use std::{iter::Sum, ops::Add};

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Proportional set size: pages that several processes share are counted in parts.
    pub pss: u64,
    /// The part of it that no file holds; the rest are mapped files (binaries, state in LMDB), which the kernel may drop.
    pub anonymous: u64,
}

/// What all of them have that are there.
pub fn of(pids: impl IntoIterator<Item = u32>) -> Memory {
    let rollup = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    pids.into_iter().filter_map(|pid| parse(&rollup(pid)?)).sum()
}

fn parse(rollup: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    };
    Some(Memory { pss: bytes("Pss:")?, anonymous: bytes("Pss_Anon:")? })
}

impl Add for Memory {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { pss: self.pss + other.pss, anonymous: self.anonymous + other.anonymous }
    }
}

impl Sum for Memory {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_among_its_parts() {
        let rollup = "Rss:  900 kB\nPss:        812 kB\nPss_Anon:     400 kB\n";
        assert_eq!(parse(rollup), Some(Memory { pss: 812 << 10, anonymous: 400 << 10 }));
        assert_eq!(parse("Rss: 9 kB\nPss_Anon: 4 kB\n"), None);
        assert!(of([std::process::id()]).anonymous > 0);
    }
}
