//! All together: the region's streams, a copy of each shard that is kept here and its part in leading it, the janitor.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use eddy_runtime::{
    audit::{Audit, AuditError},
    bus::nats::NatsBus,
    clock::{Clock, SystemClock},
    config::CommonConfig,
    lease::{Held, Lease},
    position::Position,
    program::{EXIT_STATE, Program},
    telemetry::Telemetry,
};
use tokio::{
    sync::{Mutex, watch},
    task::{JoinSet, block_in_place},
    time::timeout,
};

use crate::{
    answer::{Answers, Peers, Region},
    audit_sink::AuditSink,
    config::Config,
    copy::Plan,
    filed,
    follow::Troubles,
    grpc::{Grpc, Tls},
    janitor::Janitor,
    lead::{self, Leading},
    merge::Rules,
    nats::Requests,
    shards::{Led, Shards},
    streams,
};

/// Failed while running; starting again may help.
const EXIT_FAILED: u8 = 1;
/// How often it is looked for sites that are new.
const SITES_LOOK: Duration = Duration::from_secs(5);
/// How often it is looked whether another process has left this one's folder.
const FOLDER_LOOK: Duration = Duration::from_millis(500);

/// The stage.
#[derive(Debug)]
pub struct Hub {
    config: Config,
}

/// `main` of the binary.
pub fn main() -> ExitCode {
    eddy_runtime::program::run::<Hub>()
}

fn folder(common: &CommonConfig) -> PathBuf {
    common.state.dir.join(Hub::NAME)
}

impl Program for Hub {
    const NAME: &'static str = "hub";
    const DEFAULTS: &'static str = include_str!("../default.toml");
    type Config = Config;

    fn new(config: Config, _: &CommonConfig) -> Result<Self, Vec<String>> {
        let mut problems = config.problems();
        if problems.is_empty() && config.grpc.is_served() {
            problems.extend(Tls::load(&config.grpc).err());
        }
        if problems.is_empty() { Ok(Self { config }) } else { Err(problems) }
    }

    async fn run(
        self,
        common: CommonConfig,
        bus: NatsBus,
        telemetry: Arc<Telemetry>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), (u8, String)> {
        let failed = |problem: String| (EXIT_FAILED, problem);
        keep_shards(&folder(&common), self.config.shards).map_err(|problem| (EXIT_STATE, problem))?;
        let Some(audit) = open_audit(&folder(&common), &self.config, stop.clone()).await? else { return Ok(()) };
        let grpc = if self.config.grpc.is_served() {
            Some(Grpc::listen(self.config.grpc.clone()).await.map_err(failed)?)
        } else {
            None
        };
        let address = grpc.as_ref().map(Grpc::advertised).transpose().map_err(|error| failed(error.to_string()))?;
        let address = address.unwrap_or_default();
        let process = Process::new(self.config.clone(), common, bus.clone(), telemetry, audit.clone());
        let tls = grpc.as_ref().map(Grpc::tls);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let region: Arc<dyn Region> = process.shards.clone();
        let answers = Arc::new(Answers::new(region, Peers::new(tls), clock, self.config.grpc.bounds()));
        // Dropped, they end.
        let mut serving = JoinSet::new();
        if let Some(grpc) = grpc {
            tracing::info!(address, "answers by gRPC");
            serving.spawn(grpc.serve(answers.clone(), audit.clone(), self.config.roles.clone(), stop.clone()));
        }
        let requests = Requests {
            answers,
            audit,
            bytes_max: self.config.grpc.request_bytes_max,
            // The other half is for people, who come by gRPC.
            at_once: self.config.grpc.calls_max.div_ceil(2),
            time_max: self.config.grpc.deadline(),
            lately: Arc::default(),
        };
        let until = stop.clone();
        serving.spawn(async move {
            requests.serve(bus, until).await;
            Ok(())
        });
        let running = process.run(address, stop);
        tokio::pin!(running);
        loop {
            tokio::select! {
                ended = &mut running => return ended.map_err(|problem| (EXIT_STATE, problem)),
                Some(served) = serving.join_next() => {
                    served.unwrap_or_else(|panic| Err(panic.to_string())).map_err(failed)?;
                }
            }
        }
    }

    /// The audit log is not forgotten.
    fn recover(self, common: &CommonConfig) -> Result<String, (u8, String)> {
        let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        for shard in self.config.held() {
            let folder = folder(common).join(shard.to_string());
            if let Err(error) = std::fs::remove_dir_all(&folder)
                && !gone(&error)
            {
                return Err((EXIT_FAILED, format!("{}: {error}", folder.display())));
            }
        }
        let count = folder(common).join("shards");
        if let Err(error) = std::fs::remove_file(&count)
            && !gone(&error)
        {
            return Err((EXIT_FAILED, format!("{}: {error}", count.display())));
        }
        Ok("its copies are forgotten; they are made again from what the sites' streams still hold, and name the rest"
            .into())
    }
}

/// Which devices are whose follows from the number of shards: copies of another number would hold them twice.
fn keep_shards(folder: &Path, shards: u32) -> Result<(), String> {
    let path = folder.join("shards");
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim() == shards.to_string() => Ok(()),
        Ok(text) => Err(format!(
            "hub.shards = {shards}, but the copies in {} are of {} shards: set it back, or let `eddy-hub recover` forget them",
            folder.display(),
            text.trim()
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, format!("{shards}\n"))).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Opens the audit log, once no other process has it: that one has this folder, and this one waits for its end.
async fn open_audit(
    folder: &Path,
    config: &Config,
    mut stop: watch::Receiver<bool>,
) -> Result<Option<Arc<Audit>>, (u8, String)> {
    let mut waits = false;
    loop {
        let opened = block_in_place(|| Audit::open(folder, config.audit.bounds(), Arc::new(SystemClock)));
        match opened {
            Ok(audit) => return Ok(Some(Arc::new(audit))),
            Err(AuditError::InUse { .. }) => {
                if !std::mem::replace(&mut waits, true) {
                    tracing::info!(folder = %folder.display(), "another eddy-hub has this folder; waiting for its end");
                }
            }
            Err(error @ AuditError::Io { .. }) => return Err((EXIT_FAILED, error.to_string())),
            Err(error) => return Err((EXIT_STATE, error.to_string())),
        }
        if timeout(FOLDER_LOOK, stop.wait_for(|stop| *stop)).await.is_ok() {
            return Ok(None);
        }
    }
}

/// One hub process.
pub struct Process {
    config: Config,
    common: CommonConfig,
    bus: NatsBus,
    telemetry: Arc<Telemetry>,
    audit: Arc<dyn AuditSink>,
    /// What it leads, for those who answer.
    pub(crate) shards: Arc<Shards>,
    troubles: Arc<Troubles>,
    name: String,
}

impl Process {
    pub(crate) fn new(
        config: Config,
        common: CommonConfig,
        bus: NatsBus,
        telemetry: Arc<Telemetry>,
        audit: Arc<dyn AuditSink>,
    ) -> Self {
        let name = match config.name.as_str() {
            "" => format!("hub-{:06x}", rand::random::<u32>() & 0xff_ffff),
            name => name.to_owned(),
        };
        let (shards, troubles) = (Arc::new(Shards::new(config.shards)), Arc::new(Troubles::default()));
        let (told, patience) = (troubles.clone(), Duration::from_secs(common.telemetry.stall_after_s));
        telemetry.also_check(move || told.check(patience));
        Self { config, common, bus, telemetry, audit, shards, troubles, name }
    }

    /// Runs until `stop` says true; `address` is where it answers by gRPC.
    pub(crate) async fn run(self, address: String, stop: watch::Receiver<bool>) -> Result<(), String> {
        tracing::info!(name = self.name, shards = self.config.shards, held = ?self.config.held(), "hub");
        let (found, sites) = watch::channel(Vec::new());
        let mut tasks: JoinSet<Result<(), String>> = JoinSet::new();
        tasks.spawn(find_sites(self.bus.clone(), self.config.clone(), found, stop.clone()));
        let janitor = Janitor {
            bus: self.bus.clone(),
            shards: self.shards.clone(),
            sites: sites.clone(),
            keep_percent: self.config.keep_percent,
        };
        let until = stop.clone();
        tasks.spawn(async move {
            janitor.run(until).await;
            Ok(())
        });
        // A process that is started anew is not the one that died.
        let me = format!("{}-{:016x}", self.name, rand::random::<u64>());
        let claiming = Arc::new(Mutex::new(()));
        let held = self.config.held();
        for shard in 0..self.config.shards {
            let lease = Lease::new(self.bus.clone(), lead::terms(&self.config, shard), me.clone());
            let (opened, copy) = watch::channel(None);
            if held.contains(&shard) {
                let plan = self.plan(shard, lease.held(), held.first() == Some(&shard), sites.clone(), opened);
                tasks.spawn(plan.run(stop.clone()));
            }
            let leading = Leading {
                shard,
                lease,
                copy,
                name: self.name.clone(),
                address: address.clone(),
                shards: self.shards.clone(),
                claiming: claiming.clone(),
                audit: self.audit.clone(),
                last: Position::default(),
            };
            let until = stop.clone();
            tasks.spawn(async move {
                leading.run(until).await;
                Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            // The first that cannot go on ends all.
            done.unwrap_or_else(|panic| Err(panic.to_string()))?;
        }
        Ok(())
    }

    fn plan(
        &self,
        shard: u32,
        held: Held,
        audits: bool,
        sites: watch::Receiver<Vec<String>>,
        opened: watch::Sender<Option<Arc<Led>>>,
    ) -> Plan<NatsBus> {
        Plan {
            bus: self.bus.clone(),
            shard,
            folder: folder(&self.common).join(shard.to_string()),
            store: self.config.limits(),
            rules: Rules { notes: self.config.notes(), summaries: self.config.summaries_per_device },
            limits: self.common.limits.clone(),
            shards: self.shards.clone(),
            held,
            telemetry: self.telemetry.clone(),
            troubles: self.troubles.clone(),
            audit: audits.then(|| self.audit.clone()),
            sites,
            sketch_every: Duration::from_secs_f64(self.config.sketch_every_s),
            sketch: self.config.sketch(),
            opened,
        }
    }
}

/// Makes the region's streams, and looks which sites have one.
async fn find_sites(
    bus: NatsBus,
    config: Config,
    found: watch::Sender<Vec<String>>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), String> {
    let mut provided = !config.provision;
    loop {
        if !provided {
            match provide(&bus, &config).await {
                Ok(()) => provided = true,
                Err(error) => tracing::warn!(%error, "the region's streams are not made; trying again"),
            }
        }
        match bus.streams(eddy_schemas::sync::STREAM_PREFIX).await {
            Ok(names) => {
                let sites: Vec<String> = names.iter().filter_map(|name| streams::site_of(name)).collect();
                let (sites, odd): (Vec<String>, Vec<String>) = sites.into_iter().partition(|site| filed::is_site(site));
                if !odd.is_empty() {
                    tracing::warn!(?odd, "streams of sites whose names cannot be filed are not read");
                }
                found.send_if_modified(|known| std::mem::replace(known, sites.clone()) != sites);
            }
            Err(error) => tracing::warn!(%error, "which sites there are is not known"),
        }
        let wait = if provided { SITES_LOOK } else { Duration::from_secs(1) };
        if timeout(wait, stop.wait_for(|stop| *stop)).await.is_ok() {
            return Ok(());
        }
    }
}

async fn provide(bus: &NatsBus, config: &Config) -> Result<(), eddy_runtime::bus::BusError> {
    for planned in streams::region(config) {
        bus.provide(&planned).await?;
    }
    for site in &config.sites {
        bus.provide(&streams::site(site, config)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_shards_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("hub");
        assert_eq!(keep_shards(&own, 4), Ok(()));
        assert_eq!(keep_shards(&own, 4), Ok(()));
        let problem = keep_shards(&own, 8).unwrap_err();
        assert!(problem.contains("hub.shards = 8") && problem.contains("of 4 shards"), "{problem}");
    }
}
