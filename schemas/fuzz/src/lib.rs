//! The checks of the schemas' own tests, compiled for the fuzzer.

#[path = "../../tests/fuzzed/checks.rs"]
mod checks;

pub use checks::*;

/// The fuzzer ends at the first panic; Arrow's reader has some of its own, which the layouts catch and refuse. One that is not
/// caught still ends it: its message is told by `cargo nextest run -E 'test(corpus)'` once the input stands in the corpus.
pub fn begin() {
    std::panic::set_hook(Box::new(|_| {}));
}
