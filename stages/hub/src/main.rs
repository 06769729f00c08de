//! eddy-hub.

fn main() {}
