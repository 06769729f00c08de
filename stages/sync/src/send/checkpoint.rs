//! Where a class stands at the region: the last message on its subject says it, and nothing else does.

use bytes::Bytes;
use eddy_runtime::bus::Stored;
use eddy_schemas::sync::{CHAIN_BYTES, Class, receipt, stream_of, wire};
use prost::Message as _;

/// What the next batch of a class builds on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0 before the chain's first.
    pub number: u64,
    /// Up to which entry the region has all.
    pub last: u64,
    /// Its receipt; empty before the first.
    pub receipt: Bytes,
    /// Its sequence in the region's stream: the next one's guard. Known ahead while it is on its way.
    pub sequence: u64,
    /// The chain that the next one replaces; empty: none.
    pub replaces: Bytes,
}

/// Who writes.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The site.
    pub site: String,
    /// The chain of this gateway's queue.
    pub chain: [u8; CHAIN_BYTES],
}

/// What stands last on a class's subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A batch of this gateway's chain.
    Own(Head),
    /// One of another chain; or, with an empty one, no batch at all.
    Foreign {
        /// Its sequence.
        sequence: u64,
        /// Its chain.
        chain: Bytes,
    },
}

impl Found {
    /// Reads what stands last.
    pub fn read(identity: &Identity, class: Class, last: Option<&Stored>) -> Self {
        let Some(Stored { sequence, payload, .. }) = last else { return Self::Nothing };
        let foreign = |chain| Self::Foreign { sequence: *sequence, chain };
        // Its entries are the hub's to read.
        let Ok(batch) = wire::Batch::decode(payload.clone()) else { return foreign(Bytes::new()) };
        if batch.chain.len() != CHAIN_BYTES || batch.site != identity.site || batch.class() != class {
            return foreign(Bytes::new());
        }
        if batch.chain != identity.chain.as_slice() {
            return foreign(batch.chain);
        }
        Self::Own(Head {
            number: batch.number,
            last: batch.last,
            receipt: Bytes::copy_from_slice(&receipt(&batch.previous, payload)),
            sequence: *sequence,
            replaces: Bytes::new(),
        })
    }

    /// The chain that a new one replaces.
    pub fn chain(&self, identity: &Identity) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::Own(_) => Bytes::copy_from_slice(&identity.chain),
            Self::Foreign { chain, .. } => chain.clone(),
        }
    }

    /// What the next batch builds on, if the region stands where `before` was replaced, or on this gateway's own chain.
    ///
    /// # Errors
    /// That another gateway writes.
    pub fn head(self, identity: &Identity, class: Class, before: &[u8]) -> Result<Head, String> {
        match self {
            Self::Nothing => Ok(Head::default()),
            Self::Own(head) => Ok(head),
            Self::Foreign { sequence, chain } if chain == before => {
                Ok(Head { sequence, replaces: chain, ..Head::default() })
            }
            Self::Foreign { sequence, chain } => Err(fenced(
                identity,
                class,
                &format!("message {sequence} is of chain {}, this gateway's is {}", hex(&chain), hex(&identity.chain)),
            )),
        }
    }
}

/// The words for a gateway that is not alone.
pub fn fenced(identity: &Identity, class: Class, seen: &str) -> String {
    let Identity { site, .. } = identity;
    format!(
        "another gateway writes as site {site:?}: on {} of the region's stream {}, {seen}. Stop the wrong one; if this one is right, \
         `eddy-sync recover` lets it start a new chain",
        class.token(),
        stream_of(site)
    )
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() { "none".into() } else { bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; CHAIN_BYTES] = [1; CHAIN_BYTES];

    fn stored(batch: &wire::Batch) -> Stored {
        Stored { sequence: 9, headers: Vec::new(), payload: batch.encode_to_vec().into() }
    }

    #[test]
    fn the_last_message_says_where_a_class_stands() {
        let identity = Identity { site: "plant".into(), chain: OWN };
        let class = Class::Deltas;
        let read = |batch: &wire::Batch| Found::read(&identity, class, Some(&stored(batch)));
        let batch = wire::Batch {
            site: "plant".into(),
            class: class.into(),
            chain: OWN.to_vec().into(),
            number: 4,
            first: 6,
            last: 8,
            previous: vec![7; 32].into(),
            ..Default::default()
        };
        let Found::Own(head) = read(&batch) else { panic!("not ours") };
        assert_eq!((head.number, head.last, head.sequence), (4, 8, 9));
        assert_eq!(*head.receipt, receipt(&[7; 32], &batch.encode_to_vec()));
        let other = read(&wire::Batch { chain: vec![2; CHAIN_BYTES].into(), ..batch.clone() });
        assert_eq!(other, Found::Foreign { sequence: 9, chain: vec![2; CHAIN_BYTES].into() });
        for wrong in [
            wire::Batch { site: "other".into(), ..batch.clone() },
            wire::Batch { class: Class::Alerts.into(), ..batch.clone() },
            wire::Batch { chain: Bytes::new(), ..batch.clone() },
        ] {
            assert_eq!(read(&wrong), Found::Foreign { sequence: 9, chain: Bytes::new() });
        }
        let rubbish = Stored { sequence: 9, headers: Vec::new(), payload: Bytes::from_static(b"rubbish") };
        let rubbish = Found::read(&identity, class, Some(&rubbish));
        assert_eq!(rubbish, Found::Foreign { sequence: 9, chain: Bytes::new() });
        assert_eq!(Found::read(&identity, class, None), Found::Nothing);
    }

    #[test]
    fn only_the_chain_that_was_there_before_is_replaced() {
        let identity = Identity { site: "plant".into(), chain: OWN };
        let foreign = |byte| Found::Foreign { sequence: 9, chain: vec![byte; CHAIN_BYTES].into() };
        let head = foreign(2).head(&identity, Class::Alerts, &[2; CHAIN_BYTES]).unwrap();
        assert_eq!((head.number, head.last, head.sequence, head.replaces.len()), (0, 0, 9, CHAIN_BYTES));
        for (found, before) in [(foreign(3), vec![2; CHAIN_BYTES]), (foreign(2), Vec::new())] {
            let problem = found.head(&identity, Class::Alerts, &before).unwrap_err();
            assert!(problem.contains("\"plant\"") && problem.contains("eddy-sync recover"), "{problem}");
        }
        assert_eq!(Found::Nothing.head(&identity, Class::Alerts, &[2; 16]), Ok(Head::default()));
    }
}
