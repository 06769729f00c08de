//! What a gateway sent to its hub: batches of entries, each of which is a row or none; and words that were said at the hub.
//!
//! Whether a batch follows the one before it in its chain is not judged here: a range is read by itself, and what comes of it must not
//! depend on what the stream held before. The hub judges that (`eddy receipts`).

use eddy_runtime::client::StoredMessage;
use eddy_schemas::{
    alert::CloudEvent,
    context::Context,
    region::{Word, said_subject},
    sync::{
        self,
        wire::{Batch, Entry, entry::What},
    },
};

use super::{
    Taking, Unread,
    documents::{self, At, Said},
};
use crate::{class::Class, table::Table};

/// Adds the rows of a message that are taken.
///
/// # Errors
/// What of it could not be read; the rest was added.
pub fn take_sent(
    class: Class,
    site: &str,
    message: &StoredMessage,
    taking: Taking<'_>,
    table: &mut Table,
) -> Result<(), Unread> {
    if message.subject == said_subject(site) {
        return word(message, taking, table).map_err(Unread::whole);
    }
    let sent_as = if class == Class::Contexts { sync::Class::Contexts } else { sync::Class::Alerts };
    let entries = entries(site, sent_as, &message.payload).map_err(Unread::whole)?;
    let mut unread = Unread::default();
    for (row, entry) in entries.iter().enumerate() {
        // A batch has at most 131,072 entries.
        let at = At { sequence: message.sequence, row: row as u32 };
        if let Err(problem) = take_entry(class, site, entry, at, taking, table) {
            unread.add(format!("entry {}: {problem}", entry.id));
        }
    }
    if unread.count == 0 { Ok(()) } else { Err(unread) }
}

/// The entries of a batch that is of the site and class that its subject says.
fn entries(site: &str, class: sync::Class, message: &[u8]) -> Result<Vec<Entry>, String> {
    let (batch, entries) = Batch::read(message)?;
    if batch.site != site {
        return Err(format!("a batch of site {:?}", short(&batch.site)));
    }
    if batch.class != i32::from(class) {
        return Err(format!("a batch of class {} on a subject of {}", batch.class().token(), class.token()));
    }
    Ok(entries.entries)
}

fn take_entry(
    class: Class,
    site: &str,
    entry: &Entry,
    at: At,
    taking: Taking<'_>,
    table: &mut Table,
) -> Result<(), String> {
    let own = |of: &str| {
        if of == site { Ok(()) } else { Err(format!("of site {:?}", short(of))) }
    };
    match (class, &entry.what) {
        (Class::Alerts, Some(What::Alert(json))) => {
            let (event, json) = documents::parse::<CloudEvent>(json, "not an alert")?;
            own(&event.data.site)?;
            documents::push_alert(&event, json, at, taking, table)
        }
        (Class::Contexts, Some(What::Context(json))) => {
            let (context, json) = documents::parse::<Context>(json, "not a context")?;
            own(&context.site)?;
            documents::push_context(&context, json, at, taking, table)
        }
        (Class::Labels, Some(What::Label(label))) => {
            let said = Said {
                device: &label.device,
                alert: &label.alert,
                label: &label.label,
                origin: &label.origin,
                time: label.time,
                control: None,
            };
            documents::push_label(&said, at, taking, table);
            Ok(())
        }
        // The other class of rows that travels in the same batches.
        (Class::Alerts, Some(What::Label(_))) | (Class::Labels, Some(What::Alert(_))) => Ok(()),
        (_, None) => Err("of a kind that this release does not know".into()),
        (_, Some(_)) => Err("does not belong there".into()),
    }
}

fn word(message: &StoredMessage, taking: Taking<'_>, table: &mut Table) -> Result<(), String> {
    let (word, _) = documents::parse::<Word>(&message.payload, "not a word")?;
    let Word { device, alert, label, origin, time } = &word;
    let said = Said { device, alert, label, origin, time: *time, control: None };
    documents::push_label(&said, At { sequence: message.sequence, row: 0 }, taking, table);
    Ok(())
}

/// Of a name that anybody may have written.
fn short(name: &str) -> String {
    name.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use eddy_schemas::{
        alert::{Alert, Phase, Severity},
        sync::{
            CHAIN_BYTES,
            wire::{Entries, Label},
        },
    };
    use prost::Message as _;

    use super::*;
    use crate::{policy::Heads, rows, select::Filter, table::ColumnRef};

    fn alert(site: &str, device: &str) -> What {
        let alert = Alert {
            alert: "a".into(),
            phase: Phase::Opened,
            severity: Severity::Minor,
            site: site.into(),
            device: device.into(),
            opened: "2026-01-05T00:00:00Z".into(),
            score: 1.0,
            tail: 1e-6,
            threshold: 1e-4,
            tail_min: 1e-6,
            channels: vec![],
            heads: vec![],
            bundle: "b".into(),
        };
        What::Alert(CloudEvent::new(alert, 0, "2026-01-05T00:00:01Z".into()).to_json().into())
    }

    fn label() -> What {
        let (device, alert, label) = ("pump".into(), "a".into(), "wear".into());
        What::Label(Label { device, alert, label, origin: "olga".into(), time: 7 })
    }

    fn batch(site: &str, class: sync::Class, what: Vec<Option<What>>) -> Bytes {
        let entries: Vec<_> = what.into_iter().zip(5..).map(|(what, id)| Entry { id, what }).collect();
        let last = 4 + entries.len() as u64;
        let (chain, site) = (vec![7; CHAIN_BYTES].into(), site.into());
        let mut batch = Batch { site, class: class.into(), chain, number: 1, first: 5, last, ..Default::default() };
        batch.pack(&Entries { entries, ..Default::default() });
        batch.encode_to_vec().into()
    }

    /// Sequences and rows in their messages, and what was not read.
    fn taken(class: Class, filter: &Filter, subject: &str, payload: Bytes) -> (Vec<(u64, u32)>, Unread) {
        let (mut table, heads) = (rows::table(class), Heads::all());
        let headers = std::collections::BTreeMap::new();
        let message =
            StoredMessage { subject: subject.into(), sequence: 9, stored_at: 0, headers, payload, pending: 0 };
        let unread = take_sent(class, "s", &message, Taking { filter, heads: &heads }, &mut table);
        let (mut sequences, mut places) = (Vec::new(), Vec::new());
        for column in table.columns() {
            match column {
                ColumnRef::Sequence(_, all) => sequences.extend(all),
                ColumnRef::Row(_, all) => places.extend(all),
                _ => {}
            }
        }
        (sequences.into_iter().zip(places).collect(), unread.err().unwrap_or_default())
    }

    fn mixed() -> Bytes {
        let garbled = What::Alert(Bytes::from_static(b"{}"));
        let foreign = What::Context(Bytes::from_static(b"{}"));
        let what = [alert("s", "pump"), label(), garbled, alert("other", "pump"), foreign, alert("s", "fan")];
        batch("s", sync::Class::Alerts, what.into_iter().map(Some).chain([None]).collect())
    }

    #[test]
    fn entries_are_rows_at_their_places_and_what_is_none_is_counted() {
        let all = Filter::default();
        let (rows, unread) = taken(Class::Alerts, &all, "sync.s.alerts", mixed());
        assert_eq!((rows, unread.count), (vec![(9, 0), (9, 5)], 4));
        assert!(unread.problem.starts_with("entry 7: not an alert"), "{}", unread.problem);
        let (rows, unread) = taken(Class::Labels, &all, "sync.s.alerts", mixed());
        assert_eq!((rows, unread.count), (vec![(9, 1)], 2));
        assert!(unread.problem.contains("entry 9: does not belong there"), "{}", unread.problem);
        let fan = Filter { devices: ["fan".to_owned()].into(), ..Filter::default() };
        assert_eq!(taken(Class::Alerts, &fan, "sync.s.alerts", mixed()).0, [(9, 5)]);
        assert_eq!(taken(Class::Labels, &fan, "sync.s.alerts", mixed()).0, []);
    }

    #[test]
    fn of_a_message_that_is_no_batch_of_its_subject_nothing_is_taken() {
        let good = || vec![Some(alert("s", "pump"))];
        for (payload, part) in [
            (Bytes::from_static(b"rubbish"), "not a batch"),
            (batch("other", sync::Class::Alerts, good()), "a batch of site \"other\""),
            (batch("s", sync::Class::Contexts, good()), "a batch of class contexts on a subject of alerts"),
        ] {
            let (rows, unread) = taken(Class::Alerts, &Filter::default(), "sync.s.alerts", payload);
            assert_eq!((rows, unread.count), (vec![], 1));
            assert!(unread.problem.contains(part), "{}", unread.problem);
        }
    }

    #[test]
    fn what_was_said_at_the_hub_is_a_label() {
        let word = br#"{"device":"pump","alert":"a","label":"normal","origin":"hub/olga","time":5}"#;
        let told =
            |payload: &'static [u8]| taken(Class::Labels, &Filter::default(), "said.s", Bytes::from_static(payload));
        assert_eq!(told(word), (vec![(9, 0)], Unread::default()));
        let (rows, unread) = told(b"{\"device\":\"pump\"}");
        assert!(rows.is_empty() && unread.problem.starts_with("not a word"), "{}", unread.problem);
    }
}
