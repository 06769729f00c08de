//! How a window's vector is written for the region.

use bytes::Bytes;
use eddy_schemas::sync::wire;

/// A vector as it travels.
#[derive(Clone, Debug, PartialEq)]
pub struct Coded {
    /// What it was written by, if the region needs it to read the vector: told once, before the first one.
    pub codebook: Option<wire::Codebook>,
    /// How it is written.
    pub codes: wire::Codes,
    /// What a code is times.
    pub scale: f32,
    /// The codes.
    pub vector: Bytes,
}

/// Writes vectors. What it says of one must not depend on what is committed: messages can come again.
pub trait VectorCoder: Send {
    /// Writes a vector (finite components) of the bundle with this digest.
    fn code(&mut self, bundle: &[u8], vector: &[f32]) -> Coded;
}

/// A byte a component, under one scale a vector.
#[derive(Clone, Copy, Debug, Default)]
pub struct Int8;

impl VectorCoder for Int8 {
    fn code(&mut self, _bundle: &[u8], vector: &[f32]) -> Coded {
        let largest = vector.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let scale = largest / 127.0;
        // Of nothing but zeros, and of what is too small to divide by, each component is 0.
        let code = |x: &f32| if scale.is_normal() { (x / scale).round().clamp(-127.0, 127.0) as i8 as u8 } else { 0 };
        Coded { codebook: None, codes: wire::Codes::Int8, scale, vector: vector.iter().map(code).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_off_by_half_a_step_at_most() {
        let vector: Vec<f32> = (0..64).map(|i| ((i * 37) as f32).sin() * 3.0).collect();
        let coded = Int8.code(b"", &vector);
        for (x, code) in vector.iter().zip(&coded.vector) {
            assert!((f32::from(*code as i8) * coded.scale - x).abs() <= coded.scale * 0.5001);
        }
        assert_eq!(Int8.code(b"", &[0.0, -0.0]).vector, vec![0, 0]);
        assert_eq!(Int8.code(b"", &[f32::MIN_POSITIVE, 0.0]).vector, vec![0, 0]);
        assert_eq!(Int8.code(b"", &[-65504.0, 65504.0]).vector, vec![129, 127]);
    }
}
