//! The whole gateway with the real nats-server: what dies, what is full, what is rubbish.
//!
//! `server` and `stage` start and kill real processes, `gateway` puts them together, `recording` feeds them, `oracle`
//! reads what came out; `sources` has people's own clients. The oracle of every fault test is INV-3: the alerts of an undisturbed run.

#![allow(clippy::unwrap_used)]

mod gateway;
mod oracle;
mod recording;
mod server;
mod stage;
mod up;

mod backup;
mod bounds;
mod bundles;
mod bus;
mod care;
mod compared;
mod console;
mod drills;
mod episodes;
mod export;
mod faults;
mod full_disk;
mod hub;
mod identity;
mod index;
mod index_region;
mod keys;
mod metrics;
mod notify;
mod region;
mod remembered;
mod rotation;
mod rubbish;
mod schema;
mod sources;
mod top;
mod traces;
mod upgrade;
