//! eddy-sync.

fn main() {}
