//! notify: alerts for people who do not speak NATS, brought to webhooks and MQTT brokers.
//!
//! Each sink reads DETECTIONS by itself, at its own durable position ([`ledger`]), so that one that is down holds
//! neither another sink nor the pipeline. [`sink`] is the loop, and says when an alert can arrive twice; [`lanes`] is what
//! waits and in which order; [`webhook`] and [`mqtt`] are the two kinds of receivers.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod app;
pub mod backoff;
pub mod config;
pub mod event;
pub mod filter;
pub mod lanes;
pub mod ledger;
mod life;
pub mod mqtt;
mod mqtt_options;
pub mod outlet;
pub mod progress;
pub mod signature;
pub mod sink;
pub mod tls;
pub mod topic;
pub mod webhook;
