//! Begins traces and hands finished spans to the exporter.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use eddy_schemas::Timestamp;
use tokio::sync::mpsc;

use super::{
    context::{Contexts, TraceContext},
    sampler::Sampler,
    span::{Kind, Open, Span, Value},
};
use crate::clock::Clock;

/// Where spans go. Clones share everything.
#[derive(Clone)]
pub struct Tracer(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    sampler: Mutex<Sampler>,
    ids: RandomState,
    next: AtomicU64,
    queue: mpsc::Sender<Span>,
    /// Spans that were finished, and those of them that found no room or no collector.
    finished: AtomicU64,
    dropped: AtomicU64,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

impl Tracer {
    /// One that begins at most `per_second` traces, and the queue of what it finishes: at most `spans_max` wait in it.
    pub fn new(per_second: f64, spans_max: usize, clock: Arc<dyn Clock>) -> (Self, mpsc::Receiver<Span>) {
        let (queue, finished) = mpsc::channel(spans_max.max(1));
        let inner = Inner {
            clock,
            sampler: Mutex::new(Sampler::new(per_second)),
            ids: RandomState::new(),
            next: AtomicU64::new(0),
            queue,
            finished: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        };
        (Self(Arc::new(inner)), finished)
    }

    /// The wall clock, by which spans begin and end.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Whether another trace may begin now, or be taken over from a device.
    pub fn takes(&self) -> bool {
        let now = self.now();
        self.0.sampler.lock().unwrap_or_else(PoisonError::into_inner).takes(now)
    }

    /// A number that no other process has, and never 0: keyed by the operating system's randomness.
    fn id(&self) -> u64 {
        self.0.ids.hash_one(self.0.next.fetch_add(1, Ordering::Relaxed)).max(1)
    }

    /// The first span of a new trace.
    pub fn root(&self) -> TraceContext {
        TraceContext { trace: u128::from(self.id()) << 64 | u128::from(self.id()), span: self.id() }
    }

    /// Another span of a trace.
    pub fn child(&self, of: TraceContext) -> TraceContext {
        TraceContext { trace: of.trace, span: self.id() }
    }

    /// Begins a hop's spans, a child of each of `contexts`.
    pub fn open(&self, name: &'static str, kind: Kind, contexts: &Contexts, start: Timestamp) -> Open {
        self.open_each(name, kind, contexts.iter().map(|context| (context, start)))
    }

    /// Begins a hop's spans, a child of each of `parents`, which are of different traces: each at its own time.
    pub fn open_each(
        &self,
        name: &'static str,
        kind: Kind,
        parents: impl Iterator<Item = (TraceContext, Timestamp)>,
    ) -> Open {
        let parents: Vec<(TraceContext, Timestamp)> = parents.collect();
        let own = parents.iter().map(|(context, _)| self.child(*context)).collect();
        Open { name, kind, parents, own }
    }

    /// Ends them now.
    pub fn close(&self, open: &Open, attributes: &[(&'static str, Value)], error: Option<&str>) {
        open.finish(self.now(), attributes, error).for_each(|span| self.emit(span));
    }

    /// Hands a finished span to the exporter, unless as many wait as may.
    pub fn emit(&self, span: Span) {
        self.0.finished.fetch_add(1, Ordering::Relaxed);
        if self.0.queue.try_send(span).is_err() {
            self.drop_spans(1);
        }
    }

    /// The exporter gave up `spans`.
    pub(super) fn drop_spans(&self, spans: u64) {
        self.0.dropped.fetch_add(spans, Ordering::Relaxed);
    }

    /// How many spans were finished, and how many of them were dropped.
    pub fn counts(&self) -> (u64, u64) {
        (self.0.finished.load(Ordering::Relaxed), self.0.dropped.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn tracer(spans_max: usize) -> (Tracer, mpsc::Receiver<Span>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(100));
        let (tracer, finished) = Tracer::new(1.0, spans_max, clock.clone());
        (tracer, finished, clock)
    }

    #[test]
    fn a_hop_of_several_traces_is_a_child_in_each() {
        let (tracer, mut finished, clock) = tracer(10);
        let roots: Contexts = [tracer.root(), tracer.root()].into_iter().collect();
        let open = tracer.open("embed", Kind::Consumer, &roots, 90);
        clock.set(120);
        tracer.close(&open, &[("rows", 3_u64.into())], None);
        let own: Vec<TraceContext> = open.contexts().iter().collect();
        for (n, root) in roots.iter().enumerate() {
            let span = finished.try_recv().unwrap();
            assert_eq!((span.context, span.parent), (own[n], Some(root.span)));
            assert_eq!((span.context.trace, span.start, span.end), (root.trace, 90, 120));
            assert_eq!((span.links, span.attributes), (vec![own[1 - n]], vec![("rows", Value::Number(3))]));
        }
        assert!(finished.try_recv().is_err());
        assert_ne!(own[0].span, own[1].span);
    }

    #[test]
    fn in_each_trace_a_hop_begins_when_that_trace_came() {
        let (tracer, mut finished, clock) = tracer(10);
        let open = tracer.open_each("embed", Kind::Consumer, [(tracer.root(), 90), (tracer.root(), 110)].into_iter());
        // The clock was set back meanwhile: no span ends before it begins.
        clock.set(100);
        tracer.close(&open, &[], None);
        let times: Vec<_> =
            std::iter::from_fn(|| finished.try_recv().ok()).map(|span| (span.start, span.end)).collect();
        assert_eq!(times, [(90, 100), (110, 110)]);
    }

    #[test]
    fn at_the_bound_spans_are_dropped_and_counted() {
        let (tracer, mut finished, _) = tracer(2);
        let one: Contexts = [tracer.root()].into_iter().collect();
        for _ in 0..5 {
            tracer.close(&tracer.open("detect", Kind::Consumer, &one, 0), &[], None);
        }
        assert_eq!(tracer.counts(), (5, 3));
        assert_eq!(std::iter::from_fn(|| finished.try_recv().ok()).count(), 2);
    }

    #[test]
    fn a_second_tracer_has_other_ids() {
        let ((one, ..), (other, ..)) = (tracer(1), tracer(1));
        let ids: std::collections::BTreeSet<u128> =
            (0..100).flat_map(|_| [one.root().trace, other.root().trace]).collect();
        assert_eq!(ids.len(), 200);
        assert!(one.takes() && !one.takes());
    }
}
