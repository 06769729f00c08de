//! EMBEDDINGS: a column for each head whose vectors may leave.

use eddy_runtime::client::StoredMessage;
use eddy_schemas::{Embeddings, HeadColumn};

use super::{Series, Taking};
use crate::{
    class::Class,
    column::{Cell, Cells, Column},
    table::Table,
};

pub(super) fn table() -> Table {
    let columns = vec![
        Column::new("quality", Cells::Small(vec![])),
        Column::new("filled", Cells::Small(vec![])),
        Column::new("commissioning", Cells::Flag(vec![])),
        Column::new("period_ns", Cells::Long(vec![])),
        Column::new("bundle", Cells::Name(vec![])),
    ];
    Table::new(Class::Embeddings, columns)
}

pub(super) fn take(message: &StoredMessage, taking: Taking<'_>, table: &mut Table) -> Result<(), String> {
    let batch = Embeddings::decode(&message.payload).map_err(|error| error.to_string())?;
    let series = Series::of(&batch.rows, taking.filter, table);
    let bundle = table.names.number(&batch.bundle);
    let may_leave = |column: &&HeadColumn| taking.heads.may_leave(&batch.bundle, &column.head.name);
    let heads: Vec<_> =
        batch.heads.iter().filter(may_leave).map(|column| (format!("head_{}", column.head.name), column)).collect();
    let mut vector = Vec::new();
    for (row, key) in series.keys(&batch.rows, taking.filter, message.sequence) {
        table.push(
            key,
            [
                Cell::Small(batch.quality[row]),
                Cell::Small(batch.filled[row]),
                Cell::Flag(batch.commissioning[row] == 1),
                Cell::Long(batch.period[row]),
                Cell::Name(bundle),
            ],
        );
        for (name, column) in &heads {
            vector.resize(column.head.dimensions, 0.0);
            if column.copy_to(row, &mut vector) {
                table.list(name, &vector);
            }
        }
    }
    Ok(())
}
