//! Capture's decoders and the checks of its own tests, compiled for the fuzzer.
#![allow(dead_code, reason = "capture's stage uses the rest")]

#[path = "../../src/tests/checks/mod.rs"]
mod checks;
#[path = "../../src/decode/mod.rs"]
#[allow(unused_imports, reason = "capture's stage uses them")]
mod decode;
mod sources;

pub use checks::{
    Format, input as decoder,
    sources::{gzip, topic},
};

/// The fuzzer ends at the first panic; Arrow's reader has some of its own, which the decoder catches and refuses. One that is not
/// caught still ends it: its message is told by `cargo nextest run -E 'test(corpus)'` once the input stands in the corpus.
pub fn begin() {
    std::panic::set_hook(Box::new(|_| {}));
}
