//! Drills: faults that are made on purpose, and what must hold after them.

pub mod lost_write;
