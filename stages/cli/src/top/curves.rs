//! The curves of the alert that is looked at: read beside the screen, a bounded number of them held.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    gateway::Gateway,
    watch::{
        plots::{self, Plots},
        view::AlertView,
    },
};

/// Alerts whose curves are held.
const HELD_MAX: usize = 32;
/// Whoever goes past an alert sooner does not look at it.
const GLANCE: Duration = Duration::from_millis(150);
/// Curves that are not there by then are given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which curves: of this alert; with its neighbours, if they are known.
pub type Key = (String, bool);

fn key(alert: &AlertView) -> Key {
    (alert.alert.clone(), alert.known.is_some())
}

/// What was read, or why not.
pub type Read = (Key, Result<Plots, String>);

/// What was read last; the longest held go first.
#[derive(Clone, Debug, Default)]
pub struct Curves(VecDeque<Read>);

impl Curves {
    /// Takes what was read.
    pub fn take(&mut self, read: Read) {
        self.0.retain(|(held, _)| *held != read.0);
        self.0.push_back(read);
        while self.0.len() > HELD_MAX {
            self.0.pop_front();
        }
    }

    /// An alert's; those from before its neighbours were known until there are newer ones; none: they are being read.
    pub fn of(&self, alert: &AlertView) -> Option<Result<&Plots, &str>> {
        let find = |wanted: Key| self.0.iter().find(|(held, _)| *held == wanted);
        let found = find(key(alert)).or_else(|| find((alert.alert.clone(), false)));
        found.map(|(_, read)| read.as_ref().map_err(String::as_str))
    }

    /// Whether they must be read. What could not be read is tried again whenever it is looked at anew.
    fn has(&self, wanted: &Key) -> bool {
        self.0.iter().any(|(held, read)| held == wanted && read.is_ok())
    }
}

/// Reads the curves of one alert at a time: of the one that is looked at.
pub struct Reader {
    wanted: watch::Sender<Option<(Key, AlertView)>>,
    /// What was read.
    pub read: mpsc::Receiver<Read>,
    task: JoinHandle<()>,
}

impl Reader {
    /// At this gateway.
    pub fn start(gateway: Gateway) -> Self {
        let (wanted, looks) = watch::channel(None);
        let (told, read) = mpsc::channel(4);
        Self { wanted, read, task: tokio::spawn(read_on(gateway, looks, told)) }
    }

    /// This one is looked at now.
    pub fn look(&self, curves: &Curves, alert: Option<&AlertView>) {
        let wanted = alert.map(|alert| (key(alert), alert)).filter(|(key, _)| !curves.has(key));
        self.wanted.send_if_modified(|held| {
            let is_new = held.as_ref().map(|(key, _)| key) != wanted.as_ref().map(|(key, _)| key);
            if is_new {
                *held = wanted.map(|(key, alert)| (key, alert.clone()));
            }
            is_new
        });
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_on(gateway: Gateway, mut looks: watch::Receiver<Option<(Key, AlertView)>>, told: mpsc::Sender<Read>) {
    while looks.changed().await.is_ok() {
        let Some((key, alert)) = looks.borrow_and_update().clone() else { continue };
        let read = async {
            sleep(GLANCE).await;
            of(&gateway, &alert).await
        };
        // Another one is looked at: this one is given up.
        let result = tokio::select! {
            result = read => result,
            _ = looks.changed() => { looks.mark_changed(); continue }
        };
        if told.send((key, result)).await.is_err() {
            return;
        }
    }
}

/// Reads an alert's curves.
///
/// # Errors
/// That the bus does not answer, or not in time.
pub async fn of(gateway: &Gateway, alert: &AlertView) -> Result<Plots, String> {
    match timeout(PATIENCE, plots::of(gateway, alert)).await {
        Ok(read) => read.map_err(|problem| problem.to_string()),
        Err(_) => Err(format!("not read within {} s", PATIENCE.as_secs())),
    }
}

/// One alert's curves, read here and now.
pub async fn read(gateway: &Gateway, alert: &AlertView) -> Read {
    (key(alert), of(gateway, alert).await)
}
