//! Distances from a query to rows of int8, in lanes that are summed in one fixed order.

/// Sums that run side by side; a row is padded to a multiple of it.
pub const LANES: usize = 8;

/// The index of the row nearest to `query`, and the squared distance to it, in units of the rows' scale.
///
/// `query` is padded to a multiple of [`LANES`] with what the rows are padded with; `rows` holds rows of that length, one
/// after the other. The query stays f32, so it is never clipped. Of equally near rows the first one is told.
pub fn nearest(query: &[f32], rows: &[i8]) -> Option<(usize, f32)> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, just asked.
        return unsafe { nearest_avx2(query, rows) };
    }
    nearest_in_lanes(query, rows)
}

/// The same code for wider registers. Without fused multiply-add, so its results are the same bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn nearest_avx2(query: &[f32], rows: &[i8]) -> Option<(usize, f32)> {
    nearest_in_lanes(query, rows)
}

#[inline(always)]
fn nearest_in_lanes(query: &[f32], rows: &[i8]) -> Option<(usize, f32)> {
    let mut best: Option<(usize, f32)> = None;
    for (index, row) in rows.chunks_exact(query.len().max(1)).enumerate() {
        let mut sums = [0.0f32; LANES];
        for (q, r) in query.chunks_exact(LANES).zip(row.chunks_exact(LANES)) {
            for lane in 0..LANES {
                let difference = q[lane] - f32::from(r[lane]);
                sums[lane] += difference * difference;
            }
        }
        let squared = ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
        if best.is_none_or(|(_, least)| squared < least) {
            best = Some((index, squared));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_and_the_same_bits_in_any_registers() {
        let rows: Vec<i8> = (0..64 * 50i32).map(|i| (i * 97 % 255 - 127) as i8).collect();
        for probe in 0..50 {
            let query: Vec<f32> = rows[probe * 64..][..64].iter().map(|r| f32::from(*r) + 0.25).collect();
            let (index, squared) = nearest(&query, &rows).unwrap();
            assert_eq!(squared, 4.0);
            assert_eq!(rows[index * 64..][..64], rows[probe * 64..][..64]);
            let odd: Vec<f32> = query.iter().map(|q| q * 1.0137).collect();
            let plain = nearest_in_lanes(&odd, &rows).unwrap();
            assert_eq!(nearest(&odd, &rows).map(|(i, d)| (i, d.to_bits())), Some((plain.0, plain.1.to_bits())));
        }
    }

    #[test]
    fn nothing_is_near_where_there_is_nothing() {
        assert_eq!(nearest(&[0.0; 8], &[]), None);
    }
}
