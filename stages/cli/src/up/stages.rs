//! The stage processes of a gateway.

use std::path::Path;

use super::{Plan, TABLE, bundle};
use crate::supervise::{UpError, register::Register, workers::Worker};

/// The stages on the path to an alert, and whether each shard has its own.
const STAGES: [(&str, bool); 4] = [("capture", false), ("preprocess", true), ("embed", true), ("detect", true)];
/// What remembers; it holds nobody up.
const INDEX: (&str, bool) = ("index", false);
/// What brings alerts out of the gateway; runs if the config names a sink.
const NOTIFY: (&str, bool) = ("notify", false);
/// What brings to the region what it may know; runs if the config names a hub.
const SYNC: (&str, bool) = ("sync", false);

/// What writes Parquet; runs if the config says where to.
const EXPORT: (&str, bool) = ("export", false);

/// The stages that this gateway has, and whether each shard has its own.
fn wanted(plan: &Plan) -> impl Iterator<Item = (&'static str, bool)> {
    let on_demand = [(plan.sinks, NOTIFY), (plan.hub, SYNC), (plan.export, EXPORT)];
    let on_demand = on_demand.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, stage)| stage);
    STAGES.into_iter().chain([INDEX]).chain(on_demand)
}

/// Every stage process of a gateway whose bus is at `url`.
///
/// # Errors
/// If a binary is not there.
pub fn workers(plan: &Plan, url: &str) -> Result<Vec<Worker>, UpError> {
    let mut workers = Vec::new();
    for (stage, sharded) in wanted(plan) {
        let binary = plan.config.machine.binary(&format!("eddy-{stage}"), TABLE)?;
        for shard in 0..if sharded { plan.shards } else { 1 } {
            let name = if plan.shards > 1 && sharded { format!("{stage}-{shard}") } else { stage.to_owned() };
            workers.push(worker(plan, url, &binary, stage, name, shard));
        }
    }
    Ok(workers)
}

/// Notes where the stages that run elsewhere serve their telemetry.
pub fn elsewhere(plan: &Plan, register: &Register) {
    let at = &plan.config.access.stages_at;
    if at.is_empty() {
        return;
    }
    register.update(|file| {
        for (stage, _) in wanted(plan) {
            file.http.insert(stage.to_owned(), at.replace("{stage}", stage));
        }
    });
}

fn worker(plan: &Plan, url: &str, binary: &Path, stage: &str, name: String, shard: u32) -> Worker {
    let mut environment = vec![
        ("EDDY_BUS_URL".to_owned(), url.into()),
        ("EDDY_SITE_NAME".to_owned(), plan.site.as_str().into()),
        ("EDDY_SITE_SHARD".to_owned(), shard.to_string().into()),
        ("EDDY_SITE_SHARDS".to_owned(), plan.shards.to_string().into()),
        ("EDDY_STATE_DIR".to_owned(), plan.dir.join("state").into()),
    ];
    environment.extend(plan.key_of(stage).map(|key| ("EDDY_BUS_NKEY_FILE".to_owned(), key.into())));
    environment.extend(bundle::further(plan));
    if !plan.own_bundle {
        environment.extend(bundle::environment(&bundle::default_place(&plan.dir), &plan.trusted_keys()));
    }
    environment.extend(plan.environment.iter().cloned());
    Worker::new(&plan.dir, name, binary.to_owned(), plan.config_file.as_deref(), environment)
}
