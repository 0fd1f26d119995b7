//! How the system's allocator hands out large blocks.
//!
//! glibc maps large blocks anew and gives them back when they are freed, and trims what is free at the end of its heap.
//! A step allocates the same sizes again and again, so much of its time would go into first touching pages
//! (docs/log.md).

/// Blocks that are still mapped one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// None: everything lies in the heap, which suits a backend whose blocks are few and alike.
    #[cfg_attr(not(feature = "flex"), expect(dead_code, reason = "for flex"))]
    Nothing,
    /// Those above 32 MiB, the most that glibc takes: among many small ones they would leave holes that nothing
    /// fits into.
    #[cfg_attr(not(feature = "tch"), expect(dead_code, reason = "for tch"))]
    Large,
}

/// Keeps freed pages for what is allocated next; the peak of what is in use stays the same.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_pages(mapped: Mapped) {
    #[expect(unsafe_code, reason = "settings of the C library")]
    // SAFETY: mallopt takes any parameter and value; these are documented ones.
    unsafe {
        match mapped {
            Mapped::Nothing => libc::mallopt(libc::M_MMAP_MAX, 0),
            Mapped::Large => libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20),
        };
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

/// Other C libraries have no such setting.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_pages(_: Mapped) {}
