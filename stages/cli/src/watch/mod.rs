//! What an operator sees and does, whatever they look through: `eddy top` and `eddy console` stand on it.
//!
//! [`Watcher`] keeps a [`View`] up to date: six streams are followed and folded (alerts into a [`board::Board`]), and once a second the [`mod@pulse`] is taken.
//! [`plots`] reads an alert's curves when somebody looks at it, [`act`] says what somebody decided. Nothing here changes what the
//! pipeline does but by controls, and nothing is stored: a watcher that is started anew reads the streams again.

pub mod act;
pub mod board;
pub mod plots;
mod pulse;
mod scrape;
pub mod view;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use eddy_runtime::client::{ClientError, ReadFrom, StoredMessage};
use eddy_schemas::{
    Control, Timestamp,
    alert::CloudEvent,
    context::Context,
    health::Health,
    models::{self, State},
};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
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
use crate::{
    alerts::alerts_of,
    gateway::Gateway,
    status::{
        Aside,
        fold::{Conditions, aside_of},
        gather,
    },
};

/// Messages that wait to be taken in; past them the followers wait.
const WAITING_MAX: usize = 1_024;
/// What comes within this is shown at once.
const GATHER: Duration = Duration::from_millis(50);
/// How often it is looked whether the streams are still the same.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// The streams that are followed.
const STREAMS: [&str; 6] = ["DETECTIONS", "CONTEXT", "CONTROL", models::STREAM, "HEALTH", "SIDE"];
/// After something failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps a view up to date as long as it lives.
pub struct Watcher {
    view: watch::Receiver<Arc<View>>,
    _tasks: JoinSet<()>,
}

/// Makes news of a message, unless it is none of what it should be: `eddy status` tells of dead letters.
type Kind = fn(&StoredMessage) -> Option<News>;

/// A stream, the subjects of it that are followed, and what its messages say.
struct Followed {
    stream: &'static str,
    filters: Vec<String>,
    kind: Kind,
}

/// What came.
enum News {
    Alert(Box<CloudEvent>, Place),
    Context(Box<Context>),
    /// And when it was stored.
    Control(Box<Control>, Timestamp),
    Rollout(State),
    Condition(Health),
    Aside(String, Aside),
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
    let (news, came) = mpsc::channel(WAITING_MAX);
    let mut tasks = JoinSet::new();
    for one in followed_of(gateway) {
        tasks.spawn(follow(gateway.clone(), one, news.clone()));
    }
    let first = View { site: gateway.site.clone(), url: gateway.client.url().to_owned(), ..View::default() };
    tasks.spawn(pulse(Pulse::new(gateway.clone(), dir.to_owned()), news));
    tasks.spawn(take_in(first, came, show.clone()));
    tasks
}

/// What is followed; [`STREAMS`] names the streams.
fn followed_of(gateway: &Gateway) -> [Followed; STREAMS.len()] {
    let site = gateway.site_token();
    let [detections, context, control, bundles, health, side] = STREAMS;
    let one = |stream, filters: &[String], kind| Followed { stream, filters: filters.to_vec(), kind };
    [
        one(detections, &[alerts_of(gateway)], |message: &StoredMessage| {
            let place = Place { sequence: message.sequence, stored_at: message.stored_at };
            Some(News::Alert(read(message)?, place))
        }),
        one(context, &[format!("context.{site}.>")], |message| read(message).map(News::Context)),
        one(control, &[format!("control.{site}.>")], |message| {
            Some(News::Control(Box::new(Control::parse(&message.payload).ok()?), message.stored_at))
        }),
        one(bundles, &[models::state_subject(&site)], |message| read(message).map(News::Rollout)),
        one(health, &[format!("health.{site}.>")], |message| read(message).map(News::Condition)),
        one(side, &gather::side_of(gateway), |message| {
            let (stage, aside) = aside_of(message);
            Some(News::Aside(stage, aside))
        }),
    ]
}

fn read<T: DeserializeOwned>(message: &StoredMessage) -> Option<T> {
    serde_json::from_slice(&message.payload).ok()
}

/// Returns once a stream that is followed is another one than before, ends before it did, or has dropped what nobody here has read.
async fn made_anew(gateway: &Gateway) {
    let mut known: Vec<Ends> = Vec::new();
    loop {
        let mut now = Vec::new();
        for stream in STREAMS {
            // While the gateway does not answer nothing is known.
            let info = gateway.client.stream(stream).await.ok().flatten();
            now.extend(info.map(|info| (info.incarnation, info.first_sequence, info.last_sequence)));
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

/// A stream's incarnation, its first and its last sequence.
type Ends = (i64, u64, u64);

/// Before and now.
fn is_anew(known: &[Ends], now: &[Ends]) -> bool {
    let is_other = |(known, now): (&Ends, &Ends)| known.0 != now.0 || now.2 < known.2 || now.1 > known.2 + 1;
    known.iter().zip(now).any(is_other)
}

/// Hands on what lies in a stream and what comes, over every interruption.
async fn follow(gateway: Gateway, followed: Followed, news: mpsc::Sender<News>) {
    let mut next = ReadFrom::Start;
    loop {
        let ended = follow_once(&gateway, &followed, &mut next, &news).await;
        match ended {
            Ok(()) => return,
            Err(problem) => {
                let told = News::Trouble(format!("{}: {problem}", followed.stream));
                if news.send(told).await.is_err() {
                    return;
                }
                sleep(AGAIN).await;
            }
        }
    }
}

/// `Ok`: nobody listens any more.
async fn follow_once(
    gateway: &Gateway,
    followed: &Followed,
    next: &mut ReadFrom,
    news: &mpsc::Sender<News>,
) -> Result<(), ClientError> {
    let filters: Vec<&str> = followed.filters.iter().map(String::as_str).collect();
    let mut messages = gateway.client.follow(followed.stream, &filters, *next).await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        *next = ReadFrom::Sequence(message.sequence + 1);
        if let Some(told) = (followed.kind)(&message)
            && news.send(told).await.is_err()
        {
            return Ok(());
        }
    }
    Err(ClientError::TimedOut { what: format!("following {}", followed.stream) })
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
async fn take_in(view: View, mut came: mpsc::Receiver<News>, show: watch::Sender<Arc<View>>) {
    let mut seen = Folds { view, ..Folds::default() };
    while let Some(first) = came.recv().await {
        seen.take(first);
        // What lies in the streams comes in thousands: it is shown as it comes, but not each by itself.
        sleep(GATHER).await;
        while let Ok(more) = came.try_recv() {
            seen.take(more);
        }
        if show.send(Arc::new(seen.show(crate::now()))).is_err() {
            return;
        }
    }
}

/// What is folded from the streams, and the last pulse.
#[derive(Default)]
struct Folds {
    view: View,
    board: Board,
    conditions: Conditions,
    aside: BTreeMap<String, Aside>,
}

impl Folds {
    fn take(&mut self, news: News) {
        match news {
            News::Alert(event, place) => self.board.alert(*event, place),
            News::Context(context) => self.board.context(*context),
            News::Control(control, stored_at) => self.board.control(*control, stored_at),
            News::Rollout(state) => self.board.rollout(&state),
            News::Condition(health) => self.conditions.take(health),
            News::Aside(stage, aside) => self.aside.entry(stage).or_default().add(aside),
            News::Pulse(pulse) => self.view = *pulse,
            News::Trouble(problem) => self.view.trouble = Some(problem),
            News::Lost(problem) => {
                self.view.trouble = Some(problem);
                // What they did is no sign that they do.
                for stage in &mut self.view.stages {
                    *stage = StageView { name: std::mem::take(&mut stage.name), ..StageView::default() };
                }
            }
        }
    }

    fn show(&self, now: Timestamp) -> View {
        View {
            alerts: self.board.show(now),
            maintenance: self.board.maintenance(now),
            conditions: self.conditions.active(),
            aside: self.aside.clone(),
            ..self.view.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_were_made_anew_set_back_or_went_on_unseen_are_others() {
        let known = [(1, 3, 10), (1, 1, 0)];
        assert!(!is_anew(&[], &known), "the first look");
        assert!(!is_anew(&known, &[(1, 11, 12), (1, 1, 0)]));
        assert!(is_anew(&known, &[(2, 3, 12), (1, 1, 0)]) && is_anew(&known, &[(1, 3, 9), (1, 1, 0)]));
        assert!(is_anew(&known, &[(1, 12, 20), (1, 1, 0)]), "11 was dropped, and may have been the end of a condition");
    }

    #[test]
    fn of_a_gateway_that_is_away_no_stage_reads() {
        let stage = StageView { name: "detect".into(), state: view::StageState::Reading, ..StageView::default() };
        let mut seen = Folds { view: View { stages: vec![stage], ..View::default() }, ..Folds::default() };
        seen.take(News::Lost("nobody answers".into()));
        let view = seen.show(0);
        assert_eq!((view.stages[0].name.as_str(), view.stages[0].state), ("detect", view::StageState::Away));
        assert_eq!(view.trouble.as_deref(), Some("nobody answers"));
    }
}
