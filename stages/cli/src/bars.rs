//! Curves as bars of block characters, for a terminal.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What stands for several samples: their mean.
pub fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

/// What stands for several samples: the greatest.
pub fn greatest(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Samples in at most `columns` equal parts, from the least of these at the bottom to the greatest at the top of `rows` lines, which
/// come from the top. Nothing is drawn of no samples; what is no number is left out.
pub fn draw(samples: &[f64], columns: usize, rows: usize, of: fn(&[f64]) -> f64) -> Vec<String> {
    let samples: Vec<f64> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
    let parts = columns.min(samples.len());
    let part = |part: usize| of(&samples[part * samples.len() / parts..(part + 1) * samples.len() / parts]);
    let parts: Vec<f64> = (0..parts).map(part).collect();
    let (least, most) = parts.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)));
    let steps = (8 * rows).saturating_sub(1);
    let height = |x: &f64| match most > least {
        true => (((x - least) / (most - least) * steps as f64).round() as usize).min(steps) + 1,
        false => steps / 2 + 1,
    };
    let heights: Vec<usize> = parts.iter().map(height).collect();
    let cell = |height: &usize, below: usize| match height.saturating_sub(below) {
        0 => ' ',
        eighths => BARS[eighths.min(8) - 1],
    };
    (0..rows).rev().map(|row| heights.iter().map(|height| cell(height, 8 * row)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_the_shape_whatever_the_scale() {
        let one = |samples: &[f64], columns| draw(samples, columns, 1, mean).concat();
        assert_eq!((one(&[], 9), one(&[5.0; 3], 9), one(&[0.0, 7.0, 3.5], 9)), ("".into(), "▄▄▄".into(), "▁█▅".into()));
        assert_eq!(one(&[1e300, f64::NAN, -1e300, f64::INFINITY], 9), "█▁");
        assert_eq!((one(&[1.0, 2.0], 0), draw(&[1.0], 5, 0, mean).len()), (String::new(), 0));
    }

    #[test]
    fn several_lines_are_one_picture() {
        assert_eq!(draw(&[0.0, 7.0, 15.0], 3, 2, mean), ["  █", "▁██"]);
        assert_eq!(draw(&[5.0; 2], 3, 2, mean), ["  ", "██"]);
    }

    #[test]
    fn a_peak_stands_out_where_the_greatest_counts() {
        let mut samples = vec![0.0; 100];
        samples[55] = 1.0;
        assert_eq!(draw(&samples, 10, 1, greatest).concat(), "▁▁▁▁▁█▁▁▁▁");
    }
}
