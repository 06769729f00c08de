//! What a subscriber receives while something else goes on.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail};
use futures_util::{Stream, StreamExt as _};
use tokio::{task::JoinHandle, time::Instant};

/// How long after everything is through a subscriber may still wait for the last of it.
const LAST_TIMEOUT: Duration = Duration::from_secs(10);

/// A subscriber that runs by itself. It holds all that came: a measurement's worth.
#[derive(Debug)]
pub(super) struct Collected<T> {
    items: Arc<Mutex<Vec<Result<T>>>>,
    task: JoinHandle<()>,
}

impl<T: Send + 'static> Collected<T> {
    /// Begins.
    pub(super) fn of(stream: impl Stream<Item = Result<T>> + Send + 'static) -> Self {
        let items = Arc::new(Mutex::new(Vec::new()));
        let into = items.clone();
        let task = tokio::spawn(async move {
            let mut stream = Box::pin(stream);
            while let Some(item) = stream.next().await {
                into.lock().unwrap_or_else(PoisonError::into_inner).push(item);
            }
        });
        Self { items, task }
    }

    /// Waits until the item with sequence `last` has come (0: for nothing), and returns all.
    ///
    /// # Errors
    /// That it does not come, or what went wrong before.
    pub(super) async fn take(self, sequence: impl Fn(&T) -> u64, last: u64) -> Result<Vec<T>> {
        let deadline = Instant::now() + LAST_TIMEOUT;
        loop {
            {
                let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
                let there = items.last().is_some_and(|item| item.as_ref().map_or(true, |item| sequence(item) >= last));
                if last == 0 || there {
                    return std::mem::take(&mut *items).into_iter().collect();
                }
            }
            if Instant::now() > deadline {
                bail!("the subscriber has not received message {last}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl<T> Drop for Collected<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
