//! `eddy model push`, `list`, `activate`, `rollback` and `follow`: what people say of bundles, to a gateway or to the region.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};
use eddy_runtime::{bundle::Library, client::Object};
use eddy_schemas::{
    control::is_digest,
    models::{self, BUCKET, DESIRED_BUCKET, Desired, FILES, FOR_ALL, Phase, STREAM},
};
use serde::Serialize;

use super::{
    follow::Follower,
    seen::{self, Seen},
    short,
};
use crate::{
    gateway::{Gateway, GatewayArgs},
    hub, output,
    up::{self, bundle},
};

const PUSH: &str = "\
Examples:
  eddy model push new --trusted site.pub                     to the hub in ./.hub
  eddy model push new --trusted site.pub --hub tls://hub:4322    with EDDY_BUS_TLS_CA_FILE, _CERT_FILE and _KEY_FILE of the hub's
  eddy model activate 5f0c --hub .hub                        and then every gateway takes it that trusts the key

Exit codes:
  0 it is there   1 not, with the reason   64 bad command line";

const LIST: &str = "\
Examples:
  eddy model list
  eddy model list --json | jq '.seen.shadow'
  eddy model list --hub .hub                                 what was pushed

A line is: the digest's beginning, whether it judges or runs in the shadow, name and version, or why it cannot be used.";

const ACTIVATE: &str = "\
Examples:
  eddy model activate new                                    a folder: taken into the gateway's bundles first
  eddy model activate 5f0c3a9e                               one that is there
  eddy model activate 5f0c3a9e --now                         no rehearsal, no shadow
  eddy model activate 5f0c3a9e --hub .hub --for 'plant 2'    at the region, for one of its gateways

It is verified, rehearsed on the newest readings, and learns in the shadow until most series are past commissioning: with a reading
every five minutes that takes a day and a half. [gateway.rollout] has the limits. Alerts name the bundle that judged.

Exit codes:
  0 it judges, or is on its way   1 it was refused, and the one before goes on   64 bad command line";

const ROLLBACK: &str = "\
Examples:
  eddy model rollback

The bundle before has gone on in the shadow, so it knows all there is to know. While another one is tried there, the trial is given up:
it took the place of the bundle before.

Exit codes:
  0 it judges again   1 there is none to go back to   64 bad command line";

const FOLLOW: &str = "\
Examples:
  eddy model follow --url nats://bus:4222 --site plant-1 --dir /var/lib/eddy

One for each gateway that is not run by `eddy up`. DIR/bundles is its folder of bundles, where the stages find them too.";

/// Bundles of gateways and of the region.
#[derive(Clone, Debug, Subcommand)]
pub enum RolloutCommand {
    /// Bring a signed bundle to the region, from where every gateway takes it
    #[command(after_help = PUSH)]
    Push(PushArgs),
    /// Print the bundles of a gateway, which of them judges, and how far a wished one is
    #[command(after_help = LIST)]
    List(ListArgs),
    /// Want a bundle: it is verified, rehearsed, runs in the shadow, and takes over
    #[command(after_help = ACTIVATE)]
    Activate(ActivateArgs),
    /// Go back to the bundle before, at once
    #[command(after_help = ROLLBACK)]
    Rollback(RollbackArgs),
    /// Bring about what is wanted, until it is stopped; `eddy up` does that by itself
    #[command(after_help = FOLLOW)]
    Follow(FollowArgs),
}

/// What `push` takes.
#[derive(Args, Clone, Debug)]
pub struct PushArgs {
    /// The bundle's folder
    #[arg(value_name = "DIR")]
    pub bundle: PathBuf,
    /// The region: the folder that `eddy hub up` was started with, or its bus's URL
    #[arg(long, value_name = "DIR|URL", default_value = crate::hub::DEFAULT_DIR)]
    pub hub: String,
    /// A minisign public key (base64) that must have signed it, or a .pub file; may be repeated
    #[arg(long = "trusted", value_name = "KEY", required = true)]
    pub trusted: Vec<String>,
}

/// What `list` takes.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    /// What the region holds, instead
    #[arg(long, value_name = "DIR|URL")]
    pub hub: Option<String>,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What `activate` takes.
#[derive(Args, Clone, Debug)]
pub struct ActivateArgs {
    /// A digest or the beginning of one, or a bundle's folder, which is taken into the gateway's
    #[arg(value_name = "DIGEST|DIR")]
    pub bundle: String,
    /// Without rehearsal and shadow: series alert again once they are commissioned anew
    #[arg(long)]
    pub now: bool,
    /// Seconds to wait for it; what is not done by then goes on by itself
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
    /// At the region, for its gateways: the folder that `eddy hub up` was started with, or its bus's URL
    #[arg(long, value_name = "DIR|URL")]
    pub hub: Option<String>,
    /// With --hub: for this site alone; may be repeated
    #[arg(long = "for", value_name = "SITE", requires = "hub")]
    pub sites: Vec<String>,
    /// With --hub, for every site: also for those that had a wish of their own
    #[arg(long, requires = "hub", conflicts_with = "sites")]
    pub replace: bool,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What `rollback` takes.
#[derive(Args, Clone, Debug)]
pub struct RollbackArgs {
    /// Seconds to wait for it
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What `follow` takes.
#[derive(Args, Clone, Debug)]
pub struct FollowArgs {
    /// The gateway's config file, for [gateway.rollout]
    #[arg(long, env = "EDDY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// A bundle of the folder.
#[derive(Debug, Serialize)]
struct Listed {
    digest: String,
    name: String,
    version: String,
    role: &'static str,
    problem: Option<String>,
}

/// The command.
///
/// # Errors
/// Why it cannot be done.
pub async fn run(command: &RolloutCommand) -> Result<()> {
    match command {
        RolloutCommand::Push(args) => push(args).await,
        RolloutCommand::List(args) => list(args).await,
        RolloutCommand::Activate(args) => match &args.hub {
            Some(hub) => want_of_all(hub, args).await,
            None => activate(args).await,
        },
        RolloutCommand::Rollback(args) => rollback(args).await,
        RolloutCommand::Follow(args) => follow(args).await,
    }
}

/// The bundles of a gateway on this machine, as its stages trust them.
fn library(gateway: &Gateway, dir: &Path) -> Library {
    let file = gateway.file.as_ref();
    let keys = file.map(|file| file.trusted_keys.clone()).unwrap_or_default();
    Library::new(&bundle::folder(dir), &keys, file.is_some_and(|file| file.allow_unsigned))
}

async fn push(args: &PushArgs) -> Result<()> {
    let opened = eddy_runtime::bundle::Bundle::open(&args.bundle, &args.trusted, false)?;
    let client = hub::connect(&args.hub).await?;
    for name in FILES {
        let path = args.bundle.join(name);
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        client.put_object(BUCKET, &format!("{}/{name}", opened.digest), &bytes).await?;
    }
    let manifest = &opened.manifest;
    output::line(&format!("{} {} is in the region: {}", manifest.name, manifest.version, opened.digest));
    Ok(())
}

async fn list(args: &ListArgs) -> Result<()> {
    if let Some(place) = &args.hub {
        let objects = hub::connect(place).await?.objects(BUCKET).await?;
        let digests = objects.iter().filter_map(|Object { name, .. }| name.strip_suffix("/model.toml"));
        digests.filter(|digest| is_digest(digest)).for_each(output::line);
        return Ok(());
    }
    let gateway = args.gateway.connect().await?;
    let (seen, state) = (Seen::ask(&gateway).await?, seen::state(&gateway).await?);
    let library = library(&gateway, &args.gateway.bus.dir);
    let role = |digest: &str| match () {
        () if seen.active.contains(digest) => "active",
        () if seen.shadow_of(digest).is_some() => "shadow",
        () => "",
    };
    let all = library.digests().with_context(|| "the gateway's folder of bundles (--dir)")?.into_iter().map(|digest| {
        let (name, version, problem) = match library.open(&digest) {
            Ok(bundle) => (bundle.manifest.name, bundle.manifest.version, None),
            Err(error) => (String::new(), String::new(), Some(error.to_string())),
        };
        Listed { role: role(&digest), digest, name, version, problem }
    });
    let all: Vec<Listed> = all.collect();
    if args.json {
        output::line(&serde_json::json!({"bundles": all, "seen": seen, "wish": state}).to_string());
        return Ok(());
    }
    for Listed { digest, name, version, role, problem } in &all {
        let what = problem.clone().unwrap_or_else(|| format!("{name} {version}"));
        output::line(&format!("{}  {role:<6}  {what}", short(digest)));
    }
    if let Some(state) = state {
        output::line(&format!("wanted: {}: {:?}: {}", short(&state.digest), state.phase, state.reason));
    }
    Ok(())
}

/// The digest that is meant: of a folder, which is taken in, or one that is there and begins so.
fn meant(library: &Library, is_here: bool, text: &str) -> Result<String> {
    if Path::new(text).is_dir() {
        return Ok(library.install(Path::new(text))?.digest);
    }
    let known = library.digests().unwrap_or_default();
    let mut found = known.into_iter().filter(|digest| digest.starts_with(text));
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => bail!("{text:?} begins several digests: give more of it"),
        (Some(digest), None) => Ok(digest),
        // A gateway on another machine may have it, or get it from the region.
        (None, _) if is_digest(text) && !is_here => Ok(text.to_owned()),
        (None, _) => {
            bail!("{text:?} is neither a bundle's folder nor the beginning of a digest that `eddy model list` prints")
        }
    }
}

async fn activate(args: &ActivateArgs) -> Result<()> {
    let gateway = args.gateway.connect().await?;
    let is_here = gateway.file.is_some();
    let digest = meant(&library(&gateway, &args.gateway.bus.dir), is_here, &args.bundle)?;
    want(&gateway, digest, args.now, args.wait).await
}

async fn rollback(args: &RollbackArgs) -> Result<()> {
    let gateway = args.gateway.connect().await?;
    let seen = Seen::ask(&gateway).await?;
    let digest = match seen.shadow.iter().find(|report| report.was_active) {
        Some(before) => before.bundle.clone(),
        // A trial is given up by wanting what judges.
        None if !seen.shadow.is_empty() => seen.active.first().context("nothing was judged yet")?.clone(),
        None => bail!(
            "there is no bundle to go back to: none runs in the shadow; `eddy model activate DIGEST` wants any that is there"
        ),
    };
    want(&gateway, digest, true, args.wait).await
}

/// Says what is wanted of a gateway, and waits for what becomes of it.
async fn want(gateway: &Gateway, digest: String, at_once: bool, wait: u64) -> Result<()> {
    let desired = Desired { digest, origin: "cli".into(), time: crate::now(), at_once };
    let subject = models::desired_subject(&gateway.site_token());
    let wish = gateway.client.publish(&subject, &[], serde_json::to_vec(&desired)?.into()).await?;
    let (deadline, mut said) = (tokio::time::Instant::now() + Duration::from_secs(wait), String::new());
    loop {
        if let Some(state) = seen::state(gateway).await?.filter(|state| state.wish == wish) {
            let words = format!("{}: {:?}: {}", short(&state.digest), state.phase, state.reason);
            if words != said {
                output::line(&words);
                said = words;
            }
            match state.phase {
                Phase::Active => return Ok(()),
                Phase::Refused => {
                    bail!("bundle {} was refused, the one before goes on: {}", short(&state.digest), state.reason)
                }
                Phase::Waiting | Phase::Rehearsing | Phase::Shadow => {}
            }
        }
        if tokio::time::Instant::now() >= deadline {
            ensure!(
                !said.is_empty(),
                "nobody takes up what is wanted: `eddy up` does, or `eddy model follow`; it stands on stream {STREAM}"
            );
            output::line("it goes on by itself: `eddy model list` tells how far it is");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Says at the region what is wanted of its gateways.
async fn want_of_all(place: &str, args: &ActivateArgs) -> Result<()> {
    let client = hub::connect(place).await?;
    let objects = client.objects(BUCKET).await?;
    let digests = objects.iter().filter_map(|object| object.name.strip_suffix("/model.toml"));
    let found: Vec<&str> = digests.filter(|digest| digest.starts_with(&args.bundle)).collect();
    let [digest] = found[..] else {
        bail!(
            "{:?} begins {} digests of those that were pushed: `eddy model list --hub` prints them",
            args.bundle,
            found.len()
        );
    };
    let desired = Desired { digest: digest.to_owned(), origin: "cli".into(), time: crate::now(), at_once: args.now };
    let json = serde_json::to_vec(&desired)?;
    let bucket = format!("KV_{DESIRED_BUCKET}");
    let prefix = format!("$KV.{DESIRED_BUCKET}.");
    let keys = match args.sites.as_slice() {
        [] => {
            // A site's own wish goes before the one for all.
            for subject in client.subjects(&bucket, &format!("{prefix}site.>")).await?.into_keys() {
                let own = client.last(&bucket, &subject).await?.filter(|last| !last.payload.is_empty());
                if own.is_some() && args.replace {
                    client.publish(&subject, &[], Default::default()).await?;
                } else if own.is_some() {
                    let key = subject.trim_start_matches(&prefix);
                    output::line(&format!("{key}: keeps the wish that was said for it alone; --replace takes it back"));
                }
            }
            vec![FOR_ALL.to_owned()]
        }
        sites => {
            for site in sites {
                let is_known = client.stream(&eddy_schemas::sync::stream_of(site)).await?.is_some();
                ensure!(is_known, "the region knows no site {site:?}");
            }
            sites.iter().map(|site| models::key_of(site)).collect()
        }
    };
    for key in keys {
        client.publish(&format!("$KV.{DESIRED_BUCKET}.{key}"), &[], json.clone().into()).await?;
        output::line(&format!("{}: wanted of {}", short(digest), if key == FOR_ALL { "every site" } else { &key }));
    }
    Ok(())
}

async fn follow(args: &FollowArgs) -> Result<()> {
    let gateway = args.gateway.connect().await?;
    let plan = up::Plan::load(&args.gateway.bus.dir, args.config.as_deref())?;
    let library = Library::new(&bundle::folder(&plan.dir), &plan.trusted_keys(), plan.allows_unsigned());
    let follower = Follower::new(gateway, library, plan.config.rollout.clone(), plan.config_file.clone());
    tokio::select! {
        () = follower.follow(output::line) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}
