//! `eddy-sync`.

fn main() {}
