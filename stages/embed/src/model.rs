//! The bundle's graph under tract: windows in, one matrix per head out.
//!
//! A window's vectors must be the same bits whatever batch it comes in (INV-3). tract picks its kernels by the batch's
//! size, and two kernels sum in two orders (seen: 16 against 256 windows), so there is ONE size, padded where it is not
//! full; every start tries that a window's place in the batch changes nothing either. 64 windows cost some 65 us, so a
//! single reading waits no longer than that, and larger batches are hardly faster a window.

use std::{io::Cursor, sync::Arc};

use eddy_runtime::bundle::{Head, Manifest};
use tract_onnx::prelude::*;

/// How many windows every run of the graph takes.
const BATCH: usize = 64;
/// The graph's one input.
const INPUT: &str = "window";
/// Heads of at most that many dimensions travel as f32, the others as f16 (the layout of EMBEDDINGS).
const F32_DIMENSIONS_MAX: usize = 4;
/// Values of heads that travel as f16 are kept within this, so that they stay finite.
const F16_MAX: f32 = 65_504.0;
/// The same for heads that travel as f32: their squares and sums of them stay finite.
const F32_MAX: f32 = 1e18;

/// A graph, ready to run.
pub(crate) struct Model {
    plan: Arc<TypedRunnableModel>,
    input_window: usize,
    /// Per head its dimensions and the bound of its values.
    heads: Vec<(usize, f32)>,
    bounded: Vec<f32>,
}

impl Model {
    /// Prepares the graph for the heads of `manifest`, in their order, and tries it.
    ///
    /// # Errors
    /// Every way in which the graph is not what the manifest says: what was expected and what was found.
    pub(crate) fn new(onnx: &[u8], manifest: &Manifest) -> Result<Self, Vec<String>> {
        let graph = tract_onnx::onnx()
            .model_for_read(&mut Cursor::new(onnx))
            .map_err(|error| vec![format!("model.onnx: expected an ONNX graph that tract reads, found: {error:#}")])?;
        let plan = plan(graph, manifest)?;
        let limit = |head: &Head| if head.dimensions <= F32_DIMENSIONS_MAX { F32_MAX } else { F16_MAX };
        let heads = manifest.heads.iter().map(|head| (head.dimensions, limit(head))).collect();
        let mut model = Self { plan, input_window: manifest.input_window, heads, bounded: Vec::new() };
        model.try_out(manifest).map_err(|problem| vec![format!("model.onnx: {problem}")])?;
        Ok(model)
    }

    /// Runs `windows` (row-major, `input_window` values a row) and hands the vectors to `take(head, vectors)`, each head's
    /// in order of rows.
    ///
    /// # Errors
    /// If tract fails.
    pub(crate) fn infer(&mut self, windows: &[f32], mut take: impl FnMut(usize, &[f32])) -> TractResult<()> {
        for windows in windows.chunks(BATCH * self.input_window) {
            let rows = windows.len() / self.input_window;
            let mut input = Tensor::zero::<f32>(&[BATCH, self.input_window])?;
            input.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?[..windows.len()].copy_from_slice(windows);
            for (head, output) in self.plan.run(tvec!(input.into()))?.iter().enumerate() {
                let (dimensions, limit) = self.heads[head];
                let output = output.try_as_plain_ram()?;
                self.bounded.clear();
                self.bounded.extend(output.as_slice::<f32>()?[..rows * dimensions].iter().map(|x| bound(*x, limit)));
                take(head, &self.bounded);
            }
        }
        Ok(())
    }

    /// Runs some windows alone and among others: the same bits must come out.
    fn try_out(&mut self, manifest: &Manifest) -> Result<(), String> {
        let width = self.input_window;
        let rows = BATCH + 1;
        let mut dice = 1u32;
        let mut next = || {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (dice >> 8) as f32 / (1 << 22) as f32 - 2.0
        };
        let windows: Vec<f32> = (0..rows * width).map(|_| next()).collect();
        let mut vectors = |windows: &[f32]| -> Result<Vec<Vec<f32>>, String> {
            let mut all = vec![Vec::new(); manifest.heads.len()];
            self.infer(windows, |head, vectors| all[head].extend_from_slice(vectors)).map_err(|e| format!("{e:#}"))?;
            Ok(all)
        };
        let together = vectors(&windows)?;
        for row in [0, 1, BATCH / 2, BATCH - 1, BATCH] {
            let alone = vectors(&windows[row * width..(row + 1) * width])?;
            for (head, (alone, together)) in manifest.heads.iter().zip(alone.iter().zip(&together)) {
                let there = &together[row * head.dimensions..(row + 1) * head.dimensions];
                let same = alone.iter().zip(there).all(|(a, b)| a.to_bits() == b.to_bits());
                if !same {
                    let name = &head.name;
                    return Err(format!(
                        "head {name:?}: expected the same vector for a window in any batch, found {alone:?} alone and {there:?} among {rows}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Keeps a value finite: what is not a number is 0.
fn bound(x: f32, limit: f32) -> f32 {
    if x.is_nan() { 0.0 } else { x.clamp(-limit, limit) }
}

/// Fixes the batch size of `graph` and optimises it.
fn plan(mut graph: InferenceModel, manifest: &Manifest) -> Result<Arc<TypedRunnableModel>, Vec<String>> {
    select(&mut graph, manifest)?;
    let width = manifest.input_window;
    let wrong = |error: TractError| {
        vec![format!(
            "model.onnx: expected a graph of input {INPUT:?} f32 [N, {width}] that tract runs, found: {error:#}"
        )]
    };
    let typed = graph
        .with_input_fact(0, f32::fact([BATCH, width]).into())
        .and_then(|graph| graph.into_typed())
        .map_err(wrong)?;
    let mut problems = Vec::new();
    for (index, head) in manifest.heads.iter().enumerate() {
        let fact = typed.output_fact(index).map_err(wrong)?;
        if fact.datum_type != f32::datum_type() || fact.shape.as_concrete() != Some(&[BATCH, head.dimensions]) {
            let found = format!("{:?} {:?}", fact.datum_type, fact.shape).to_lowercase();
            let Head { name, output, dimensions, .. } = head;
            problems.push(format!(
                "model.onnx: head {name:?}: expected output {output:?} to be f32 [{BATCH},{dimensions}] for {BATCH} windows, found {found}"
            ));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    typed.into_optimized().and_then(|graph| graph.into_runnable()).map_err(wrong)
}

/// Makes the heads' outputs, in their order, the graph's only ones.
fn select(graph: &mut InferenceModel, manifest: &Manifest) -> Result<(), Vec<String>> {
    let wrong = |error: TractError| vec![format!("model.onnx: {error:#}")];
    let inputs: Vec<&str> =
        graph.input_outlets().map_err(wrong)?.iter().map(|outlet| graph.node(outlet.node).name.as_str()).collect();
    let mut problems = Vec::new();
    if inputs != [INPUT] {
        problems.push(format!("model.onnx: expected one input, {INPUT:?}, found {inputs:?}"));
    }
    let outputs: Vec<_> = graph.output_outlets().map_err(wrong)?.to_vec();
    let label = |outlet: &OutletId| graph.outlet_label(*outlet).unwrap_or(&graph.node(outlet.node).name);
    let mut selected = Vec::new();
    for head in &manifest.heads {
        match outputs.iter().find(|outlet| label(outlet) == head.output) {
            Some(outlet) => selected.push(*outlet),
            None => {
                let found: Vec<_> = outputs.iter().map(label).collect();
                let Head { name, output, .. } = head;
                problems.push(format!("model.onnx: head {name:?}: expected an output {output:?}, found {found:?}"));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    graph.select_output_outlets(&selected).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use eddy_runtime::bundle::Bundle;

    use super::*;

    #[test]
    fn a_windows_vectors_are_the_same_bits_in_every_batch() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/bundles/default");
        let bundle = Bundle::open(folder.as_ref(), &[format!("{folder}.pub")], false).unwrap();
        let mut model = Model::new(&bundle.onnx, &bundle.manifest).unwrap();
        let mut dice = 7u64;
        let mut next = || {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 40) as f32 / (1 << 22) as f32 - 2.0
        };
        let windows: Vec<f32> = (0..600 * 64).map(|_| next()).collect();
        let mut vectors = |windows: &[f32]| {
            let mut bits = vec![Vec::new(); bundle.manifest.heads.len()];
            let take = |head: usize, vectors: &[f32]| bits[head].extend(vectors.iter().map(|x| x.to_bits()));
            model.infer(windows, take).unwrap();
            bits
        };
        let all = vectors(&windows);
        for rows in 1..=300 {
            // Not at the batch's beginning, so that a window changes its place in the batch too.
            let from = 300 - rows;
            let some = vectors(&windows[from * 64..(from + rows) * 64]);
            for (head, (some, all)) in bundle.manifest.heads.iter().zip(some.iter().zip(&all)) {
                let range = from * head.dimensions..(from + rows) * head.dimensions;
                assert!(some[..] == all[range], "head {:?} in a batch of {rows}", head.name);
            }
        }
    }

    #[test]
    fn what_is_not_finite_becomes_finite() {
        let bounded = [f32::NAN, f32::INFINITY, -f32::INFINITY, 1.5].map(|x| bound(x, F16_MAX));
        assert_eq!(bounded, [0.0, F16_MAX, -F16_MAX, 1.5]);
    }
}
