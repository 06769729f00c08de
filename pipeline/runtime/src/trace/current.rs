//! The trace that is in hand, for the lines that are logged meanwhile.

use std::{cell::Cell, future::Future};

tokio::task_local! {
    static TRACE: Cell<Option<u128>>;
}

/// Runs a loop whose pulls may be sampled.
pub async fn scope<F: Future>(work: F) -> F::Output {
    TRACE.scope(Cell::new(None), work).await
}

/// From here on this task has that trace in hand, or none. Outside of [`scope`] nothing happens.
pub fn set(trace: Option<u128>) {
    let _ = TRACE.try_with(|current| current.set(trace));
}

/// The same, and says what it had in hand until now.
pub fn replace(trace: Option<u128>) -> Option<u128> {
    TRACE.try_with(|current| current.replace(trace)).ok().flatten()
}

/// The trace that this task has in hand.
pub fn trace() -> Option<u128> {
    TRACE.try_with(Cell::get).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_trace_is_in_hand_in_its_own_task_alone() {
        set(Some(1));
        assert_eq!(trace(), None);
        scope(async {
            set(Some(7));
            tokio::task::yield_now().await;
            assert_eq!(trace(), Some(7));
            assert_eq!(tokio::spawn(scope(async { trace() })).await.unwrap(), None);
            assert_eq!((replace(Some(8)), trace()), (Some(7), Some(8)));
            set(None);
            assert_eq!(trace(), None);
        })
        .await;
    }
}
