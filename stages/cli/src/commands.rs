//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use eddy_runtime::app::Hold;

use crate::{
    alerts::{self, AlertsArgs},
    audit::{self, AuditCommand},
    backup::{
        self, BackupArgs,
        restore::{self, RestoreArgs},
    },
    certs::{self, CertsArgs},
    console::{self, ConsoleArgs},
    demo::{self, DemoArgs},
    device::{self, DeviceCommand, MaintainArgs},
    doctor::{self, DoctorArgs},
    handed::{self, HandedArgs},
    health::{self, HealthArgs},
    hub::{self, HubCommand},
    label::{self, LabelArgs},
    model::{self, ModelCommand},
    query::{self, QueryArgs},
    receipts::{self, ReceiptsArgs},
    replay::{self, ReplayArgs},
    status::{self, StatusArgs},
    supervise::UpError,
    support::{self, SupportArgs},
    top::{self, TopArgs},
    up::{self, UpArgs},
};

mod sight;
mod upkeep;
use self::{
    sight::{ALERTS, CONSOLE, HEALTH, STATUS, TOP},
    upkeep::{BACKUP, DOCTOR, RESTORE, SUPPORT},
};

/// Bad config or a bad command line (sysexits' EX_USAGE).
const EXIT_USAGE: u8 = 64;
/// Anything else that went wrong.
const EXIT_FAILED: u8 = 1;

const AFTER: &str = "\
Examples:
  eddy up                                        a gateway on this machine, in ./.run
  eddy replay recording.csv --speed max          a recording into it
  eddy alerts --follow                           what is found
  eddy demo                                      all of that on a recorded fleet with known faults

Exit codes:
  0 done   1 failed   64 bad command line or config";

const UP: &str = "\
Examples:
  eddy up
  eddy up --dir /var/lib/eddy --config /etc/eddy.toml
  eddy up --port 0 --dir /tmp/g       a free port; other commands find it with --dir /tmp/g
  eddy up --server-only               the server, its streams and chores: the stages run in containers of their own
  eddy up --print-config              the commented defaults of [gateway]

DIR holds streams/ and state/ (keep them together), logs/, gateway.json (url, processes, HTTP addresses) and the default
model bundle. Events go to standard error. SIGTERM or Ctrl-C stops the stages, then the server.

Exit codes:
  0 stopped as asked   1 failed, or a process had to be given up   64 bad config";

const HUB: &str = "\
Examples:
  eddy hub up                                          the region of no sites yet, in ./.hub, for this machine alone
  eddy hub up --dir /var/lib/eddy-hub --config /etc/eddy-hub.toml
  eddy hub up --print-config                           the commented defaults of [region]
  eddy-hub print-config                                those of [hub], with the region's sites and shards

DIR holds streams/ and state/ (keep them together), logs/ and hub.json (url, processes, HTTP addresses). Events go to standard error.
SIGTERM or Ctrl-C stops the hub processes, then the server.

Exit codes:
  0 stopped as asked   1 failed, or a process had to be given up   64 bad config";

const REPLAY: &str = "\
Formats, told apart by extension and header; each but Parquet may be gzipped (.gz):
  wide CSV       a column time|timestamp|datetime|date|ts (else the first), a channel per further column of numbers,
                 separated by , ; or tab; optionally a column device
  long CSV       columns time, channel|metric|sensor|field, value, and optionally device
  NAB            timestamp,value: wide, channel `value`
  SKAB           datetime;…: wide
  row numbers    wide, times counted from 0 (SMAP, MSL, GECCO): row n is --start + n x --period
  line protocol  .lp .line .influx: device is the tag device|device_id|sensor|host, else the measurement; a channel is
                 measurement.field, but the measurement for a field `value`, and the field where the measurement is
                 the device
  JSON lines     .jsonl .ndjson: an object or an array of them on each line; wide, long, or with channels in an object
                 `values` or `fields`; true and false are 1 and 0; keys that hold no numbers are left out
  Parquet        .parquet: columns as in wide and long CSV; times of any Arrow unit and time zone, dates, numbers and
                 text; eddy's own exports (series, time, value …, without what was filled in)
Columns anomaly, is_anomaly, changepoint, label and scored are labels and never sent.
Times are RFC 3339, YYYY-MM-DD HH:MM:SS (taken as UTC), or Unix seconds, ms, us or ns by their size.
A file that names no device is one, called after its folder device=NAME, or after the file (percent-decoded; folder-number
for 0.csv, 1.csv, …). A folder stands for all of its files, those in folders below it too.
Files are merged by time; within a file nothing is sorted, repeated rows are sent again.

Examples:
  eddy replay machine_temperature.csv
  eddy replay skab/valve1 --speed 60x
  eddy replay historian.parquet --device 'pump 1'
  eddy replay export/class=readings   years of daily files, a few open at a time
  eddy replay telemetry.jsonl.gz --json
  eddy replay telemetry/SMAP_P-1.csv.gz --start 2026-01-01T00:00:00Z --period 60
  eddy replay plant.lp --url nats://gateway:4222 --site plant1 --json
  eddy replay --diff default new fixtures/fleet    sends nothing: the alerts of the default bundle and of the one in new/
  eddy replay --diff eddy.toml loud.toml export --only-changes

With --diff no gateway is needed: both sides run here, in step, and tell what they alert; see also --near, --config, --site. Faults of a
truth.json beside the recording are told too.

Exit codes:
  0 every reading is stored   1 a file cannot be read, or the gateway takes nothing   64 bad command line";

const MAINTAIN: &str = "\
Examples:
  eddy maintain 'pump 1' --for 2h     it neither alerts nor learns until its readings are 2 h past now
  eddy maintain 'pump 1'              until it is ended
  eddy maintain 'pump 1' --off";

const DEVICE: &str = "\
Examples:
  eddy device reset 'pump 1'          forget it: after it was replaced
  eddy device recommission 'pump 1'   learn its ordinary behaviour anew: after it was repaired or moved";

const QUERY: &str = "\
Examples:
  eddy query --like 5f0c3a9e1b2d4c68          what else looked like the window that opened this alert
  eddy query --like 5f0c3a9e1b2d4c68 --others on other devices only
  eddy query --like 'pump 1/t@2026-01-31T12:00:00Z' -k 20 --since 7d
  eddy query --like 5f0c3a9e1b2d4c68 --label '*' --json | jq '.neighbours[].label'
  eddy query --like 5f0c3a9e1b2d4c68 --scope region --others   what other sites have seen that looked like it

The index holds what detect kept as new and what alerted, of every series. A line is: distance, device/channel, end of the window
and its length, label, alert, and a picture of its samples as far as SAMPLES still holds them. With `--scope region` a line is: distance,
site/device/channel, end and length, label, alert; an alert that this gateway does not know is looked up in the region.

Exit codes:
  0 answered   1 nothing is known of what was asked, or the index does not answer   64 bad command line";

const RECEIPTS: &str = "\
Examples:
  eddy receipts                       what the region has of every site, and what it will never have
  eddy receipts --site 'plant 2'      of one site
  eddy receipts --json | jq '.chains[] | select(.missing != [])'

A line is: class, what is missing of the numbers that the site gave out, the chain, its batches, the last one's receipt. A gateway
that was replaced begins a new chain; what the region had of the one before stays.

Exit codes:
  0 nothing is missing   1 something is, or nobody answers   64 bad command line";

const LABEL: &str = "\
Examples:
  eddy label 5f0c3a9e1b2d4c68 normal          the alert closes, and the pattern does not alert again
  eddy label 5f0c3a9e1b2d4c68 fault 'bearing' it has a name from now on: alerts like it say so in their context";

const CERTS: &str = "\
Examples:
  eddy certs --out certs --site plant-1 --site plant-2 --reader console --labeler alice --operator bob
  eddy certs --out certs --site plant-3               one more: what is there and good is kept
  eddy certs --out certs --host hub.example           the hub's own anew, for that name
  eddy certs --out certs --host hub.example --days 30
  eddy certs --out certs --renew                      what expires within 30 days, with new keys; --renew=60: within 60

Files: ca.pem is what everybody trusts, ca.key signs: keep it off the hub. hub.pem and hub.key are the hub's; site-NAME.pem and .key
a gateway's; NAME.pem and .key a person's or tool's. A file is named after its subject's CN (percent-encoded), by which the hub's
[hub.roles] give roles, and its NATS server permissions. A CA of your own works too: put it there as ca.pem and ca.key.
Put new files in the places of the old ones: servers, stages and gRPC take them for new connections, and nothing is restarted. What
is no good is not taken, and said in the logs and by eddy_files_refused_total.

Exit codes:
  0 made   1 a name is not taken, or a file cannot be written   64 bad command line";

const AUDIT: &str = "\
Examples:
  eddy audit verify state/hub/audit.jsonl             a file
  eddy audit verify state/hub                         all files as one chain
  eddy audit verify state/hub --holds 812:5f0c3a…     and the head that an earlier check printed is still in it

A line holds the hash of the one before it, so that a changed, moved, added or removed line is found. Lines that are missing at
the end, or a log that was made anew as a whole, are found by --holds alone: keep a printed head elsewhere.

Exit codes:
  0 sound   1 not, with file and line   64 bad command line";

const MODEL: &str = "\
Examples:
  eddy model keygen site                              a pair of keys
  eddy model sign new --key site.key --set-digest     a bundle's model.toml.minisig
  eddy model verify new --trusted site.pub            and whether a gateway would take it
  eddy model inspect new                              its heads, what it keeps, who says to have signed it
  eddy model diff .run/bundles/5f0c… new              in what two differ
  eddy model activate new                             a running gateway takes it up

A bundle is a folder of model.onnx, model.toml and model.toml.minisig.";

const EVAL: &str = "\
Examples:
  eddy eval --help                    all of its options
  eddy eval data --out results --score";

const EXPORT: &str = "\
Examples:
  eddy export --help                  all of its options
  eddy export --to out                embeddings, scores, alerts, contexts and labels, as Parquet
  eddy export --to region --hub .hub  alerts, contexts and labels of all sites of a region
  eddy export receipts --to out       is all there, and as much as the streams hold";

const DRILL: &str = "\
Examples:
  eddy drill --help                   all drills and options
  eddy drill all --small              each of them, in a few minutes
  eddy drill power-cut                writes that were not synced are lost, and nothing that was acknowledged
  eddy drill soak --minutes 30        one after the other on one gateway, at random";

const DEMO: &str = "\
Starts a gateway in a folder of its own on free ports, replays a recorded fleet with known faults, and prints each alert
as it comes with the true fault beside it. At the end a plain NATS client that knows only the recording and the streams counts
what is lost or doubled.

Examples:
  eddy demo
  eddy demo --keep /tmp/demo          keep streams, state and logs to look at

Exit codes:
  0 nothing lost, nothing doubled, 90% of the faults found   1 otherwise";

/// eddy: from sensor readings to alerts, on the edge.
#[derive(Debug, Parser)]
#[command(name = "eddy", version, after_help = AFTER)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway on this machine: the server, its streams and all stages
    #[command(after_help = UP)]
    Up(UpArgs),
    /// Run the region to which gateways send what they know
    #[command(subcommand, after_help = HUB)]
    Hub(HubCommand),
    /// Show all of it on a recorded fleet with known faults
    #[command(after_help = DEMO)]
    Demo(DemoArgs),
    /// Send recorded files through a gateway
    #[command(after_help = REPLAY)]
    Replay(ReplayArgs),
    /// Print alerts
    #[command(after_help = ALERTS)]
    Alerts(AlertsArgs),
    /// Print how a gateway is: stages, streams, health, dead letters
    #[command(after_help = STATUS)]
    Status(StatusArgs),
    /// Show and act on all of it in a browser
    #[command(after_help = CONSOLE)]
    Console(ConsoleArgs),
    /// Watch a gateway in a terminal: stages, alerts with their curves; acknowledge, label, maintain
    #[command(after_help = TOP)]
    Top(TopArgs),
    /// Say whether the gateway or hub that runs in a folder is well
    #[command(after_help = HEALTH)]
    Health(HealthArgs),
    /// Find windows like one: an alert's, or a series' at some time
    #[command(after_help = QUERY)]
    Query(QueryArgs),
    /// Print what the region can prove that it has of its sites
    #[command(after_help = RECEIPTS)]
    Receipts(ReceiptsArgs),
    /// Say what an alert was: normal, or a fault
    #[command(after_help = LABEL)]
    Label(LabelArgs),
    /// Put a device under maintenance: it neither alerts nor learns
    #[command(after_help = MAINTAIN)]
    Maintain(MaintainArgs),
    /// Check a gateway: config, disk, clock, certificates, streams, index
    #[command(after_help = DOCTOR)]
    Doctor(DoctorArgs),
    /// Write a gateway's streams, state, config and bundles into one file
    #[command(after_help = BACKUP)]
    Backup(BackupArgs),
    /// Write what somebody who helps needs to see, without secrets and readings
    #[command(after_help = SUPPORT)]
    SupportBundle(SupportArgs),
    /// Make a gateway of a backup, in a folder that holds none
    #[command(after_help = RESTORE)]
    Restore(RestoreArgs),
    /// Make a development CA and certificates for a hub, its gateways and people
    #[command(after_help = CERTS)]
    Certs(CertsArgs),
    /// Check the hub's audit log
    #[command(subcommand, after_help = AUDIT)]
    Audit(AuditCommand),
    /// Run the public benchmarks through the stages, and score the results
    #[command(after_help = EVAL, disable_help_flag = true)]
    Eval(HandedArgs),
    /// Bring a gateway's streams out of it as Parquet, to a folder or S3
    #[command(after_help = EXPORT, disable_help_flag = true)]
    Export(HandedArgs),
    /// Break a sandbox of this gateway on purpose, and judge what comes of it
    #[command(after_help = DRILL, disable_help_flag = true)]
    Drill(HandedArgs),
    /// Keys, signatures and contents of model bundles; and which of them judges on a gateway
    #[command(subcommand, after_help = MODEL)]
    Model(ModelCommand),
    /// Forget a device, or learn it anew
    #[command(subcommand, after_help = DEVICE)]
    Device(DeviceCommand),
}

/// The whole `main` of the binary.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to do if that cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let hold = match &arguments.command {
        Command::Up(args) => Hold::of(args.hold, args.config.as_deref()),
        Command::Hub(HubCommand::Up(args)) => Hold::of(args.hold, args.config.as_deref()),
        Command::Console(args) => Hold::of(args.hold, args.token_file.as_deref()),
        _ => Hold::of(false, None),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("eddy: no async runtime: {error}");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let result = runtime.block_on(async {
        match &arguments.command {
            Command::Up(args) => up::run(args).await,
            Command::Hub(command) => hub::run(command).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Replay(args) => replay::run(args).await,
            Command::Alerts(args) => alerts::run(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Console(args) => console::run(args).await,
            Command::Top(args) => top::run(args).await,
            Command::Health(args) => health::run(args).await,
            Command::Doctor(args) => doctor::run(args).await,
            Command::Query(args) => query::run(args).await,
            Command::Receipts(args) => receipts::run(args).await,
            Command::Label(args) => label::run(args).await,
            Command::SupportBundle(args) => support::run(args).await,
            Command::Backup(args) => backup::backup(args).await,
            Command::Restore(args) => restore::run(args).await,
            Command::Certs(args) => certs::run(args),
            Command::Audit(command) => audit::run(command),
            Command::Eval(args) => Err(handed::run(handed::EVAL, args)),
            Command::Export(args) => Err(handed::run(handed::EXPORT, args)),
            Command::Drill(args) => Err(handed::run(handed::DRILL, args)),
            Command::Model(command) => model::run(command).await,
            Command::Maintain(args) => device::maintain(args).await,
            Command::Device(command) => device::device(command).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let is_config =
                matches!(error.downcast_ref::<UpError>(), Some(UpError::Config(_))) || error.is::<console::Refused>();
            hold.end("eddy", if is_config { EXIT_USAGE } else { EXIT_FAILED }, &format!("{error:#}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_examples() {
        let mut command = Arguments::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands_mut() {
            let help = sub.render_long_help().to_string();
            assert!(help.contains("eddy ") && help.contains("Examples:"), "{}", sub.get_name());
        }
    }
}
