//! Clients that people have, against the real sources of capture: curl, mosquitto_pub, InfluxDB's Python client, nats-py, and
//! Telegraf's way of writing. `site` is a gateway with sources, `series` what is sent and what must come out, `brokers` and
//! `clients` the programs of others, `http` and `telegraf` clients of our own.

mod brokers;
pub mod clients;
mod http;
mod series;
mod site;
mod telegraf;

mod answers;
mod feed;
mod full;
mod killed;
mod rates;
mod recipe;
mod sessions;
