//! The bundle's graph under tract: windows in, one matrix per head out; spectra in, one matrix per head that looks at them.
//!
//! A window's vectors must be the same bits whatever batch it comes in (INV-3). tract picks its kernels by the batch's
//! size, and two kernels sum in two orders (seen: 16 against 256 windows), so there is ONE size, padded where it is not
//! full; every start tries that a window's place in the batch changes nothing either. 64 windows cost some 65 us, so a
//! single reading waits no longer than that, and larger batches are hardly faster a window.
//!
//! There is one plan for each input, of the outputs of its heads alone: a row without a burst pays nothing for spectra.

use std::{io::Cursor, sync::Arc};

use eddy_runtime::bundle::{Head, HeadInput, Manifest};
use eddy_schemas::bursts::BANDS;
use tract_onnx::prelude::*;

/// How many rows every run of the graph takes.
const BATCH: usize = 64;
/// Heads of at most that many dimensions travel as f32, the others as f16 (the layout of EMBEDDINGS).
const F32_DIMENSIONS_MAX: usize = 4;
/// Values of heads that travel as f16 are kept within this, so that they stay finite.
const F16_MAX: f32 = 65_504.0;
/// The same for heads that travel as f32: their squares and sums of them stay finite.
const F32_MAX: f32 = 1e18;

/// A graph, ready to run.
pub struct Model {
    windows: Part,
    /// Where some head looks at spectra.
    spectra: Option<Part>,
    bounded: Vec<f32>,
}

/// What of the graph depends on one input.
struct Part {
    plan: Arc<TypedRunnableModel>,
    /// Values of one row of the input.
    width: usize,
    heads: Vec<PartHead>,
}

/// A head of a part: its number in the manifest, its dimensions and the bound of its values.
struct PartHead {
    number: usize,
    dimensions: usize,
    limit: f32,
}

/// What the graph calls an input.
fn input_name(input: HeadInput) -> &'static str {
    match input {
        HeadInput::Window => "window",
        HeadInput::Spectrum => "spectrum",
    }
}

impl Model {
    /// Prepares the graph for the heads of `manifest` and tries it.
    ///
    /// # Errors
    /// Every way in which the graph is not what the manifest says: what was expected and what was found.
    pub fn new(onnx: &[u8], manifest: &Manifest) -> Result<Self, Vec<String>> {
        let graph = tract_onnx::onnx()
            .model_for_read(&mut Cursor::new(onnx))
            .map_err(|error| vec![format!("model.onnx: expected an ONNX graph that tract reads, found: {error:#}")])?;
        check_inputs(&graph, manifest)?;
        let has_spectra = manifest.heads.iter().any(|head| head.input == HeadInput::Spectrum);
        let windows = Part::new(graph.clone(), manifest, HeadInput::Window);
        let spectra = has_spectra.then(|| Part::new(graph, manifest, HeadInput::Spectrum)).transpose();
        let (windows, spectra) = match (windows, spectra) {
            (Ok(windows), Ok(spectra)) => (windows, spectra),
            (windows, spectra) => return Err([windows.err(), spectra.err()].into_iter().flatten().flatten().collect()),
        };
        let mut model = Self { windows, spectra, bounded: Vec::new() };
        for input in [HeadInput::Window, HeadInput::Spectrum] {
            model.try_out(manifest, input).map_err(|problem| vec![format!("model.onnx: {problem}")])?;
        }
        Ok(model)
    }

    /// Whether some head looks at spectra.
    pub(crate) fn takes_spectra(&self) -> bool {
        self.spectra.is_some()
    }

    /// Runs rows of `input`, one after the other, and hands the vectors of its heads to `take(head, vectors)`, each head's
    /// in order of rows.
    ///
    /// # Errors
    /// If tract fails.
    pub fn infer(&mut self, input: HeadInput, rows: &[f32], mut take: impl FnMut(usize, &[f32])) -> TractResult<()> {
        let part = match input {
            HeadInput::Window => &self.windows,
            HeadInput::Spectrum => match &self.spectra {
                Some(part) => part,
                None => return Ok(()),
            },
        };
        for rows in rows.chunks(BATCH * part.width) {
            let count = rows.len() / part.width;
            let mut tensor = Tensor::zero::<f32>(&[BATCH, part.width])?;
            tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?[..rows.len()].copy_from_slice(rows);
            for (head, output) in part.heads.iter().zip(part.plan.run(tvec!(tensor.into()))?.iter()) {
                let output = output.try_as_plain_ram()?;
                let values = &output.as_slice::<f32>()?[..count * head.dimensions];
                self.bounded.clear();
                self.bounded.extend(values.iter().map(|x| bound(*x, head.limit)));
                take(head.number, &self.bounded);
            }
        }
        Ok(())
    }

    /// Runs some rows alone and among others: the same bits must come out.
    fn try_out(&mut self, manifest: &Manifest, input: HeadInput) -> Result<(), String> {
        let width = if input == HeadInput::Window { manifest.input_window } else { BANDS };
        let count = BATCH + 1;
        let mut dice = 1u32;
        let mut next = || {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (dice >> 8) as f32 / (1 << 22) as f32 - 2.0
        };
        let rows: Vec<f32> = (0..count * width).map(|_| next()).collect();
        let mut vectors = |rows: &[f32]| -> Result<Vec<Vec<f32>>, String> {
            let mut all = vec![Vec::new(); manifest.heads.len()];
            let take = |head: usize, vectors: &[f32]| all[head].extend_from_slice(vectors);
            self.infer(input, rows, take).map_err(|error| format!("{error:#}"))?;
            Ok(all)
        };
        let together = vectors(&rows)?;
        for row in [0, 1, BATCH / 2, BATCH - 1, BATCH] {
            let alone = vectors(&rows[row * width..(row + 1) * width])?;
            let heads = manifest.heads.iter().zip(alone.iter().zip(&together));
            for (head, (alone, together)) in heads.filter(|(head, _)| head.input == input) {
                let there = &together[row * head.dimensions..(row + 1) * head.dimensions];
                let same = alone.iter().zip(there).all(|(a, b)| a.to_bits() == b.to_bits());
                if !same {
                    let (name, input) = (&head.name, input_name(input));
                    return Err(format!(
                        "head {name:?}: expected the same vector for a {input} in any batch, found {alone:?} alone and {there:?} among {count}"
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

/// The graph has the inputs that the heads look at, and no other that is unknown.
fn check_inputs(graph: &InferenceModel, manifest: &Manifest) -> Result<(), Vec<String>> {
    let known = [HeadInput::Window, HeadInput::Spectrum];
    let wanted: Vec<&str> = known
        .into_iter()
        .filter(|input| manifest.heads.iter().any(|head| head.input == *input))
        .map(input_name)
        .collect();
    let outlets = graph.input_outlets().map_err(|error| vec![format!("model.onnx: {error:#}")])?;
    let found: Vec<&str> = outlets.iter().map(|outlet| graph.node(outlet.node).name.as_str()).collect();
    let all_there = wanted.iter().all(|name| found.contains(name));
    if all_there && found.iter().all(|name| known.iter().any(|input| input_name(*input) == *name)) {
        return Ok(());
    }
    Err(vec![format!("model.onnx: expected inputs {wanted:?}, found {found:?}")])
}

impl Part {
    /// Cuts the graph down to the heads that look at `input`, fixes the batch size and optimises it.
    fn new(mut graph: InferenceModel, manifest: &Manifest, input: HeadInput) -> Result<Self, Vec<String>> {
        let heads: Vec<(usize, &Head)> =
            manifest.heads.iter().enumerate().filter(|(_, head)| head.input == input).collect();
        select(&mut graph, &heads, input)?;
        check_depends_alone(&graph, input)?;
        let width = if input == HeadInput::Window { manifest.input_window } else { BANDS };
        let name = input_name(input);
        let wrong = |error: TractError| {
            vec![format!(
                "model.onnx: expected a graph of input {name:?} f32 [N, {width}] that tract runs, found: {error:#}"
            )]
        };
        let typed = graph
            .with_input_fact(0, f32::fact([BATCH, width]).into())
            .and_then(|graph| graph.into_typed())
            .map_err(wrong)?;
        let mut problems = Vec::new();
        for (index, (_, head)) in heads.iter().enumerate() {
            let fact = typed.output_fact(index).map_err(wrong)?;
            if fact.datum_type != f32::datum_type() || fact.shape.as_concrete() != Some(&[BATCH, head.dimensions]) {
                let found = format!("{:?} {:?}", fact.datum_type, fact.shape).to_lowercase();
                let Head { name, output, dimensions, .. } = head;
                problems.push(format!(
                    "model.onnx: head {name:?}: expected output {output:?} to be f32 [{BATCH},{dimensions}] for {BATCH} rows, found {found}"
                ));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let plan = typed.into_optimized().and_then(|graph| graph.into_runnable()).map_err(wrong)?;
        let limit = |head: &Head| if head.dimensions <= F32_DIMENSIONS_MAX { F32_MAX } else { F16_MAX };
        let heads = heads.into_iter();
        let heads = heads.map(|(number, head)| PartHead { number, dimensions: head.dimensions, limit: limit(head) });
        Ok(Self { plan, width, heads: heads.collect() })
    }
}

/// The outputs that were selected need no other input.
fn check_depends_alone(graph: &InferenceModel, input: HeadInput) -> Result<(), Vec<String>> {
    let order = graph.eval_order().map_err(|error| vec![format!("model.onnx: {error:#}")])?;
    let others = [HeadInput::Window, HeadInput::Spectrum].into_iter().filter(|other| *other != input).map(input_name);
    let found: Vec<&str> = others.filter(|other| order.iter().any(|node| graph.node(*node).name == *other)).collect();
    if found.is_empty() {
        return Ok(());
    }
    let name = input_name(input);
    Err(vec![format!(
        "model.onnx: expected heads of input {name:?} to depend on it alone, found that one needs {found:?}"
    )])
}

/// Makes the heads' outputs, in their order, the graph's only ones, and the input they look at its only input.
fn select(graph: &mut InferenceModel, heads: &[(usize, &Head)], input: HeadInput) -> Result<(), Vec<String>> {
    let wrong = |error: TractError| vec![format!("model.onnx: {error:#}")];
    let inputs = graph.input_outlets().map_err(wrong)?.to_vec();
    let is_it = |outlet: &&OutletId| graph.node(outlet.node).name == input_name(input);
    let input: Vec<OutletId> = inputs.iter().filter(is_it).copied().collect();
    let outputs: Vec<_> = graph.output_outlets().map_err(wrong)?.to_vec();
    let label = |outlet: &OutletId| graph.outlet_label(*outlet).unwrap_or(&graph.node(outlet.node).name);
    let (mut selected, mut problems) = (Vec::new(), Vec::new());
    for (_, head) in heads {
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
    graph.select_output_outlets(&selected).map_err(wrong)?;
    graph.set_input_outlets(&input).map_err(wrong)
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
        let width = bundle.manifest.input_window;
        let windows: Vec<f32> = (0..600 * width).map(|_| next()).collect();
        let mut vectors = |windows: &[f32]| {
            let mut bits = vec![Vec::new(); bundle.manifest.heads.len()];
            let take = |head: usize, vectors: &[f32]| bits[head].extend(vectors.iter().map(|x| x.to_bits()));
            model.infer(HeadInput::Window, windows, take).unwrap();
            bits
        };
        let all = vectors(&windows);
        for rows in 1..=300 {
            // Not at the batch's beginning, so that a window changes its place in the batch too.
            let from = 300 - rows;
            let some = vectors(&windows[from * width..(from + rows) * width]);
            let heads = bundle.manifest.heads.iter().zip(some.iter().zip(&all));
            for (head, (some, all)) in heads.filter(|(head, _)| head.input == HeadInput::Window) {
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
