//! What the allocator does with memory that was freed.

/// Large blocks go back to the kernel as soon as they are freed, and threads share one heap: a program that is idle again is small
/// again. For programs in which allocating is not what takes time.
pub fn return_when_freed() {
    // SAFETY: sets two numbers of the allocator, which takes them at any time; without effect where they are not known.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
