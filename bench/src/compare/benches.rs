//! What is compared: measurements in a form that takes about a minute, and which of their figures count.

/// A measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bench {
    /// The command.
    pub(super) name: &'static str,
    /// Its small form.
    arguments: &'static str,
    /// Figures, by their path in what it prints, and whether more is better.
    pub(super) figures: &'static [(&'static str, bool)],
}

impl Bench {
    /// Its command line with these arguments, or with its own small ones if there are none.
    pub(super) fn command_line(&self, given: &[String]) -> Vec<String> {
        let own = || self.arguments.split_whitespace().map(str::to_owned).collect();
        let arguments = if given.is_empty() { own() } else { given.to_vec() };
        [self.name, "--json"].map(str::to_owned).into_iter().chain(arguments).collect()
    }
}

/// All that can be compared: what takes `--binaries`.
pub(super) const ALL: [Bench; 4] = [
    Bench {
        name: "throughput",
        arguments: "--series 3000 --rows 600000 --peer-seconds 0",
        figures: &[
            ("/windows_per_s", true),
            ("/preprocess_readings_per_s", true),
            ("/capture_readings_per_s", true),
            ("/capture_backlog_readings_per_s", true),
            ("/line_protocol_readings_per_s", true),
        ],
    },
    Bench {
        name: "latency",
        arguments: "--devices 1000 --seconds 15 --rounds 1 --faults 0.2",
        figures: &[("/p50_ms", false), ("/p99_ms", false), ("/scored_ms/p50", false), ("/scored_ms/p99", false)],
    },
    Bench {
        name: "footprint",
        arguments: "--series 3000 --hours 12 --points 1",
        figures: &[
            ("/idle_pss_mb", false),
            ("/commissioned_pss_mb", false),
            ("/loaded_pss_mb", false),
            ("/points/0/cpu_us_per_window", false),
        ],
    },
    Bench {
        name: "recover",
        arguments: "--series 3000 --starts 1 --kills 1 --hours 1",
        figures: &[
            ("/start_first_alert_s", false),
            ("/restart_worst_s", false),
            ("/restart_gateway_s", false),
            ("/backlog/rows_per_s", true),
        ],
    },
];

/// What is compared if nothing is chosen.
pub(super) const DEFAULT: [&str; 3] = ["throughput", "latency", "footprint"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_arguments_stand_in_place_of_the_small_form() {
        assert_eq!(ALL[0].command_line(&[])[..4], ["throughput", "--json", "--series", "3000"]);
        assert_eq!(ALL[2].command_line(&["--hours".into(), "1".into()]), ["footprint", "--json", "--hours", "1"]);
    }
}
