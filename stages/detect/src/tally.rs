//! How the judges of two bundles compare on the same rows.
//!
//! It is of all devices, whose records are told one after the other ([`crate::registry`]), so it is told behind them, with the row up to which
//! it counts: a replay, which leaves out the rows that a device has seen, counts from there on.

use eddy_runtime::{position::Seen, stage::SaveRecord};

/// Its record: three numbers, and message and rows up to which they count.
pub(crate) const TALLY: &[u8] = b"t";

/// What both judges made of the rows of series that the one in the shadow is commissioned for, since that one joined.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    pub(crate) opened: u64,
    pub(crate) told: u64,
    /// Rows up to here stood in it when it was loaded; and the newest row.
    counted: Seen,
    newest: Seen,
    is_changed: bool,
}

impl Tally {
    /// Another judge joined, or none is left.
    pub(crate) fn begin(&mut self) {
        *self = Self { is_changed: true, counted: self.counted, newest: self.newest, ..Self::default() };
    }

    /// A row that stands at `at`; where the judge in the shadow has a say, whether it opened an alert, and the other one told one.
    pub(crate) fn count(&mut self, at: Seen, opened: Option<bool>, told: bool) {
        self.newest = at;
        if let Some(opened) = opened.filter(|_| at > self.counted) {
            self.rows += 1;
            self.opened += u64::from(opened);
            self.told += u64::from(told);
            self.is_changed = true;
        }
    }

    /// Tells it, if it changed.
    pub(crate) fn save(&mut self, tell: &mut SaveRecord<'_>) {
        if std::mem::take(&mut self.is_changed) {
            let Self { rows, opened, told, .. } = self;
            let counted = self.newest.max(self.counted);
            let text = format!("{rows} {opened} {told} {} {}\n", counted.sequence, counted.rows);
            tell(TALLY, Some(text.as_bytes()));
        }
    }

    /// Takes it back.
    ///
    /// # Errors
    /// If the record is not one.
    pub(crate) fn load(value: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(value).map_err(|error| error.to_string())?;
        let [rows, opened, told, sequence, seen] = numbers(text)?;
        Ok(Self { rows, opened, told, counted: Seen { sequence, rows: seen }, ..Self::default() })
    }

    /// The same of a line of the roles, where a release before kept it, as of the same position as all else.
    ///
    /// # Errors
    /// If the line is not one.
    pub(crate) fn load_older(line: &str) -> Result<Self, String> {
        let [rows, opened, told] = numbers(line)?;
        Ok(Self { rows, opened, told, is_changed: true, ..Self::default() })
    }
}

/// All numbers of a line.
fn numbers<const N: usize>(line: &str) -> Result<[u64; N], String> {
    let all: Option<Vec<u64>> = line.trim_end().split(' ').map(|number| number.parse().ok()).collect();
    all.and_then(|all| all.try_into().ok()).ok_or_else(|| format!("expected {N} numbers, found {line:?}"))
}
