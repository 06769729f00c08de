//! `eddy top`: a gateway at a glance, in a terminal.
//!
//! [`State`] is what is shown and what keys do to it, [`draw`] draws it, [`Screen`] is the terminal; here is the loop that brings them
//! together with what [`crate::watch`] sees. It draws when something changed, and sends the terminal only what is different.

pub mod curves;
pub mod deed;
pub mod draw;
pub mod look;
pub mod picture;
pub mod prompt;
pub mod screen;
pub mod state;
pub mod table;
pub mod words;

#[cfg(test)]
mod sample;

use std::{io::IsTerminal as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use nix::unistd::{Uid, User};
use ratatui::{
    buffer::Buffer,
    crossterm::event::{Event, KeyEventKind},
    layout::Rect,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use self::{
    curves::Reader,
    deed::Deed,
    look::Look,
    screen::Screen,
    state::{Ask, Pane, State},
};
use crate::{
    gateway::{Gateway, GatewayArgs},
    output,
    watch::{
        Watcher,
        act::{self, Operator},
        view::View,
    },
};

/// Between two frames that news alone ask for.
const FRAME: Duration = Duration::from_millis(200);
/// `--once`: where so long nothing new comes all that there is was read.
const QUIET: Duration = Duration::from_millis(500);
/// How long that, or somebody's word, is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// `--once`, where nothing says how large: every terminal has as much.
const SIZE: (u16, u16) = (80, 24);

/// Top's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// Who acknowledges, labels and maintains [default: the user of this machine]
    #[arg(long = "as", value_name = "NAME", value_parser = act::name_of)]
    pub who: Option<String>,
    /// What is shown first
    #[arg(long, value_enum, default_value_t)]
    pub pane: Pane,
    /// Only alerts with this in device, cause, label or severity
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub filter: String,
    /// Print one frame as text, and end: for scripts; no terminal is needed
    #[arg(long)]
    pub once: bool,
    /// How large that frame is [default: as the terminal, else 80x24]
    #[arg(long, value_name = "COLUMNSxROWS", value_parser = parse_size, requires = "once")]
    pub size: Option<(u16, u16)>,
    /// Write that frame as a picture instead
    #[arg(long, value_name = "FILE", requires = "once")]
    pub svg: Option<PathBuf>,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

fn parse_size(text: &str) -> Result<(u16, u16), String> {
    let size = text.split_once('x').and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)));
    let is_sound = |(columns, rows): &(u16, u16)| (1..=1_000).contains(columns) && (1..=1_000).contains(rows);
    size.filter(is_sound).ok_or_else(|| "expected columns and rows up to 1000, like 80x24".into())
}

/// The command.
///
/// # Errors
/// If the gateway does not answer, or there is no terminal.
pub async fn run(args: &TopArgs) -> anyhow::Result<()> {
    let is_terminal = std::io::stdout().is_terminal();
    anyhow::ensure!(
        args.once || is_terminal,
        "standard output is no terminal: `eddy top --once` prints one frame as text, `eddy status --json` has all of it for programs"
    );
    let gateway = args.gateway.connect().await?;
    let dir = args.gateway.bus.dir.clone();
    let who = args.who.clone().unwrap_or_else(user);
    let state = State::new(&who, args.pane, &args.filter);
    let watcher = Watcher::start(gateway.clone(), dir.clone());
    if args.once {
        return once(args, state, &gateway, watcher).await;
    }
    let operator = Operator::new(gateway.clone(), &dir, "top", who);
    live(state, gateway, operator, watcher).await
}

/// As this machine calls them.
fn user() -> String {
    let uid = Uid::current();
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// Shows one frame.
async fn once(args: &TopArgs, mut state: State, gateway: &Gateway, watcher: Watcher) -> anyhow::Result<()> {
    let view = settled(watcher.views()).await;
    anyhow::ensure!(view.at > 0, "{}", view.trouble.as_deref().unwrap_or("the gateway does not answer"));
    let terminal = ratatui::crossterm::terminal::size().ok().filter(|_| std::io::stdout().is_terminal());
    state.size = args.size.or(terminal).unwrap_or(SIZE);
    state.take(view);
    if let Some(alert) = state.looked_at() {
        let read = curves::read(gateway, alert).await;
        state.curves.take(read);
    }
    let area = Rect::new(0, 0, state.size.0, state.size.1);
    let mut buffer = Buffer::empty(area);
    draw::draw(&state, Look::of_environment(), area, &mut buffer);
    match &args.svg {
        Some(path) => std::fs::write(path, picture::svg(&buffer)).with_context(|| path.display().to_string())?,
        None => picture::text(&buffer).iter().for_each(|line| output::line(line)),
    }
    Ok(())
}

/// A view with all that lies in the streams: the gateway's pulse is there, and nothing more comes.
async fn settled(mut views: watch::Receiver<Arc<View>>) -> Arc<View> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let is_there = views.borrow_and_update().at > 0;
        let quiet = if is_there { Instant::now() + QUIET } else { deadline };
        if !matches!(timeout_at(quiet.min(deadline), views.changed()).await, Ok(Ok(()))) {
            return views.borrow().clone();
        }
    }
}

/// Shows what there is until somebody ends it.
async fn live(mut state: State, gateway: Gateway, operator: Operator, watcher: Watcher) -> anyhow::Result<()> {
    let look = Look::of_environment();
    let mut ends = Ends::new()?;
    let mut screen = Screen::open().context("the terminal cannot be used")?;
    let (mut events, mut views, mut reader) = (screen::events(), watcher.views(), Reader::start(gateway));
    // One thing is done at a time.
    let mut deeds: JoinSet<Result<String, String>> = JoinSet::new();
    let mut next_frame = Instant::now();
    loop {
        let size = screen.terminal.size()?;
        state.size = (size.width, size.height);
        screen.terminal.draw(|frame| draw::draw(&state, look, frame.area(), frame.buffer_mut()))?;
        reader.look(&state.curves, state.looked_at());
        let changed = async {
            sleep_until(next_frame).await;
            views.changed().await
        };
        let ask = tokio::select! {
            event = events.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => state.key(key),
                Some(Event::Paste(text)) => { state.paste(&text); None }
                Some(_) => None,
                None => Some(Ask::Quit),
            },
            changed = changed => {
                changed.context("nothing is seen of the gateway any more")?;
                state.take(views.borrow_and_update().clone());
                next_frame = Instant::now() + FRAME;
                None
            }
            Some(read) = reader.read.recv() => { state.curves.take(read); None }
            Some(done) = deeds.join_next() => { state.done(done.unwrap_or_else(|ended| Err(ended.to_string()))); None }
            () = ends.asked() => Some(Ask::Quit),
        };
        match ask {
            None => {}
            Some(Ask::Quit) => break,
            Some(Ask::Redraw) => screen.terminal.clear()?,
            Some(Ask::Do(deed)) => drop(deeds.spawn(carry_out(deed, operator.clone()))),
        }
    }
    drop(screen);
    // What was confirmed is done, and said if it is not.
    while let Some(done) = deeds.join_next().await {
        done?.map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

async fn carry_out(deed: Deed, operator: Operator) -> Result<String, String> {
    let done = async { deed.carry_out(&operator).await.map(|said| said + operator.unaudited()) };
    match timeout(PATIENCE, done).await {
        Ok(done) => done.map_err(|problem| format!("{problem:#}")),
        Err(_) => Err(format!("no answer within {} s: it may have been done", PATIENCE.as_secs())),
    }
}

/// Signals that end it: the terminal is given back first.
struct Ends([tokio::signal::unix::Signal; 3]);

impl Ends {
    fn new() -> std::io::Result<Self> {
        Ok(Self([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?]))
    }

    async fn asked(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_columns_and_rows() {
        assert_eq!(parse_size("80x24"), Ok((80, 24)));
        for wrong in ["", "80", "0x24", "80x24x1", "-1x5", "5000x5"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn somebody_has_a_name() {
        assert!(!user().is_empty());
    }
}
