//! A thread of a backend's own that drives its connections.

use tenure_core::{Error, ErrorKind, Result};
use tokio::runtime::{Handle, Runtime};

/// A runtime of one thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    /// Starts it.
    ///
    /// # Errors
    /// `Unreachable` if the system gives no thread.
    pub(crate) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tenure-postgres")
            .enable_all()
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Unreachable, "no thread for the connection")
                    .with_source(error)
                    .with_nothing_changed()
            })?;
        Ok(Self(Some(runtime)))
    }

    /// Where tasks are given to it.
    pub(crate) fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it is there until it is dropped").handle()
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        // May be dropped inside another runtime, which must not be blocked.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
