//! What the C library's allocator keeps.

/// Blocks from this size on are mapped by themselves, and given back to the kernel when they are freed. By itself the allocator learns from the first
/// large block that is freed to keep all that are smaller, and pieces of state and batches lie among what stays.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: libc::c_int = 256 << 10;
/// Arenas: one more for the threads beside the loop, not one for each.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// Has it keep little of what is freed. Before there are other threads.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers and changes the allocator's settings; it must not run beside other threads that allocate, and at the
    // beginning of `main` there are none. A setting that it refuses stays as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    /// Bytes in blocks that are mapped by themselves.
    fn mapped() -> usize {
        // SAFETY: it reads counters of the allocator.
        unsafe { libc::mallinfo2() }.hblkhd
    }

    #[test]
    fn a_large_block_is_given_back_also_after_one_was_freed() {
        keep_little();
        let large = || std::hint::black_box(vec![1_u8; 8 << 20]);
        drop(large());
        let before = mapped();
        let block = large();
        assert!(mapped() >= before + block.len(), "{} and {before}", mapped());
        drop(block);
        assert!(mapped() < before + (8 << 20), "{} and {before}", mapped());
    }
}
