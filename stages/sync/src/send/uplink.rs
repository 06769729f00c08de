//! The region's NATS, as the sender sees it.

use std::{future::Future, pin::Pin};

use eddy_runtime::bus::{BusError, Publication, PublishError, Stored, StreamState, nats::NatsBus};

/// Ends once the message is on the region's disk, with its sequence; or with what happened. It ends by itself.
pub type Pending = Pin<Box<dyn Future<Output = Result<u64, PublishError>> + Send>>;

/// A connection that comes and goes. Messages leave in the order in which they are sent.
pub trait Uplink: Clone + Send + Sync + 'static {
    /// Which connection there is: another number is another connection, on which answers to what was sent before do not
    /// come. `None`: none now.
    fn connection(&self) -> Option<u64>;

    /// As [`eddy_runtime::bus::Bus::stream`].
    fn stream(&self, name: &str) -> impl Future<Output = Result<StreamState, BusError>> + Send;

    /// As [`eddy_runtime::bus::Bus::last`].
    fn last(&self, stream: &str, subject: &str) -> impl Future<Output = Result<Option<Stored>, BusError>> + Send;

    /// Sends a message.
    ///
    /// # Errors
    /// As [`eddy_runtime::bus::Bus::publish`].
    fn send(&self, message: Publication) -> impl Future<Output = Result<Pending, PublishError>> + Send;
}

impl Uplink for NatsBus {
    fn connection(&self) -> Option<u64> {
        self.is_connected().then(|| self.connections())
    }

    async fn stream(&self, name: &str) -> Result<StreamState, BusError> {
        eddy_runtime::bus::Bus::stream(self, name).await
    }

    async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, BusError> {
        eddy_runtime::bus::Bus::last(self, stream, subject).await
    }

    async fn send(&self, message: Publication) -> Result<Pending, PublishError> {
        let sent = NatsBus::send(self, message).await?;
        Ok(Box::pin(sent.stored()))
    }
}
