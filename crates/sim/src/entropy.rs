//! Where the process gets its random numbers from: the seed.
//!
//! The order of hash maps and Tokio's fair choices begin with numbers that the C library's `getrandom` gives. The program's own
//! definition takes the library's place, so that the same seed finds the same order.

use std::sync::atomic::{AtomicU64, Ordering};

static STATE: AtomicU64 = AtomicU64::new(0);

/// Begins the numbers anew. Before the first hash map is made.
pub(crate) fn begin(seed: u64) {
    STATE.store(seed, Ordering::Relaxed);
}

/// The next number (SplitMix64).
fn next() -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = STATE.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `getrandom(2)` as the C library declares it.
///
/// # Safety
/// As for the library's: `buffer` is valid for writes of `length` bytes.
// SAFETY: the name is taken on purpose; signature and contract are the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller promises `length` writable bytes at `buffer`.
    let bytes = unsafe {
        std::slice::from_raw_parts_mut(buffer.cast::<std::mem::MaybeUninit<u8>>(), length)
    };
    for chunk in bytes.chunks_mut(8) {
        for (byte, value) in chunk.iter_mut().zip(next().to_le_bytes()) {
            byte.write(value);
        }
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
