//! Questions to the region: through a gateway, whose sync passes them on, or at the hub's own bus.

use anyhow::Context as _;
use eddy_runtime::client::ClientError;
use eddy_schemas::region::REQUEST_PREFIX;
use prost::Message;

use crate::gateway::Gateway;

/// Asks the region's `method`.
///
/// # Errors
/// Its refusal, or that it does not answer.
pub async fn ask<A: Message + Default>(gateway: &Gateway, method: &str, request: &impl Message) -> anyhow::Result<A> {
    let through = format!("{REQUEST_PREFIX}.{}.{method}", gateway.site_token());
    let payload = request.encode_to_vec();
    let mut answer = gateway.client.request(&through, payload.clone().into()).await;
    if matches!(answer, Err(ClientError::NoService { .. })) {
        let at_the_hub = gateway.client.request(&format!("{REQUEST_PREFIX}.{method}"), payload.into()).await;
        // What is told is that the gateway does not pass it on, unless this is a hub.
        answer = if matches!(at_the_hub, Err(ClientError::NoService { .. })) { answer } else { at_the_hub };
    }
    let answer = match answer {
        Err(error @ ClientError::NoService { .. }) => Err(error).context(
            "the region was not asked: eddy-sync passes questions on while the gateway runs with a hub in its config",
        )?,
        answer => answer.context("the region")?,
    };
    A::decode(answer).context("the region's answer is of another release")
}
