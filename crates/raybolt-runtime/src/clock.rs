//! A clock that costs next to nothing, for reports: what runs, and since when.

/// Milliseconds since some point in the past, some milliseconds late. A tenth of the price of an exact
/// clock, and each task reads it.
#[cfg(target_os = "linux")]
pub(crate) fn coarse_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn coarse_ms() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_millis() as u64
}
