//! Where the process gets its random numbers from: the seed.
//!
//! The order of hash maps, Tokio's fair choices and UIDs begin with numbers that the C library's `getrandom` gives. The program's
//! own definition takes the library's place, so that the same seed finds the same ones. Who looks for it at run time finds it
//! through `dlsym`, which in a static program knows no name at all. Each thread has numbers of its own: which of two threads asks
//! first is nobody's to say.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

static SEED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// How many numbers this thread has had.
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

/// Gives threads that have not drawn yet the numbers of this seed.
pub(crate) fn begin(seed: u64) {
    SEED.store(seed, Ordering::Relaxed);
}

/// The next number (SplitMix64).
fn next() -> u64 {
    let drawn = DRAWN.get() + 1;
    DRAWN.set(drawn);
    let seed = SEED.load(Ordering::Relaxed);
    let mut z = seed.wrapping_add(drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
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

/// `dlsym(3)` as the C library declares it, of a program that has been asked for `getrandom` alone.
///
/// # Safety
/// As for the library's: `name` is a C string.
// SAFETY: the name is taken on purpose; signature and contract are the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn dlsym(_handle: *mut c_void, name: *const c_char) -> *mut c_void {
    // SAFETY: the caller promises a C string.
    if unsafe { CStr::from_ptr(name) } == c"getrandom" {
        getrandom as *mut c_void
    } else {
        std::ptr::null_mut()
    }
}
