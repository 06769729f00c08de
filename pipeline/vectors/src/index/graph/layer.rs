//! Layers of a graph: nodes and the nodes that each is linked with, as they lie on disk.
//!
//! The ground layer has a node for every window, under its number. A layer above has some of them, under places of its own: a
//! record says which window a place is, which place that has on the layer below, and which places it is linked with. Links are
//! a fixed number of `u32`, the least byte first; those that are not used are [`NONE`], behind those that are.

use crate::half_rows::PART;

/// Links of a node on the ground layer, and on those above.
pub(super) const GROUND_LINKS: usize = 32;
pub(super) const LINKS: usize = 16;
/// Layers above the ground at most.
pub(super) const LAYERS_MAX: usize = 8;
/// In the place of a link: no link.
pub(super) const NONE: u32 = u32::MAX;
/// Bytes of a record.
const GROUND_BYTES: usize = GROUND_LINKS * 4;
const BYTES: usize = (LINKS + 2) * 4;

/// What a walk asks of a layer.
pub(super) trait Layer {
    /// How many nodes it has.
    fn len(&self) -> usize;

    /// The nodes that one is linked with, appended; `false` if there is no such node, or one that it names is none.
    fn links(&self, node: u32, links: &mut Vec<u32>) -> bool;

    /// The windows that nodes are, put into the place of what `items` held; `false` if one is none.
    fn items(&self, nodes: &[u32], items: &mut Vec<u32>) -> bool;
}

/// Appends the links of a record, up to the first that is none; `false` if one is not below `len`.
pub(super) fn used(record: impl Iterator<Item = u32>, len: usize, links: &mut Vec<u32>) -> bool {
    for link in record {
        match link {
            NONE => return true,
            link if (link as usize) < len => links.push(link),
            _ => return false,
        }
    }
    true
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks().0.iter().map(|number| u32::from_le_bytes(*number))
}

/// The ground layer as it lies on disk, in parts.
#[derive(Clone, Debug)]
pub(super) struct Ground<'a> {
    len: usize,
    parts: Vec<&'a [u8]>,
}

impl<'a> Ground<'a> {
    /// `None` if there are not as many bytes as `len` nodes take.
    pub(super) fn read(len: usize, parts: Vec<&'a [u8]>) -> Option<Self> {
        let expected = |part: usize| PART.min(len - part * PART) * GROUND_BYTES;
        let fits = parts.len() == len.div_ceil(PART);
        let fits = fits && parts.iter().enumerate().all(|(part, bytes)| bytes.len() == expected(part));
        fits.then_some(Self { len, parts })
    }
}

impl Layer for Ground<'_> {
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn links(&self, node: u32, links: &mut Vec<u32>) -> bool {
        let (part, at) = (node as usize / PART, node as usize % PART * GROUND_BYTES);
        let record = self.parts.get(part).and_then(|part| part.get(at..at + GROUND_BYTES));
        record.is_some_and(|record| used(numbers(record), self.len, links))
    }

    #[inline]
    fn items(&self, nodes: &[u32], items: &mut Vec<u32>) -> bool {
        items.clear();
        items.extend_from_slice(nodes);
        true
    }
}

/// A layer above it, as it lies on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Above<'a> {
    bytes: &'a [u8],
}

impl<'a> Above<'a> {
    /// `None` if there is none, or there are not as many bytes as `len` nodes take.
    pub(super) fn read(len: usize, bytes: &'a [u8]) -> Option<Self> {
        (len > 0 && bytes.len() == len * BYTES).then_some(Self { bytes })
    }

    fn record(&self, node: u32) -> Option<&'a [u8]> {
        self.bytes.get(node as usize * BYTES..)?.get(..BYTES)
    }

    /// The window that a node is, and the node that this is on the layer below.
    pub(super) fn of(&self, node: u32) -> Option<(u32, u32)> {
        let mut numbers = numbers(self.record(node)?);
        Some((numbers.next()?, numbers.next()?))
    }
}

impl Layer for Above<'_> {
    fn len(&self) -> usize {
        self.bytes.len() / BYTES
    }

    fn links(&self, node: u32, links: &mut Vec<u32>) -> bool {
        self.record(node).is_some_and(|record| used(numbers(record).skip(2), self.len(), links))
    }

    fn items(&self, nodes: &[u32], items: &mut Vec<u32>) -> bool {
        items.clear();
        items.extend(nodes.iter().filter_map(|node| self.of(*node)).map(|(item, _)| item));
        items.len() == nodes.len()
    }
}
