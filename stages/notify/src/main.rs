//! Alerts to people who do not speak NATS.
fn main() {}
