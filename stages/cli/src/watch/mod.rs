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

use std::{path::PathBuf, sync::Arc, time::Duration};

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
    view::View,
};
use crate::{alerts::alerts_of, gateway::Gateway};

/// Messages that wait to be taken in; past them the followers wait.
const WAITING_MAX: usize = 1_024;
/// What comes within this is shown at once.
const GATHER: Duration = Duration::from_millis(50);
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
}

impl Watcher {
    /// Of a gateway; its folder is `dir`, if it is on this machine.
    pub fn start(gateway: Gateway, dir: PathBuf) -> Self {
        let site = gateway.site_token();
        let (news, came) = mpsc::channel(WAITING_MAX);
        let mut tasks = JoinSet::new();
        let followed: [(&'static str, String, Kind); 4] = [
            ("DETECTIONS", alerts_of(&gateway), News::Alert),
            ("CONTEXT", format!("context.{site}.>"), News::Context),
            ("CONTROL", format!("control.{site}.>"), News::Control),
            (models::STREAM, models::state_subject(&site), News::Rollout),
        ];
        for (stream, filter, kind) in followed {
            tasks.spawn(follow(gateway.clone(), stream, filter, kind, news.clone()));
        }
        let first = View { site: gateway.site.clone(), url: gateway.client.url().to_owned(), ..View::default() };
        tasks.spawn(pulse(Pulse::new(gateway, dir), news));
        let (show, view) = watch::channel(Arc::new(first.clone()));
        tasks.spawn(gather(first, came, show));
        Self { view, _tasks: tasks }
    }

    /// Follows the view. Every receiver sees the newest one, and may miss some between.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }
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
            Err(problem) => News::Trouble(problem.to_string()),
        };
        let failed = matches!(told, News::Trouble(_));
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
        News::Control(message) => drop(Control::parse(&message.payload).map(|control| board.control(control))),
        News::Rollout(message) => drop(serde_json::from_slice(&message.payload).map(|state| board.rollout(&state))),
        News::Pulse(pulse) => *view = *pulse,
        News::Trouble(problem) => view.trouble = Some(problem),
    }
}
