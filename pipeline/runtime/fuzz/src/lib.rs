//! What the runtime reads and the checks of its own tests, compiled for the fuzzer.
#![allow(dead_code, reason = "the runtime uses the rest")]

// The modules find each other, and the checks find them, as in the runtime.
extern crate self as eddy_runtime;

#[path = "../../src/bundle/mod.rs"]
pub mod bundle;
#[path = "../../tests/fuzzed/checks.rs"]
pub mod checks;
#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/dead_letter.rs"]
pub mod dead_letter;
#[path = "../../src/position.rs"]
pub mod position;
#[path = "../../src/stage.rs"]
pub mod stage;
