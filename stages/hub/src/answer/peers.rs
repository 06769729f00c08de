//! Connections to the other hub processes: one each, made when it is first asked, and again when it was lost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use eddy_runtime::fresh::Fresh;
use eddy_schemas::names;
use tokio::time::Instant;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use super::{
    call::Call,
    refusal::{Refusal, Why},
    region::Leader,
};
use crate::{grpc::Tls, service::region_client::RegionClient};

/// On whose behalf another hub process asks, percent-encoded.
pub const FOR: &str = "eddy-for";
/// It asks only for what the asked process has itself.
pub const OWN_ONLY: &str = "eddy-own-only";
/// A process that does not take a connection for so long is not there.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Also an idle connection is asked so often whether it still is one: half-open ones are found before they are needed.
const ALIVE_EVERY: Duration = Duration::from_secs(2);

/// The other hub processes.
pub struct Peers {
    tls: Option<Arc<Fresh<Tls>>>,
    /// By address, with the certificates that they were made with; as many as there are leaders.
    channels: Mutex<HashMap<String, (Arc<Tls>, Channel)>>,
}

impl Peers {
    /// Connects with this identity; without one nobody else is asked.
    pub fn new(tls: Option<Arc<Fresh<Tls>>>) -> Self {
        Self { tls, channels: Mutex::default() }
    }

    /// A client of a leader; connections to others than `leaders` are given up.
    pub(super) fn client(&self, leader: &Leader, leaders: &[Leader]) -> Result<RegionClient<Channel>, Refusal> {
        let Leader { address, name, shard } = leader;
        let unavailable =
            |why: String| Refusal::new(Why::Unavailable, format!("shard {shard} is led by {name}: {why}"));
        let Some(tls) = self.tls.as_ref().filter(|_| !address.is_empty()) else {
            return Err(unavailable("it cannot be asked: set hub.grpc.listen and its certificates on both".into()));
        };
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        // With new certificates connections are made anew: the old ones' would be shown again after each interruption.
        let tls = tls.get();
        channels.retain(|known, (with, _)| {
            Arc::ptr_eq(with, &tls) && leaders.iter().any(|leader| leader.address == *known)
        });
        if let Some((_, channel)) = channels.get(address) {
            return Ok(RegionClient::new(channel.clone()));
        }
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .and_then(|endpoint| endpoint.tls_config(tls.client.clone()))
            .map_err(|error| unavailable(format!("{address:?} is no address: {error}")))?;
        let channel = endpoint
            .connect_timeout(CONNECT_MAX)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_EVERY)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect_lazy();
        channels.insert(address.clone(), (tls, channel.clone()));
        Ok(RegionClient::new(channel))
    }
}

/// What is sent to another hub process for a call.
pub(super) fn passed_on<T>(message: T, call: &Call, until: Instant) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(until.saturating_duration_since(Instant::now()));
    let metadata = request.metadata_mut();
    if let Ok(who) = names::encode(&call.who).parse() {
        metadata.insert(FOR, who);
    }
    metadata.insert(OWN_ONLY, tonic::metadata::MetadataValue::from_static("1"));
    request
}
