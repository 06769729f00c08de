//! Seeds of hash maps, the same in every process.
//!
//! The standard library asks the kernel for them. With other seeds a map's entries are freed in another order, so that the allocator
//! finds its memory in other pieces: counts of the same code lay up to 2 % apart.

use std::ffi::{c_uint, c_void};

/// Takes the place of the C library's: always the same bytes. Nothing in this program needs any that nobody can guess.
///
/// # Safety
/// As getrandom(2): `length` bytes can be written at `buffer`.
// SAFETY: the name is defined once more in the C library alone, for which a program may bring its own; signature and meaning are its.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    // SAFETY: the caller's promise.
    unsafe { buffer.cast::<u8>().write_bytes(0x5a, length) };
    length as isize
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};

    #[test]
    fn a_map_has_the_same_seed_in_every_thread() {
        let told = || std::thread::spawn(|| RandomState::new().hash_one("series")).join().unwrap();
        assert_eq!(told(), told());
    }
}
