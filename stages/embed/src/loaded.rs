//! A bundle in memory, and the rows that wait for its vectors.

use eddy_runtime::bundle::{Bundle, Head, HeadInput};
use eddy_schemas::{HeadLayout, bursts::BANDS};

use crate::model::Model;

/// A bundle that embed runs.
pub(crate) struct Loaded {
    pub(crate) digest: String,
    pub(crate) heads: Vec<HeadLayout>,
    /// First samples of a series that set its scaling, as the bundle has it.
    pub(crate) commissioning_rows: usize,
    /// Samples of a window, as its graph takes it.
    pub(crate) width: usize,
    model: Model,
    /// Windows of rows that stand in the output already.
    windows: Vec<f32>,
    /// The same of scaled shapes.
    shapes: Vec<f32>,
}

impl Loaded {
    /// Prepares a bundle.
    ///
    /// # Errors
    /// Every way in which its graph is not what its manifest says.
    pub(crate) fn new(bundle: Bundle) -> Result<Self, Vec<String>> {
        let model = Model::new(&bundle.onnx, &bundle.manifest)?;
        let layout = |head: &Head| HeadLayout {
            name: head.name.clone(),
            dimensions: head.dimensions,
            optional: head.input == HeadInput::Spectrum,
        };
        Ok(Self {
            digest: bundle.digest,
            heads: bundle.manifest.heads.iter().map(layout).collect(),
            commissioning_rows: bundle.manifest.commissioning_rows,
            width: bundle.manifest.input_window,
            model,
            windows: Vec::new(),
            shapes: Vec::new(),
        })
    }

    /// Whether some head looks at spectra.
    pub(crate) fn takes_spectra(&self) -> bool {
        self.model.takes_spectra()
    }

    /// How many windows wait.
    pub(crate) fn waiting(&self) -> usize {
        self.windows.len() / self.width
    }

    /// Adds a row's window, of which it takes the newest samples.
    pub(crate) fn gather(&mut self, window: &[f32]) {
        self.windows.extend_from_slice(&window[window.len() - self.width..]);
    }

    /// Adds the scaled shape of the row that was gathered last.
    pub(crate) fn gather_shape(&mut self, shape: &[f32; BANDS]) {
        if self.takes_spectra() {
            self.shapes.extend_from_slice(shape);
        }
    }

    /// Forgets the rows that wait.
    pub(crate) fn forget(&mut self) {
        self.windows.clear();
        self.shapes.clear();
    }

    /// Computes the vectors of the rows that wait, and hands them to `take(head, vectors)`.
    ///
    /// # Panics
    /// If the graph fails: the same plans ran at start, so only memory can be wanting, and the loop tries again, then rejects.
    pub(crate) fn infer(&mut self, mut take: impl FnMut(usize, &[f32])) {
        let done = self
            .model
            .infer(HeadInput::Window, &self.windows, &mut take)
            .and_then(|()| self.model.infer(HeadInput::Spectrum, &self.shapes, take));
        self.forget();
        if let Err(error) = done {
            panic!("the graph of bundle {} failed: {error:#}", self.digest);
        }
    }
}
