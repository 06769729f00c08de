//! READINGS, SAMPLES and the score batches of DETECTIONS.

use eddy_runtime::client::StoredMessage;
use eddy_schemas::{Readings, Samples, Scores};

use super::{Series, Taking};
use crate::{
    class::Class,
    column::{Cell, Cells, Column, Lists, NONE},
    table::{Key, Table},
};

pub(super) fn readings_table() -> Table {
    let columns = vec![
        Column::new("value", Cells::Number(vec![])),
        Column::new("quality", Cells::Small(vec![])),
        Column::new("arrival", Cells::Time(vec![])),
        Column::new("burst", Cells::List(Lists::default())),
        Column::new("burst_rate_hz", Cells::Number(vec![])),
        Column::new("control", Cells::Text(vec![])),
    ];
    Table::new(Class::Readings, columns)
}

/// Controls are rows too: replayed, they have to come in their place.
pub(super) fn readings(message: &StoredMessage, taking: Taking<'_>, table: &mut Table) -> Result<(), String> {
    let batch = Readings::decode(&message.payload).map_err(|error| error.to_string())?;
    let series = Series::of(&batch.rows, taking.filter, table);
    for (row, key) in series.keys(&batch.rows, taking.filter, message.sequence) {
        let burst = batch.burst(row);
        table.push(
            key,
            [
                Cell::Number(batch.value[row]),
                Cell::Small(batch.quality[row]),
                Cell::Long(batch.arrival[row]),
                Cell::List(burst.map(|burst| burst.values)),
                Cell::Number(burst.map_or(f64::NAN, |burst| burst.rate_hz)),
                Cell::Text(None),
            ],
        );
    }
    for (row, control) in &batch.rows.controls {
        // One about the whole site is of every device.
        let of_other = control.device().is_some_and(|device| !taking.filter.takes_device(device));
        if of_other || !taking.filter.takes_time(control.time) {
            continue;
        }
        let device = table.names.number(control.device().unwrap_or_default());
        let key = Key { device, channel: NONE, time: control.time, sequence: message.sequence, row: *row as u32 };
        table.push(
            key,
            [
                Cell::Number(f64::NAN),
                Cell::Small(0),
                Cell::Long(batch.arrival[*row]),
                Cell::List(None),
                Cell::Number(f64::NAN),
                Cell::Text(Some(&control.to_json())),
            ],
        );
    }
    Ok(())
}

pub(super) fn samples_table() -> Table {
    let columns = vec![
        Column::new("value", Cells::Number(vec![])),
        Column::new("quality", Cells::Small(vec![])),
        Column::new("period_ns", Cells::Long(vec![])),
        Column::new("spectrum", Cells::List(Lists::default())),
    ];
    Table::new(Class::Samples, columns)
}

pub(super) fn samples(message: &StoredMessage, taking: Taking<'_>, table: &mut Table) -> Result<(), String> {
    let batch = Samples::decode(&message.payload).map_err(|error| error.to_string())?;
    let series = Series::of(&batch.rows, taking.filter, table);
    for (row, key) in series.keys(&batch.rows, taking.filter, message.sequence) {
        table.push(
            key,
            [
                Cell::Number(batch.value[row]),
                Cell::Small(batch.quality[row]),
                Cell::Long(batch.period[row]),
                Cell::List(batch.spectrum(row).map(|spectrum| &spectrum[..])),
            ],
        );
    }
    Ok(())
}

pub(super) fn scores_table() -> Table {
    let columns = vec![
        Column::new("score", Cells::Single(vec![])),
        Column::new("tail", Cells::Number(vec![])),
        Column::new("flags", Cells::Small(vec![])),
        Column::new("bundle", Cells::Name(vec![])),
        Column::new("vector", Cells::List(Lists::default())),
    ];
    Table::new(Class::Scores, columns)
}

pub(super) fn scores(message: &StoredMessage, taking: Taking<'_>, table: &mut Table) -> Result<(), String> {
    let batch = Scores::decode(&message.payload).map_err(|error| error.to_string())?;
    let series = Series::of(&batch.rows, taking.filter, table);
    let bundle = table.names.number(&batch.bundle);
    for (row, key) in series.keys(&batch.rows, taking.filter, message.sequence) {
        let vector: Option<Vec<f32>> =
            batch.window(row).map(|window| window.vector.iter().map(|x| x.to_f32()).collect());
        table.push(
            key,
            [
                Cell::Single(batch.score[row]),
                Cell::Number(batch.tail[row]),
                Cell::Small(batch.flags[row]),
                Cell::Name(bundle),
                Cell::List(vector.as_deref()),
            ],
        );
    }
    Ok(())
}
