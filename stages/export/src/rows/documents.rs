//! Alerts, contexts and labels: one document, one row. What a query asks for has columns, the rest is in `json`.

use eddy_runtime::client::StoredMessage;
use eddy_schemas::{ControlKind, Readings, alert::CloudEvent, context::Context, time_of};

use super::Taking;
use crate::{
    class::Class,
    column::{Cell, Cells, Column, NONE},
    table::{Key, Table},
};

/// Where a row stands in its stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    /// Of the message.
    pub sequence: u64,
    /// In the message.
    pub row: u32,
}

pub(super) fn alerts_table() -> Table {
    let columns = vec![
        Column::new("id", Cells::Text(vec![])),
        Column::new("alert", Cells::Text(vec![])),
        Column::new("type", Cells::Name(vec![])),
        Column::new("severity", Cells::Name(vec![])),
        Column::new("opened", Cells::Time(vec![])),
        Column::new("score", Cells::Number(vec![])),
        Column::new("tail", Cells::Number(vec![])),
        Column::new("threshold", Cells::Number(vec![])),
        Column::new("bundle", Cells::Name(vec![])),
        Column::new("json", Cells::Text(vec![])),
    ];
    Table::new(Class::Alerts, columns)
}

pub(super) fn alert(message: &StoredMessage, taking: Taking<'_>, table: &mut Table) -> Result<(), String> {
    let (event, json) = parse::<CloudEvent>(&message.payload, "not an alert")?;
    push_alert(&event, json, At { sequence: message.sequence, row: 0 }, taking, table)
}

/// Adds the row of an alert that was read from `json`, if it is taken.
pub(super) fn push_alert(
    event: &CloudEvent,
    json: &str,
    at: At,
    taking: Taking<'_>,
    table: &mut Table,
) -> Result<(), String> {
    let time = time(&event.time)?;
    let opened = self::time(&event.data.opened)?;
    if !taking.filter.takes_device(&event.data.device) || !taking.filter.takes_time(time) {
        return Ok(());
    }
    let device = table.names.number(&event.data.device);
    let kind = table.names.number(&event.kind);
    let severity = table.names.number(event.data.severity.as_str());
    let bundle = table.names.number(&event.data.bundle);
    table.push(
        Key { device, channel: NONE, time, sequence: at.sequence, row: at.row },
        [
            Cell::Text(Some(&event.id)),
            Cell::Text(Some(&event.data.alert)),
            Cell::Name(kind),
            Cell::Name(severity),
            Cell::Long(opened),
            Cell::Number(event.data.score),
            Cell::Number(event.data.tail),
            Cell::Number(event.data.threshold),
            Cell::Name(bundle),
            Cell::Text(Some(json)),
        ],
    );
    Ok(())
}

pub(super) fn contexts_table() -> Table {
    let columns = vec![
        Column::new("alert", Cells::Text(vec![])),
        Column::new("verdict", Cells::Name(vec![])),
        Column::new("bundle", Cells::Name(vec![])),
        Column::new("json", Cells::Text(vec![])),
    ];
    Table::new(Class::Contexts, columns)
}

pub(super) fn context(message: &StoredMessage, taking: Taking<'_>, table: &mut Table) -> Result<(), String> {
    let (context, json) = parse::<Context>(&message.payload, "not a context")?;
    push_context(&context, json, At { sequence: message.sequence, row: 0 }, taking, table)
}

/// Adds the row of a context that was read from `json`, if it is taken.
pub(super) fn push_context(
    context: &Context,
    json: &str,
    at: At,
    taking: Taking<'_>,
    table: &mut Table,
) -> Result<(), String> {
    let time = time(&context.opened)?;
    if !taking.filter.takes_device(&context.device) || !taking.filter.takes_time(time) {
        return Ok(());
    }
    let verdict = serde_json::to_value(&context.verdict).map_err(|error| error.to_string())?;
    let verdict = verdict.get("kind").and_then(serde_json::Value::as_str).unwrap_or_default();
    let (device, verdict) = (table.names.number(&context.device), table.names.number(verdict));
    let bundle = table.names.number(&context.bundle);
    table.push(
        Key { device, channel: NONE, time, sequence: at.sequence, row: at.row },
        [Cell::Text(Some(&context.alert)), Cell::Name(verdict), Cell::Name(bundle), Cell::Text(Some(json))],
    );
    Ok(())
}

pub(super) fn labels_table() -> Table {
    let columns = vec![
        Column::new("alert", Cells::Text(vec![])),
        Column::new("label", Cells::Name(vec![])),
        Column::new("origin", Cells::Name(vec![])),
        Column::new("control", Cells::Text(vec![])),
    ];
    Table::new(Class::Labels, columns)
}

pub(super) fn labels(message: &StoredMessage, taking: Taking<'_>, table: &mut Table) -> Result<(), String> {
    let batch = Readings::decode(&message.payload).map_err(|error| error.to_string())?;
    for (row, control) in &batch.rows.controls {
        let ControlKind::Label { device, alert, label } = &control.kind else { continue };
        let (origin, time, control_id) = (&control.origin, control.time, Some(control.id.as_str()));
        let said = Said { device, alert, label, origin, time, control: control_id };
        push_label(&said, At { sequence: message.sequence, row: *row as u32 }, taking, table);
    }
    Ok(())
}

/// What somebody said of an alert.
pub(super) struct Said<'a> {
    pub device: &'a str,
    pub alert: &'a str,
    pub label: &'a str,
    pub origin: &'a str,
    pub time: i64,
    /// The control that said it, where that is known.
    pub control: Option<&'a str>,
}

/// Adds the row of a label, if it is taken.
pub(super) fn push_label(said: &Said<'_>, at: At, taking: Taking<'_>, table: &mut Table) {
    if !taking.filter.takes_device(said.device) || !taking.filter.takes_time(said.time) {
        return;
    }
    let (device, label) = (table.names.number(said.device), table.names.number(said.label));
    let origin = table.names.number(said.origin);
    let key = Key { device, channel: NONE, time: said.time, sequence: at.sequence, row: at.row };
    table.push(key, [Cell::Text(Some(said.alert)), Cell::Name(label), Cell::Name(origin), Cell::Text(said.control)]);
}

/// A JSON document and its text.
///
/// # Errors
/// `not` and the reason.
pub(super) fn parse<'a, D: serde::de::DeserializeOwned>(bytes: &'a [u8], not: &str) -> Result<(D, &'a str), String> {
    let json = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let document = serde_json::from_str(json).map_err(|error| format!("{not}: {error}"))?;
    Ok((document, json))
}

fn time(text: &str) -> Result<i64, String> {
    time_of(text).ok_or_else(|| format!("{text:?} is not a time"))
}
