//! The gRPC server: `eddy.region.v1.Region`, standard health and reflection.
//!
//! Who calls is known by the certificate, without which there is no connection (`tls.rs`, `accept.rs`); whether they may, how
//! long it may take and what the log says is one place's affair for all methods (`gate.rs`); what is answered stands in
//! `crate::answer`, behind `region.rs`.

mod accept;
mod config;
mod flood;
mod gate;
mod region;
mod roles;
mod tls;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use eddy_runtime::{audit::Audit, fresh::Fresh};
use tokio::{net::TcpListener, sync::watch};
use tonic::{service::Routes, transport::Server};

pub(crate) use self::region::about;
pub use self::{
    config::{AuditConfig, GrpcConfig},
    flood::Floods,
    roles::{Role, Roles},
    tls::Tls,
};
use self::{
    gate::{Gate, Rules},
    region::Service,
};
use crate::{answer::Answers, service::region_server::RegionServer};

/// The descriptors of what is served, for reflection.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/region.bin"));
/// Calls of one connection at the same time.
const CALLS_MAX: u32 = 64;
/// Bytes of a call's headers.
const HEADERS_MAX: u32 = 16 * 1_024;
/// A connection is asked so often whether it still is one, and given up after as long without an answer.
const ALIVE_EVERY: Duration = Duration::from_secs(20);
/// How long connections may take to end when the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// A server that listens, and serves once it is told to.
pub struct Grpc {
    listener: TcpListener,
    config: GrpcConfig,
    tls: Arc<Fresh<Tls>>,
}

impl Grpc {
    /// Reads the certificates, and listens.
    ///
    /// # Errors
    /// What is wrong with a file, or the address.
    pub async fn listen(config: GrpcConfig) -> Result<Self, String> {
        let tls = Arc::new(Tls::follow(&config)?);
        let wrong = |error: std::io::Error| format!("hub.grpc.listen = {:?}: {error}", config.listen);
        let listener = TcpListener::bind(&config.listen).await.map_err(wrong)?;
        Ok(Self { listener, config, tls })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Host and port by which other hub processes reach it.
    ///
    /// # Errors
    /// The system's.
    pub fn advertised(&self) -> std::io::Result<String> {
        match self.config.advertise.as_str() {
            "" => self.address().map(|address| address.to_string()),
            advertised => Ok(advertised.to_owned()),
        }
    }

    /// Its certificates, as their files are.
    pub fn tls(&self) -> Arc<Fresh<Tls>> {
        self.tls.clone()
    }

    /// Serves until `stop` says true.
    ///
    /// # Errors
    /// The server's.
    pub async fn serve(
        self,
        answers: Arc<Answers>,
        audit: Arc<Audit>,
        roles: Roles,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), String> {
        let Self { listener, config, tls } = self;
        let time_max = config.deadline();
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<RegionServer<Service>>().await;
        let service = Service { answers, audit: audit.clone(), time_max };
        let region = RegionServer::new(service).max_decoding_message_size(config.request_bytes_max);
        let mut routes =
            Routes::new(region).add_service(health_service.max_decoding_message_size(HEADERS_MAX as usize));
        // Tools in use ask for the older name still.
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let broken = |error: tonic_reflection::server::Error| error.to_string();
        routes = routes.add_service(reflection().build_v1().map_err(broken)?);
        routes = routes.add_service(reflection().build_v1alpha().map_err(broken)?);
        let rules = Rules::new(roles, tls.get().cn.clone(), audit.clone(), time_max);
        let gate = Gate::new(routes.prepare(), Arc::new(rules));
        let connections = accept::connections(listener, tls, audit, config.connections_max);
        let mut stopping = stop.clone();
        let stopped = async move {
            // An error means that the sender is gone, which is a stop too.
            let _ = stopping.wait_for(|stop| *stop).await;
            health.set_not_serving::<RegionServer<Service>>().await;
        };
        let serving = Server::builder()
            .max_concurrent_streams(CALLS_MAX)
            .concurrency_limit_per_connection(CALLS_MAX as usize)
            .http2_max_header_list_size(HEADERS_MAX)
            .http2_keepalive_interval(Some(ALIVE_EVERY))
            .http2_keepalive_timeout(Some(ALIVE_EVERY))
            .serve_with_incoming_shutdown(gate, connections, stopped);
        let give_up = async {
            let _ = stop.wait_for(|stop| *stop).await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            served = serving => served.map_err(|error| error.to_string()),
            () = give_up => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
