//! Work on files, kept off the threads that everything else runs on.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does `work` on a thread that may wait for the disk. A runtime of one thread does it right here: a simulation's order of events
/// must not depend on how fast a disk is.
///
/// # Panics
/// When `work` does.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that ends takes blocking work back, and with it this task.
            Err(_) => std::future::pending().await,
        },
    }
}
