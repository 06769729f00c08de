//! `eddy console`: the operator's view in a browser, served by a process of its own.
//!
//! [`live`] keeps the view, [`shown`] cuts it to what a page gets, [`events`] sends it as it changes, [`acts`] takes what somebody
//! decided; [`mod@access`] is asked before all of them. The page is three kinds of files in `page/`, and asks no other host.

mod access;
mod acts;
mod events;
mod live;
mod routes;
mod shown;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use eddy_runtime::listener::Bounded;
use tokio::net::{TcpListener, TcpSocket};

use self::{access::Access, live::Live, routes::Console};
use crate::{gateway::GatewayArgs, output, supervise::Signals, watch::act};

/// Connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 64;
/// A connection on which nothing could be written for so long is closed.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Bytes that the kernel keeps of an answer: what a slow browser is behind by.
const SEND_BUFFER: u32 = 64 << 10;
/// Connections that wait to be taken.
const BACKLOG: u32 = 64;

/// Console's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct ConsoleArgs {
    /// Where to listen; other than on loopback only with --token-file
    #[arg(long, env = "EDDY_CONSOLE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8087")]
    pub listen: SocketAddr,
    /// Further names by which browsers may reach it, as of a proxy before it
    #[arg(long, env = "EDDY_CONSOLE_HOSTS", value_name = "NAME", value_delimiter = ',')]
    pub host: Vec<String>,
    /// Who acts there, as it stands in controls and in the audit log
    #[arg(long = "as", env = "USER", value_name = "NAME", default_value = "operator")]
    pub who: String,
    /// A file with one line, which everybody must know who asks; read again when it changes
    #[arg(long, env = "EDDY_CONSOLE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// On a bad command line or token stay and wait until the token's file changes: for what starts again whatever ends, as Docker does
    #[arg(long)]
    pub hold: bool,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What of the command line cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// The command; it runs until it is asked to stop.
///
/// # Errors
/// [`Refused`], that the address is taken, or that no gateway answers.
pub async fn run(args: &ConsoleArgs) -> anyhow::Result<()> {
    let access = access(args)?;
    let mut signals = Signals::new()?;
    let live = Live::start(args.gateway.clone()).await?;
    let listener = listen(args.listen).with_context(|| format!("--listen {}", args.listen))?;
    let bound = listener.local_addr()?;
    let site = output::printable(&live.gateway().site);
    output::line(&format!("console of site {site}: http://{bound}/ (acts as {})", output::printable(&args.who)));
    let console = Arc::new(Console::new(live, access, args.who.clone(), args.gateway.bus.dir.clone()));
    let bounded = Bounded::new(listener, CONNECTIONS_MAX, ANSWER_WITHIN);
    let served = axum::serve(bounded, routes::routes(console));
    // Streams of events never end by themselves: they end with the process.
    signals.or(served.into_future()).await.unwrap_or(Ok(())).map_err(anyhow::Error::from)
}

fn access(args: &ConsoleArgs) -> Result<Access, Refused> {
    if !args.listen.ip().is_loopback() && args.token_file.is_none() {
        return Err(Refused(format!(
            "--listen {}: whoever reaches that address could act on the gateway: name a --token-file, or listen on 127.0.0.1 and \
             reach it by `ssh -L`",
            args.listen
        )));
    }
    act::name_of(&args.who).map_err(|problem| Refused(format!("--as {:?}: {problem}", args.who)))?;
    Access::new(args.listen.ip(), &args.host, args.token_file.as_deref()).map_err(Refused)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
