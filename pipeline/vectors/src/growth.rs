//! How the memories grow: a gateway has hundreds of thousands of them, and `Vec`'s doubling would leave half of each unused.

/// Makes room for `more` elements, and for an eighth of what is there.
pub(crate) fn make_room<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more.max(vec.len() / 8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_left_unused() {
        let mut vec = Vec::new();
        for n in 0..10_000u32 {
            make_room(&mut vec, 1);
            vec.push(n);
            assert!(vec.capacity() <= vec.len() + vec.len() / 8 + 1, "{n}");
        }
    }
}
