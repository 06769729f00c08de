//! Traces: one sampled reading followed through every hop, to the region and to the sinks.
//!
//! **Payloads never change** (INV-3): everything travels in headers of the messages. capture begins a trace, at most
//! `telemetry.traces.per_second` of its outputs; from there on each hop that takes a message with a context emits a span, child of the
//! one that the context names, and puts its own in the context's place on what it publishes.
//!
//! A pull merges messages, so an output may carry several contexts, at most [`CONTEXTS_MAX`]: each is a trace that has every hop.
//!
//! Spans go out beside the loops, by OTLP over HTTP ([`export`]): bounded, dropped at the bound and counted, never waited for. Without an
//! endpoint there is no [`Tracer`], contexts are passed on as they came, and nothing is kept.

mod context;
pub mod current;
pub mod export;
mod otlp;
mod remembered;
mod sampler;
mod span;
mod tracer;

pub use self::{
    context::{CONTEXTS_MAX, Contexts, Provenance, TRACEPARENT, TraceContext},
    remembered::Remembered,
    sampler::Sampler,
    span::{Kind, Open, Span, Value},
    tracer::Tracer,
};
