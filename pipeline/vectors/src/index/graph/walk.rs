//! Walking through a layer towards a vector: the nearest node that was seen and not yet visited is visited next, its links
//! are measured, and so on until none is nearer than the nearest so many that are kept.

use std::{cmp::Reverse, collections::BinaryHeap};

use roaring::RoaringBitmap;

use super::layer::Layer;
use crate::half_rows::HalfRows;

/// A node with its squared distance, by which it is ordered, then by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Far(u64);

impl Far {
    /// The bits of numbers that are not negative are in their order.
    pub(super) fn new(squared: f32, node: u32) -> Self {
        Self(u64::from(squared.to_bits()) << 32 | u64::from(node))
    }

    pub(super) fn node(self) -> u32 {
        self.0 as u32
    }

    pub(super) fn squared(self) -> f32 {
        f32::from_bits((self.0 >> 32) as u32)
    }
}

/// Why a walk did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// A link leads nowhere.
    Damaged,
    /// It has measured as many as it may.
    TooLong,
}

/// Where a walk may look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course<'a> {
    /// How many of the nearest are kept.
    pub(super) effort: usize,
    /// Only these are kept; the others are passed through.
    pub(super) among: Option<&'a RoaringBitmap>,
    /// Nodes that may be measured.
    pub(super) measured_max: usize,
}

impl Course<'_> {
    /// Everywhere.
    pub(super) fn free(effort: usize) -> Self {
        Self { effort, among: None, measured_max: usize::MAX }
    }
}

/// What a walk needs, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Walker {
    seen: Seen,
    ahead: BinaryHeap<Reverse<Far>>,
    kept: BinaryHeap<Far>,
    nodes: Vec<u32>,
    items: Vec<u32>,
    squared: Vec<f32>,
}

impl Walker {
    /// The nearest nodes to `query` that a walk from some `entries` finds, nearest first.
    pub(super) fn walk(
        &mut self,
        rows: &HalfRows<'_>,
        layer: &impl Layer,
        query: &[f32],
        entries: &[Far],
        course: Course<'_>,
    ) -> Result<Vec<Far>, Lost> {
        self.seen.clear(layer.len());
        self.ahead.clear();
        self.kept.clear();
        self.nodes.clear();
        for entry in entries {
            if self.seen.is_new(entry.node()) {
                self.meet(*entry, &course);
            }
        }
        let mut measured = 0;
        while let Some(Reverse(next)) = self.ahead.pop() {
            if self.kept.len() >= course.effort
                && self.kept.peek().is_some_and(|worst| next.squared() > worst.squared())
            {
                break;
            }
            self.nodes.clear();
            if !layer.links(next.node(), &mut self.nodes) {
                return Err(Lost::Damaged);
            }
            self.nodes.retain(|node| self.seen.is_new(*node));
            measured += self.nodes.len();
            if measured > course.measured_max {
                return Err(Lost::TooLong);
            }
            let is_there = layer.items(&self.nodes, &mut self.items);
            if !is_there || !rows.squared(query, &self.items, &mut self.squared) {
                return Err(Lost::Damaged);
            }
            for at in 0..self.nodes.len() {
                self.meet(Far::new(self.squared[at], self.nodes[at]), &course);
            }
        }
        Ok(std::mem::take(&mut self.kept).into_sorted_vec())
    }

    fn meet(&mut self, far: Far, course: &Course<'_>) {
        let is_full = self.kept.len() >= course.effort;
        if is_full && self.kept.peek().is_none_or(|worst| far >= *worst) {
            return;
        }
        self.ahead.push(Reverse(far));
        if course.among.is_some_and(|among| !among.contains(far.node())) {
            return;
        }
        if is_full {
            // The worst one makes room.
            if let Some(mut worst) = self.kept.peek_mut() {
                *worst = far;
            }
        } else {
            self.kept.push(far);
        }
    }
}

/// Nodes that were seen: a bit for each, and which words of them have one.
#[derive(Debug, Default)]
struct Seen {
    words: Vec<u64>,
    used: Vec<u32>,
}

impl Seen {
    /// None of `len`.
    fn clear(&mut self, len: usize) {
        for word in self.used.drain(..) {
            self.words[word as usize] = 0;
        }
        if self.words.len() * 64 < len {
            self.words.resize(len.div_ceil(64), 0);
        }
    }

    /// Notes one; whether it was not seen before. One past all there are counts as seen.
    #[inline]
    fn is_new(&mut self, node: u32) -> bool {
        let Some(word) = self.words.get_mut(node as usize / 64) else { return false };
        let bit = 1 << (node % 64);
        if *word & bit != 0 {
            return false;
        }
        if *word == 0 {
            self.used.push(node / 64);
        }
        *word |= bit;
        true
    }
}
