//! The drills: their names, what each does, proves, and does not prove.

use clap::ValueEnum;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Drill {
    /// SIGKILL of stage processes
    Crash,
    /// SIGKILL of nats-server
    ServerKill,
    /// The link to the region is cut, and frozen
    LinkCut,
    /// The link to the region carries a few KB a second
    SlowLink,
    /// The disk of streams and state fills up
    DiskFull,
    /// The wall clock jumps by hours, forward and back
    ClockJump,
    /// Far more readings than the streams hold
    Flood,
    /// Rubbish, hostile names, huge messages
    Poison,
    /// Unsigned, altered and misshapen bundles are offered
    BadModel,
    /// Processes are starved of CPU
    Throttle,
    /// Power fails: what was not synced is lost
    PowerCut,
}

/// What is said of a drill.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// What passing proves.
    pub proves: &'static str,
    /// What it does not.
    pub does_not_prove: &'static str,
}

impl Drill {
    /// All of them, in the order in which `all` has them.
    pub const ALL: [Self; 11] = [
        Self::Crash,
        Self::ServerKill,
        Self::Throttle,
        Self::ClockJump,
        Self::Poison,
        Self::BadModel,
        Self::Flood,
        Self::LinkCut,
        Self::SlowLink,
        Self::DiskFull,
        Self::PowerCut,
    ];

    /// As it is called on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What is said of it.
    pub fn about(self) -> About {
        let (proves, does_not_prove) = match self {
            Self::Crash => (
                "stages that die at any moment, all of them, lose, double and change nothing",
                "what a kernel or machine that dies does: power-cut does",
            ),
            Self::ServerKill => (
                "a server that dies at any moment loses nothing that it acknowledged, and the stages go on by themselves",
                "that writes reach the disk: a killed process's writes are in the kernel; power-cut does",
            ),
            Self::LinkCut => (
                "without a link the gateway alerts as ever; with it again the region has each alert and window once, in chains that hold",
                "weeks without a link: what waits longer than the queue's bounds expires, and the region is told",
            ),
            Self::SlowLink => (
                "on a link that bulk has filled alerts go first, and in the end the region has all of it",
                "a bound on an alert's delay: it is the link's",
            ),
            Self::DiskFull => (
                "on a full disk the gateway waits and pushes back; with room again it goes on by itself, and nothing is lost or doubled",
                "a disk that fails or lies",
            ),
            Self::ClockJump => (
                "alerts do not depend on the wall clock of the gateway's processes, whichever way it jumps",
                "anything of the server's own clock, which is not turned and stamps what comes by INGEST; a reading without a time of its own \
                 carries whatever the clock says",
            ),
            Self::Flood => (
                "at their bounds the streams push back, what was accepted is accounted for, and the recording's devices alert as ever",
                "that a flood is served in time",
            ),
            Self::Poison => (
                "rubbish is put aside with a reason, piece by piece, and changes nothing for anybody else",
                "readings that are well-formed and wrong",
            ),
            Self::BadModel => (
                "a bundle that is unsigned, altered or misshapen is refused with a reason, by the command and on the bus, and the one before judges on",
                "that a well-signed bundle is good: the rehearsal and the shadow judge that",
            ),
            Self::Throttle => (
                "processes that stand still for a while and go on, each in its turn, lose, double and change nothing",
                "that alerts come in time on too small a machine",
            ),
            Self::PowerCut => (
                "what was acknowledged was synced, by the server and by every stage: after cuts that drop all unsynced writes nothing is missing",
                "a disk that acknowledges a sync and loses it, or tears a sector",
            ),
        };
        About { proves, does_not_prove }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_all() {
        let mut all = Drill::ALL.to_vec();
        all.sort();
        assert_eq!(all, Drill::value_variants());
        assert_eq!(Drill::PowerCut.name(), "power-cut");
    }
}
