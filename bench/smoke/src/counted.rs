//! What of a case is counted: callgrind collects from the call of [`toggled_by_callgrind`] to its return.

use std::hint::black_box;

/// The function whose entry and return turn collecting on and off, as callgrind's `--toggle-collect` takes it.
pub const TOGGLE: &str = "*toggled_by_callgrind*";

#[inline(never)]
fn toggled_by_callgrind(work: &mut dyn FnMut()) {
    work();
    // So that the call above is no jump: callgrind would not see the return.
    black_box(());
}

/// Does `work`, counted. Once a case: what comes before and after it is its set-up.
pub fn counted<T>(work: impl FnOnce() -> T) -> T {
    let (mut work, mut made) = (Some(work), None);
    toggled_by_callgrind(&mut || made = work.take().map(|work| work()));
    black_box(made.expect("it was called once, just now"))
}
