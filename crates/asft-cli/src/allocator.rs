//! How the system's allocator hands out large blocks.
//!
//! glibc maps large blocks anew and gives them back when they are freed, and trims what is free at the end of its heap.
//! LibTorch allocates each tensor apart, so most of a step's elementwise work would go into first touching pages
//! (docs/log.md): a norm of 3,500 tokens takes 17 ms with fresh pages and 1.4 ms without.

/// Bytes from which a block is mapped for itself, the most that glibc takes. Larger ones among the smaller would leave
/// holes that nothing fits into.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 32 << 20;

/// Keeps freed pages for what is allocated next; the peak of what is in use stays the same.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_pages() {
    #[expect(unsafe_code, reason = "settings of the C library")]
    // SAFETY: mallopt takes any parameter and value; both are documented ones.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

/// Other C libraries have no such setting.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_pages() {}
