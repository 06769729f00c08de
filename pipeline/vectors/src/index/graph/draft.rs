//! A graph while it is built: windows are linked one after the other, each with near ones that lie in different directions.
//!
//! What is linked depends on the windows, their order and the seed alone. One thread links: two would make it a matter of chance.

use super::{
    layer::{GROUND_LINKS, LAYERS_MAX, LINKS, Layer, NONE, used},
    walk::{Course, Far, Lost, Walker},
};
use crate::{
    codec::Put as _,
    half_rows::{HalfRows, any_within},
};

/// Links that a node may have beyond its number until they are thinned out: it is done for many at once.
const SPARE: usize = 8;
/// A node is not linked where a nearer one already leads, unless the way over that is longer by this factor (alpha in DiskANN:
/// Subramanya et al. 2019), squared. What places are left go to the nearest of those.
const DETOUR_SQUARED: f32 = 1.1 * 1.1;

/// A layer with room for [`SPARE`] links more a node.
#[derive(Debug)]
pub(super) struct Open {
    /// Most links of a node.
    most: usize,
    links: Vec<u32>,
    /// Above the ground layer: which window a node is, and which node that is below.
    of: Option<Vec<(u32, u32)>>,
}

impl Open {
    fn ground(len: usize) -> Self {
        Self { most: GROUND_LINKS, links: vec![NONE; len * (GROUND_LINKS + SPARE)], of: None }
    }

    fn above() -> Self {
        Self { most: LINKS, links: Vec::new(), of: Some(Vec::new()) }
    }

    fn record(&self, node: u32) -> &[u32] {
        let room = self.most + SPARE;
        &self.links[node as usize * room..][..room]
    }

    fn record_mut(&mut self, node: u32) -> &mut [u32] {
        let room = self.most + SPARE;
        &mut self.links[node as usize * room..][..room]
    }

    /// Appends the records of a run of nodes, as [`layer`](super::layer) has them.
    pub(super) fn put(&self, nodes: std::ops::Range<usize>, bytes: &mut Vec<u8>) {
        for node in nodes.start as u32..nodes.end as u32 {
            if self.of.is_some() {
                let (item, below) = self.of(node);
                bytes.put_u32(item);
                bytes.put_u32(below);
            }
            self.record(node)[..self.most].iter().for_each(|link| bytes.put_u32(*link));
        }
    }

    /// The window that a node is, and the node that this is below.
    fn of(&self, node: u32) -> (u32, u32) {
        self.of.as_ref().map_or((node, node), |of| of[node as usize])
    }

    fn set(&mut self, node: u32, links: &[u32]) {
        let record = self.record_mut(node);
        record[..links.len()].copy_from_slice(links);
        record[links.len()..].fill(NONE);
    }

    /// Links a node with one more; `false` if it has no room.
    fn add(&mut self, node: u32, link: u32) -> bool {
        let free = self.record_mut(node).iter_mut().find(|link| **link == NONE);
        free.map(|free| *free = link).is_some()
    }

    fn push(&mut self, item: u32, below: u32) -> u32 {
        let of = self.of.get_or_insert_default();
        of.push((item, below));
        let node = of.len() - 1;
        self.links.resize((node + 1) * (self.most + SPARE), NONE);
        node as u32
    }
}

impl Layer for Open {
    fn len(&self) -> usize {
        self.links.len() / (self.most + SPARE)
    }

    fn links(&self, node: u32, links: &mut Vec<u32>) -> bool {
        used(self.record(node).iter().copied(), self.len(), links)
    }

    fn items(&self, nodes: &[u32], items: &mut Vec<u32>) -> bool {
        items.clear();
        items.extend(nodes.iter().map(|node| self.of(*node).0));
        true
    }
}

/// What was linked with what.
pub(super) struct Links {
    /// The ground layer first.
    pub(super) layers: Vec<Open>,
    /// The window that was linked first.
    pub(super) first: Option<u32>,
}

/// See the module.
pub(super) struct Draft<'a> {
    rows: &'a HalfRows<'a>,
    seed: u64,
    effort: usize,
    /// The ground layer first.
    layers: Vec<Open>,
    /// The window that was linked first.
    first: Option<u32>,
    walker: Walker,
    choice: Choice,
}

impl<'a> Draft<'a> {
    /// Bytes that it takes for a window, and some.
    pub(super) const BYTES: usize = (GROUND_LINKS + SPARE) * 4 + (LINKS + SPARE + 2) * 4 / (LINKS - 1);

    /// Nothing linked yet; each will look at `effort` candidates.
    pub(super) fn new(rows: &'a HalfRows<'a>, seed: u64, effort: usize) -> Self {
        let layers = vec![Open::ground(rows.len())];
        Self { rows, seed, effort, layers, first: None, walker: Walker::default(), choice: Choice::default() }
    }

    /// Links a window.
    pub(super) fn link(&mut self, item: u32) -> Result<(), Lost> {
        let mut vector = Vec::new();
        if !self.rows.copy(item, &mut vector) {
            return Err(Lost::Damaged);
        }
        let top = self.layers.len() - 1;
        let mut near = self.entry(&vector)?;
        let nodes = self.place(item);
        for layer in (0..=top).rev() {
            let open = &mut self.layers[layer];
            let node = nodes.get(layer).copied();
            let effort = if node.is_some() { self.effort } else { 1 };
            near = self.walker.walk(self.rows, open, &vector, &near, Course::free(effort))?;
            if let Some(node) = node {
                self.choice.join(self.rows, open, node, &near)?;
            }
            near.iter_mut().for_each(|far| *far = Far::new(far.squared(), open.of(far.node()).1));
        }
        self.first.get_or_insert(item);
        Ok(())
    }

    /// The nearest that a walk with an effort finds.
    pub(super) fn nearest(&mut self, query: &[f32], effort: usize) -> Result<Vec<Far>, Lost> {
        let mut near = self.entry(query)?;
        for (layer, open) in self.layers.iter().enumerate().rev() {
            let course = Course::free(if layer == 0 { effort } else { 1 });
            near = self.walker.walk(self.rows, open, query, &near, course)?;
            near.iter_mut().for_each(|far| *far = Far::new(far.squared(), open.of(far.node()).1));
        }
        Ok(near)
    }

    /// Leaves no node more links than its number.
    pub(super) fn thin_out(&mut self) -> Result<(), Lost> {
        for open in &mut self.layers {
            for node in 0..open.len() as u32 {
                if open.record(node)[open.most] != NONE {
                    self.choice.thin_out(self.rows, open, node, None)?;
                }
            }
        }
        Ok(())
    }

    /// What was linked.
    pub(super) fn links(self) -> Links {
        Links { layers: self.layers, first: self.first }
    }

    /// Where a walk begins on the top layer: at the node that first reached it.
    fn entry(&self, vector: &[f32]) -> Result<Vec<Far>, Lost> {
        let top = &self.layers[self.layers.len() - 1];
        let node = if top.of.is_some() { Some(0) } else { self.first };
        let Some(node) = node else { return Ok(Vec::new()) };
        let mut squared = Vec::with_capacity(1);
        match self.rows.squared(vector, &[top.of(node).0], &mut squared) {
            true => Ok(vec![Far::new(squared[0], node)]),
            false => Err(Lost::Damaged),
        }
    }

    /// Gives a window its place on the layers that it reaches: one in [`LINKS`] reaches the next.
    fn place(&mut self, item: u32) -> Vec<u32> {
        let zeros = mixed(self.seed ^ u64::from(item)).trailing_zeros();
        let height = LAYERS_MAX.min((zeros / LINKS.ilog2()) as usize);
        let mut nodes = vec![item];
        for layer in 1..=height {
            if layer == self.layers.len() {
                self.layers.push(Open::above());
            }
            let node = self.layers[layer].push(item, nodes[layer - 1]);
            nodes.push(node);
        }
        nodes
    }
}

/// Chooses links.
#[derive(Debug, Default)]
struct Choice {
    candidates: Vec<Far>,
    nodes: Vec<u32>,
    items: Vec<u32>,
    squared: Vec<f32>,
    vector: Vec<f32>,
    /// The vectors of those that are chosen, one after the other.
    vectors: Vec<f32>,
    chosen: Vec<u32>,
    left: Vec<u32>,
}

impl Choice {
    /// Links a node with some of those that are near, and these with it.
    fn join(&mut self, rows: &HalfRows<'_>, open: &mut Open, node: u32, near: &[Far]) -> Result<(), Lost> {
        self.candidates.clear();
        self.candidates.extend_from_slice(near);
        self.choose(rows, open, LINKS)?;
        open.set(node, &self.chosen);
        for other in std::mem::take(&mut self.chosen) {
            if !open.add(other, node) {
                self.thin_out(rows, open, other, Some(node))?;
            }
        }
        Ok(())
    }

    /// Leaves a node the best of its links and one that may be new.
    fn thin_out(&mut self, rows: &HalfRows<'_>, open: &mut Open, node: u32, new: Option<u32>) -> Result<(), Lost> {
        self.nodes.clear();
        self.nodes.extend(open.record(node).iter().copied().filter(|link| *link != NONE).chain(new));
        open.items(&self.nodes, &mut self.items);
        let is_there = rows.copy(open.of(node).0, &mut self.vector);
        if !is_there || !rows.squared(&self.vector, &self.items, &mut self.squared) {
            return Err(Lost::Damaged);
        }
        self.candidates.clear();
        self.candidates.extend(self.squared.iter().zip(&self.nodes).map(|(squared, node)| Far::new(*squared, *node)));
        self.candidates.sort_unstable();
        self.choose(rows, open, open.most)?;
        open.set(node, &self.chosen);
        Ok(())
    }

    /// The `most` of the candidates (nearest first) that lead into different directions, then the nearest others.
    fn choose(&mut self, rows: &HalfRows<'_>, open: &Open, most: usize) -> Result<(), Lost> {
        self.chosen.clear();
        self.left.clear();
        self.vectors.clear();
        for far in &self.candidates {
            if self.chosen.len() == most {
                break;
            }
            if !rows.copy(open.of(far.node()).0, &mut self.vector) {
                return Err(Lost::Damaged);
            }
            if any_within(&self.vector, &self.vectors, far.squared() / DETOUR_SQUARED) {
                self.left.push(far.node());
            } else {
                self.chosen.push(far.node());
                self.vectors.extend_from_slice(&self.vector);
            }
        }
        let places = most - self.chosen.len();
        self.chosen.extend(self.left.iter().take(places));
        Ok(())
    }
}

/// A number of which every bit depends on every bit of another (the end of SplitMix64).
fn mixed(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
