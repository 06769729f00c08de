//! Input that comes to capture without a stream: HTTP, MQTT, NATS requests. Each decodes what it gets, hands it in by the
//! [`gate`], and answers its sender once it is in READINGS, on disk.
//!
//! | source | answers | when the pipeline is full |
//! |---|---|---|
//! | [`http`] | 204 or 200; 4xx says which line is wrong and why | 429 with `Retry-After` |
//! | [`mqtt`] | PUBACK; what is wrong goes to the dead letters | no PUBACK: the broker keeps it |
//! | [`requests`] | JSON; what is wrong is told and goes to the dead letters | an error with code 429 |

mod config;
mod gate;
pub(crate) mod gzip;
mod http;
mod mqtt;
mod requests;
pub(crate) mod topic;

use eddy_runtime::{
    app::DirectSources,
    bus::nats::NatsBus,
    direct::{Bounds, Entrance},
    stage::Scope,
};
use tokio::{sync::watch, task::JoinSet};

use crate::{Capture, Config, Input, decode::Rules};

pub(crate) use config::{DirectConfig, HttpConfig, MqttConfig, RequestsConfig};

/// What the config asks for; see the module's documentation.
#[derive(Debug)]
pub struct Sources {
    scope: Scope,
    rules: Rules,
    bounds: Bounds,
    http: Option<http::Settings>,
    mqtt: Option<mqtt::Settings>,
    requests: bool,
}

impl DirectSources<Capture> for Sources {
    fn new(config: &Config, scope: &Scope) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let bounds = config.direct.validate(&mut problems);
        let http = config.http.validate(&mut problems);
        let mqtt = config.mqtt.validate(&scope.site, &mut problems);
        let (rules, requests) = (config.clone().rules(), config.requests.enabled);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { scope: scope.clone(), rules, bounds, http, mqtt, requests })
    }

    fn bounds(&self) -> Option<Bounds> {
        let any = self.requests || self.http.is_some() || self.mqtt.is_some();
        any.then_some(self.bounds)
    }

    async fn serve(self, entrance: Entrance<Input>, bus: NatsBus, stop: watch::Receiver<bool>) -> Result<(), String> {
        let gate = gate::Gate::new(entrance, self.rules, &self.scope);
        let mut tasks = JoinSet::new();
        if let Some(settings) = self.http {
            tasks.spawn(http::serve(settings, gate.clone(), stop.clone()));
        }
        if let Some(settings) = self.mqtt {
            tasks.spawn(mqtt::run(settings, gate.clone(), stop.clone()));
        }
        if self.requests {
            tasks.spawn(requests::run(self.scope.site, self.bounds.requests_max, gate, bus, stop));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|panic| format!("a source failed: {panic}"))??;
        }
        Ok(())
    }
}
