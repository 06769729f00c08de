//! Views as server-sent events: each is the newest there is when it is written, so that who reads slowly misses some and is behind none.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::sse::Event;
use futures_util::{Stream, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    live::Numbered,
    shown::{self, Asked},
};

/// Two views are so far apart at least.
const APART: Duration = Duration::from_millis(500);
/// Where nothing changes the same view is sent again, so that a page knows that it is live.
const ANYWAY: Duration = Duration::from_secs(4);
/// When a page that lost us asks again.
const RETRY: Duration = Duration::from_secs(2);

/// A page that looks.
struct Page<M> {
    views: watch::Receiver<Numbered>,
    asked: Asked,
    may: M,
    last: Option<Instant>,
    _place: OwnedSemaphorePermit,
}

/// The views for one page, for as long as it reads and `may`; `place` is given back then.
pub(super) fn stream(
    views: watch::Receiver<Numbered>,
    asked: Asked,
    may: impl Fn() -> bool + Send + 'static,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let page = Page { views, asked, may, last: None, _place: place };
    stream::unfold(page, |mut page| async move {
        let event = page.next().await?;
        Some((Ok(event), page))
    })
}

impl<M: Fn() -> bool> Page<M> {
    /// `None`: there is nobody any more who looks at the gateway, or the page may not any more (a token that changed, a session that
    /// is over).
    async fn next(&mut self) -> Option<Event> {
        if let Some(last) = self.last {
            // Elapsed: nothing changed, and that is told.
            if let Ok(changed) = timeout(ANYWAY, self.views.changed()).await {
                changed.ok()?;
            }
            sleep_until(last + APART).await;
        }
        if !(self.may)() {
            return None;
        }
        let (number, view): (u64, Arc<_>) = self.views.borrow_and_update().clone();
        self.last = Some(Instant::now());
        let json = shown::json(number, &view, &self.asked);
        Some(Event::default().id(number.to_string()).retry(RETRY).data(json))
    }
}
