//! A byte a component, whose square, with its sign, is a multiple of the largest magnitude / 127².
//!
//! Few components of a window's vector are large, and squares are finer where the others lie. With the same bytes as multiples of
//! the largest / 127 would take, a third less is lost (measured on recorded windows: ARCHITECTURE.md, "The index").

use super::{QuantizerError, check_finite};

/// The largest magnitude of a code.
const STEPS: f32 = 127.0;

/// The scale and a byte for each component.
///
/// # Errors
/// If a component is no finite number.
pub fn encode(vector: &[f32]) -> Result<(f32, Vec<u8>), QuantizerError> {
    check_finite("component", vector)?;
    let scale = vector.iter().fold(0.0f32, |most, x| most.max(x.abs())) / (STEPS * STEPS);
    Ok((scale, vector.iter().map(|x| code(*x, scale).to_ne_bytes()[0]).collect()))
}

/// The code whose square is nearest.
fn code(x: f32, scale: f32) -> i8 {
    if scale <= 0.0 {
        return 0;
    }
    let wanted = x.abs() / scale;
    let below = wanted.sqrt().floor().min(STEPS);
    let above = below + 1.0;
    // A scale that is hardly a number any more is too coarse for its own largest component.
    let nearest = if above * above - wanted < wanted - below * below { above.min(STEPS) } else { below };
    nearest.copysign(x) as i8
}

/// The components that `codes` stand for.
///
/// # Errors
/// If the scale makes a component that is no finite number.
pub fn decode(scale: f32, codes: &[u8]) -> Result<Vec<f32>, QuantizerError> {
    if !(scale.is_finite() && scale >= 0.0) {
        return Err(QuantizerError::NotFinite { what: "scale", at: 0, value: scale });
    }
    let component = |code: &u8| {
        let code = f32::from(i8::from_ne_bytes([*code]));
        code * code.abs() * scale
    };
    let vector: Vec<f32> = codes.iter().map(component).collect();
    check_finite("component", &vector)?;
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_number_is_told() {
        let problem = encode(&[1.0, f32::NAN]).unwrap_err().to_string();
        assert_eq!(problem, "component NaN at 1: a finite number is expected");
        for scale in [f32::NAN, f32::INFINITY, -1.0] {
            assert!(matches!(decode(scale, &[1]), Err(QuantizerError::NotFinite { what: "scale", .. })), "{scale}");
        }
        assert!(matches!(decode(f32::MAX, &[0, 127]), Err(QuantizerError::NotFinite { at: 1, .. })));
        assert_eq!(decode(0.5, &[2, 255, 128]), Ok(vec![2.0, -0.5, -8192.0]));
        assert_eq!((encode(&[]), decode(1.0, &[])), (Ok((0.0, vec![])), Ok(vec![])));
        assert_eq!(encode(&[0.0, -0.0]), Ok((0.0, vec![0, 0])));
        // Halfway from 9 to 16 is 12.5.
        assert_eq!(encode(&[-16129.0, 12.4, 12.6, 0.4]).unwrap().1, [129, 3, 4, 0]);
    }

    proptest! {
        #[test]
        fn a_component_comes_back_as_the_nearest_square_and_what_came_back_does_not_wear_off(
            vector in prop::collection::vec(-1e6f32..1e6, 1..40),
            shift in -40i32..30,
        ) {
            let vector: Vec<f32> = vector.iter().map(|x| x * 2f32.powi(shift)).collect();
            let (scale, codes) = encode(&vector).unwrap();
            let back = decode(scale, &codes).unwrap();
            for ((x, y), code) in vector.iter().zip(&back).zip(&codes) {
                // Half of the way to the next square, and the rounding of floats.
                let code = f32::from(i8::from_ne_bytes([*code])).abs();
                prop_assert!((x - y).abs() <= scale * (code + 0.51) + y.abs() * 1e-5, "{} {} {}", x, y, scale);
            }
            let (again, same) = encode(&back).unwrap();
            prop_assert_eq!(same, codes);
            prop_assert!((again - scale).abs() <= scale * 1e-5);
        }

        #[test]
        fn any_vector_and_any_codes_are_told_or_refused(
            vector in prop::collection::vec(any::<f32>(), 0..20),
            scale in any::<f32>(),
            codes in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            if let Ok((scale, codes)) = encode(&vector) {
                prop_assert_eq!(decode(scale, &codes).unwrap().len(), vector.len());
            }
            if let Ok(vector) = decode(scale, &codes) {
                prop_assert!(vector.len() == codes.len() && vector.iter().all(|x| x.is_finite()));
            }
        }
    }
}
