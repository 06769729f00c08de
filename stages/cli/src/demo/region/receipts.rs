//! What the region says that it can prove, asked as a gateway would.

use eddy_schemas::region::{
    RECEIPTS, REQUEST_PREFIX,
    wire::{ChainReceipt, ReceiptsRequest, ReceiptsResponse},
};
use prost::Message as _;

use crate::output::printable;

/// The receipts of one site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipts(Vec<ChainReceipt>);

/// Asks for those of `site`.
///
/// # Errors
/// That nobody answers, or why not.
pub async fn of(client: &async_nats::Client, site: &str) -> anyhow::Result<Receipts> {
    let request = ReceiptsRequest { site: site.to_owned() }.encode_to_vec();
    let answer = client.request(format!("{REQUEST_PREFIX}.{RECEIPTS}"), request.into()).await?;
    if let Some(problem) = answer.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error")) {
        anyhow::bail!("the hub says: {problem}");
    }
    let answer = ReceiptsResponse::decode(answer.payload)?;
    let unheard = answer.missing_shards;
    anyhow::ensure!(unheard.is_empty(), "shards {unheard:?} of the hub did not answer in time");
    Ok(Receipts(answer.chains))
}

impl Receipts {
    /// Entries of a class, of all its chains.
    pub fn entries(&self, class: &str) -> u64 {
        self.0.iter().filter(|chain| chain.class == class).map(|chain| chain.entries).sum()
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|chain| chain.missing.is_empty())
    }

    /// For people.
    pub fn words(&self) -> String {
        let one = |chain: &ChainReceipt| format!("{} {} to {}", chain.class, chain.first, chain.last);
        let missing = |chain: &ChainReceipt| {
            let class = chain.class.clone();
            let words = chain.missing.iter().map(move |range| {
                format!("{class} {} to {} ({}: {})", range.first, range.last, range.cause, printable(&range.detail))
            });
            words.collect::<Vec<_>>()
        };
        let missing: Vec<String> = self.0.iter().flat_map(missing).collect();
        let held: Vec<String> = self.0.iter().map(one).collect();
        match (held.is_empty(), missing.is_empty()) {
            (true, _) => "nothing was ever sent".to_owned(),
            (false, true) => format!("nothing missing in {}", held.join(", ")),
            (false, false) => format!("missing {}; held {}", missing.join(", "), held.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use eddy_schemas::region::wire::MissingRange;

    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_cause() {
        let chain = |class: &str, missing: Vec<MissingRange>| ChainReceipt {
            class: class.into(),
            first: 1,
            last: 9,
            entries: 9,
            missing,
            ..Default::default()
        };
        let gap = MissingRange { first: 2, last: 4, count: 3, cause: "budget".into(), detail: "full".into() };
        assert_eq!(Receipts::default().words(), "nothing was ever sent");
        let whole = Receipts(vec![chain("alerts", vec![]), chain("deltas", vec![])]);
        assert_eq!(whole.words(), "nothing missing in alerts 1 to 9, deltas 1 to 9");
        assert!(whole.is_complete() && !Receipts::default().is_complete());
        let holed = Receipts(vec![chain("alerts", vec![]), chain("deltas", vec![gap])]);
        assert_eq!(holed.words(), "missing deltas 2 to 4 (budget: full); held alerts 1 to 9, deltas 1 to 9");
        assert_eq!((holed.entries("deltas"), holed.is_complete()), (9, false));
    }
}
