//! Skeleton.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod answer;
pub mod audit;
pub mod grpc;
pub mod nats;

/// The gRPC service.
#[allow(missing_docs, clippy::all)]
pub mod service {
    tonic::include_proto!("eddy.region.v1");
}
