//! `eddy health`: is the machine whose supervisor runs here well? For containers and scripts.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::{
    gateway::{BusArgs, DEFAULT_DIR, GatewayFile},
    hub::HubFile,
    output,
    supervise::{http, register::MachineFile},
};

const TIMEOUT: Duration = Duration::from_secs(3);

/// Health's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    /// The folder that `eddy up` or `eddy hub up` was started with
    #[arg(long, env = "EDDY_GATEWAY_DIR", value_name = "DIR", default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
    /// Ask the `eddy console` that listens at this address instead
    #[arg(long, value_name = "ADDRESS")]
    pub console: Option<SocketAddr>,
}

/// The command.
///
/// # Errors
/// What is not well.
pub async fn run(args: &HealthArgs) -> anyhow::Result<()> {
    if let Some(console) = args.console {
        let (code, said) = http::health(&console.to_string(), TIMEOUT).await.with_context(|| console.to_string())?;
        ensure!(code == 200, "the console at {console} says {code}: {said}");
        output::line("well");
        return Ok(());
    }
    let dir = args.dir.display();
    if let Some(hub) = HubFile::read(&args.dir) {
        machine(&hub.machine).await?;
    } else {
        let file = GatewayFile::read(&args.dir);
        let file = file.with_context(|| format!("{dir} holds no gateway.json and no hub.json: nothing runs there"))?;
        machine(&file.machine).await?;
        // A server may answer before its streams are there.
        let bus = BusArgs { dir: args.dir.clone(), ..BusArgs::default() };
        let gateway = bus.connect(None).await?;
        ensure!(gateway.client.stream("SIDE").await?.is_some(), "{dir}: the streams are not there yet");
    }
    output::line("well");
    Ok(())
}

/// The server answers, and nothing was given up.
async fn machine(file: &MachineFile) -> anyhow::Result<()> {
    let address = file.monitoring.trim_start_matches("http://");
    let (code, said) = http::health(address, TIMEOUT).await.with_context(|| format!("nats-server at {address}"))?;
    ensure!(code == 200, "nats-server says {code}: {said}");
    let given_up: Vec<_> = file.given_up.iter().map(|(name, ending)| format!("{name} ({ending})")).collect();
    ensure!(given_up.is_empty(), "given up: {}", given_up.join(", "));
    Ok(())
}
