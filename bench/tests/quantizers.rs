//! Windows that were told in fewer bytes are still found.

#![allow(clippy::unwrap_used)]

use eddy_bench::quantized::{fleet, recalls};

#[test]
fn quantized_windows_are_found_as_the_true_ones_are() {
    let found = recalls(&fleet()).unwrap();
    println!("{found:?}");
    assert!(found.stored > 2_000, "{}", found.stored);
    assert_eq!(found.exact, 1.0);
    assert!(found.int8 >= 0.98, "{}", found.int8);
    assert!(found.product >= 0.90, "{}", found.product);
    assert!(found.fewest_parts < found.product && found.product < found.most_parts, "{found:?}");
}
