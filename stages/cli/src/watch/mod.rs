//! What an operator sees and does, whatever they look through: `eddy top` and `eddy console` stand on it.
//!
//! [`Watcher`] keeps a [`View`] up to date: four streams are followed into a [`board::Board`], and once a second the [`mod@pulse`] is taken.
//! [`plots`] reads an alert's curves when somebody looks at it, [`act`] says what somebody decided. Nothing here changes what the
//! pipeline does but by controls, and nothing is stored: a watcher that is started anew reads the streams again.

pub mod act;
pub mod board;
pub mod plots;
mod pulse;
mod scrape;
pub mod view;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use eddy_runtime::client::{ClientError, ReadFrom, StoredMessage};
use eddy_schemas::{Control, models};
use futures_util::StreamExt as _;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use self::{
    board::{Board, Place},
    pulse::Pulse,
    view::{StageView, View},
};
use crate::{alerts::alerts_of, gateway::Gateway};

/// Messages that wait to be taken in; past them the followers wait.
const WAITING_MAX: usize = 1_024;
/// What comes within this is shown at once.
const GATHER: Duration = Duration::from_millis(50);
/// How often it is looked whether the streams are still the same.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// The streams that are followed.
const STREAMS: [&str; 4] = ["DETECTIONS", "CONTEXT", "CONTROL", models::STREAM];
/// After something failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps a view up to date as long as it lives.
pub struct Watcher {
    view: watch::Receiver<Arc<View>>,
    _tasks: JoinSet<()>,
}

/// Makes news of a message.
type Kind = fn(Box<StoredMessage>) -> News;

/// What came.
enum News {
    Alert(Box<StoredMessage>),
    Context(Box<StoredMessage>),
    Control(Box<StoredMessage>),
    Rollout(Box<StoredMessage>),
    Pulse(Box<View>),
    Trouble(String),
    /// The gateway does not answer.
    Lost(String),
}

impl Watcher {
    /// Of a gateway; its folder is `dir`, if it is on this machine.
    pub fn start(gateway: Gateway, dir: PathBuf) -> Self {
        let first = View { site: gateway.site.clone(), url: gateway.client.url().to_owned(), ..View::default() };
        let (show, view) = watch::channel(Arc::new(first));
        let mut tasks = JoinSet::new();
        tasks.spawn(keep(gateway, dir, show));
        Self { view, _tasks: tasks }
    }

    /// Follows the view. Every receiver sees the newest one, and may miss some between.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }
}

/// Watches, and begins anew when the streams do: those of a gateway that was made anew or restored are others of the same names.
async fn keep(gateway: Gateway, dir: PathBuf, show: watch::Sender<Arc<View>>) {
    loop {
        // They end with the turn.
        let _tasks = watch_once(&gateway, &dir, &show);
        made_anew(&gateway).await;
    }
}

fn watch_once(gateway: &Gateway, dir: &Path, show: &watch::Sender<Arc<View>>) -> JoinSet<()> {
    let site = gateway.site_token();
    let (news, came) = mpsc::channel(WAITING_MAX);
    let mut tasks = JoinSet::new();
    let followed: [(&'static str, String, Kind); 4] = [
        (STREAMS[0], alerts_of(gateway), News::Alert),
        (STREAMS[1], format!("context.{site}.>"), News::Context),
        (STREAMS[2], format!("control.{site}.>"), News::Control),
        (STREAMS[3], models::state_subject(&site), News::Rollout),
    ];
    for (stream, filter, kind) in followed {
        tasks.spawn(follow(gateway.clone(), stream, filter, kind, news.clone()));
    }
    let first = View { site: gateway.site.clone(), url: gateway.client.url().to_owned(), ..View::default() };
    tasks.spawn(pulse(Pulse::new(gateway.clone(), dir.to_owned()), news));
    tasks.spawn(gather(first, came, show.clone()));
    tasks
}

/// Returns once a stream that is followed is another one than before, or ends before it did.
async fn made_anew(gateway: &Gateway) {
    let mut known: Vec<(i64, u64)> = Vec::new();
    loop {
        let mut now = Vec::new();
        for stream in STREAMS {
            // While the gateway does not answer nothing is known.
            let info = gateway.client.stream(stream).await.ok().flatten();
            now.extend(info.map(|info| (info.incarnation, info.last_sequence)));
        }
        if now.len() == STREAMS.len() {
            if is_anew(&known, &now) {
                return;
            }
            known = now;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Of each stream its incarnation and its last sequence, before and now.
fn is_anew(known: &[(i64, u64)], now: &[(i64, u64)]) -> bool {
    known.iter().zip(now).any(|(known, now)| known.0 != now.0 || now.1 < known.1)
}

/// Hands on what lies in a stream and what comes, over every interruption.
async fn follow(gateway: Gateway, stream: &'static str, filter: String, kind: Kind, news: mpsc::Sender<News>) {
    let mut next = ReadFrom::Start;
    loop {
        let ended = followed(&gateway, (stream, &filter), &mut next, kind, &news).await;
        match ended {
            Ok(()) => return,
            Err(problem) if news.send(News::Trouble(format!("{stream}: {problem}"))).await.is_err() => return,
            Err(_) => sleep(AGAIN).await,
        }
    }
}

/// `Ok`: nobody listens any more.
async fn followed(
    gateway: &Gateway,
    (stream, filter): (&str, &str),
    next: &mut ReadFrom,
    kind: Kind,
    news: &mpsc::Sender<News>,
) -> Result<(), ClientError> {
    let mut messages = gateway.client.follow(stream, &[filter], *next).await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        *next = ReadFrom::Sequence(message.sequence + 1);
        if news.send(kind(Box::new(message))).await.is_err() {
            return Ok(());
        }
    }
    Err(ClientError::TimedOut { what: format!("following {stream}") })
}

async fn pulse(mut pulse: Pulse, news: mpsc::Sender<News>) {
    loop {
        let told = match pulse.look().await {
            Ok(view) => News::Pulse(Box::new(view)),
            Err(problem) => News::Lost(problem.to_string()),
        };
        let failed = matches!(told, News::Lost(_));
        if news.send(told).await.is_err() {
            return;
        }
        if failed {
            sleep(AGAIN).await;
        }
    }
}

/// Takes in what comes, and shows it.
async fn gather(mut view: View, mut came: mpsc::Receiver<News>, show: watch::Sender<Arc<View>>) {
    let mut board = Board::default();
    while let Some(first) = came.recv().await {
        take(&mut view, &mut board, first);
        // What lies in the streams comes in thousands: it is shown as it comes, but not each by itself.
        sleep(GATHER).await;
        while let Ok(more) = came.try_recv() {
            take(&mut view, &mut board, more);
        }
        let now = crate::now();
        (view.alerts, view.maintenance) = (board.show(now), board.maintenance(now));
        if show.send(Arc::new(view.clone())).is_err() {
            return;
        }
    }
}

/// What is none of what it should be is left out: `eddy status` tells of dead letters.
fn take(view: &mut View, board: &mut Board, news: News) {
    match news {
        News::Alert(message) => {
            let place = Place { sequence: message.sequence, stored_at: message.stored_at };
            if let Ok(event) = serde_json::from_slice(&message.payload) {
                board.alert(event, place);
            }
        }
        News::Context(message) => drop(serde_json::from_slice(&message.payload).map(|context| board.context(context))),
        News::Control(message) => {
            drop(Control::parse(&message.payload).map(|control| board.control(control, message.stored_at)))
        }
        News::Rollout(message) => drop(serde_json::from_slice(&message.payload).map(|state| board.rollout(&state))),
        News::Pulse(pulse) => *view = *pulse,
        News::Trouble(problem) => view.trouble = Some(problem),
        News::Lost(problem) => {
            view.trouble = Some(problem);
            // What they did is no sign that they do.
            for stage in &mut view.stages {
                *stage = StageView { name: std::mem::take(&mut stage.name), ..StageView::default() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_were_made_anew_or_set_back_are_others() {
        let known = [(1, 10), (1, 0)];
        assert!(!is_anew(&[], &known), "the first look");
        assert!(!is_anew(&known, &[(1, 12), (1, 0)]));
        assert!(is_anew(&known, &[(2, 12), (1, 0)]) && is_anew(&known, &[(1, 9), (1, 0)]));
    }

    #[test]
    fn of_a_gateway_that_is_away_no_stage_reads() {
        let stage = StageView { name: "detect".into(), state: view::StageState::Reading, ..StageView::default() };
        let mut view = View { stages: vec![stage], ..View::default() };
        take(&mut view, &mut Board::default(), News::Lost("nobody answers".into()));
        assert_eq!((view.stages[0].name.as_str(), view.stages[0].state), ("detect", view::StageState::Away));
        assert_eq!(view.trouble.as_deref(), Some("nobody answers"));
    }
}
