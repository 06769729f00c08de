//! Building: all windows are linked but for some, these are asked for, so that what recall an effort reaches is told of vectors
//! that the graph does not know, and then linked too.

use super::{
    damaged,
    draft::{Draft, Links},
    laid::Rows,
};
use crate::index::{
    kind::{Bounds, KindError, Reached},
    probes::{self, NEIGHBOURS, Probe},
};

/// Candidates that are looked at for each window.
const EFFORT: usize = 96;
/// Windows that are asked for, at most, and of how many it is one.
const PROBES: usize = 512;
const PROBES_OF: usize = 16;
/// Candidates that are kept during a walk.
const EFFORTS: [u32; 14] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];
/// Rows that are measured at once.
const BLOCK: usize = 512;

/// The links between all rows that there are, and what recall efforts reach.
pub(super) fn linked(rows: &Rows<'_>, bounds: &Bounds<'_>) -> Result<(Links, Reached), KindError> {
    let items: Vec<u32> = (0..rows.rows.len() as u32).filter(|item| rows.has(*item)).collect();
    let step = PROBES_OF.max(items.len() / PROBES);
    let is_probe = |at: usize| at % step == step / 2;
    let (mut asked, mut others) = (Vec::new(), Vec::with_capacity(items.len()));
    for (at, item) in items.into_iter().enumerate() {
        if is_probe(at) { asked.push(item) } else { others.push(item) }
    }
    let mut draft = Draft::new(&rows.rows, bounds.seed, EFFORT);
    link(&mut draft, &others, bounds)?;
    draft.thin_out()?;
    let reached = reached(rows, &mut draft, &asked, &others, bounds)?;
    link(&mut draft, &asked, bounds)?;
    draft.thin_out()?;
    Ok((draft.links(), reached))
}

fn link(draft: &mut Draft<'_>, items: &[u32], bounds: &Bounds<'_>) -> Result<(), KindError> {
    for item in items {
        if (bounds.cancelled)() {
            return Err(KindError::Cancelled);
        }
        draft.link(*item)?;
    }
    Ok(())
}

fn reached(
    rows: &Rows<'_>,
    draft: &mut Draft<'_>,
    asked: &[u32],
    others: &[u32],
    bounds: &Bounds<'_>,
) -> Result<Reached, KindError> {
    let mut probes = Vec::with_capacity(asked.len());
    for item in asked {
        let mut vector = Vec::new();
        rows.rows.copy(*item, &mut vector);
        probes.push(Probe::new(*item, vector));
    }
    let mut squared = Vec::with_capacity(BLOCK);
    for block in others.chunks(BLOCK) {
        if (bounds.cancelled)() {
            return Err(KindError::Cancelled);
        }
        for probe in &mut probes {
            if !rows.rows.squared(&probe.vector, block, &mut squared) {
                return Err(damaged("its rows are cut off"));
            }
            squared.iter().for_each(|squared| probe.offer(*squared));
        }
    }
    probes::reached(&probes, &EFFORTS, others.len() as u32, |probe, effort| {
        if (bounds.cancelled)() {
            return Err(KindError::Cancelled);
        }
        let found = draft.nearest(&probe.vector, effort as usize)?;
        Ok(found.into_iter().take(NEIGHBOURS).map(|far| far.squared()).collect())
    })
}
