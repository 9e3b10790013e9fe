//! One line per runtime: a connection is driven by the runtime it was made in, and the keeper's
//! must go on when a user's stands still.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tenure_core::{Error, ErrorKind, Result};
use tokio::runtime::{Handle, Id, Runtime};

use crate::line::Line;
use crate::link::Store;

/// The lines of one backend.
#[derive(Debug)]
pub(crate) struct Links {
    store: Arc<Store>,
    by_runtime: Mutex<HashMap<Id, Line>>,
    /// For calls that are made outside of any runtime.
    own: OnceLock<Option<Own>>,
}

#[derive(Debug)]
struct Own {
    runtime: Option<Runtime>,
    link: Line,
}

impl Links {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, by_runtime: Mutex::default(), own: OnceLock::new() }
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The line of the runtime that this is called in.
    pub(crate) fn here(&self) -> Result<Line> {
        let Ok(runtime) = Handle::try_current() else {
            return self.own();
        };
        let mut links = self.by_runtime.lock();
        if let Some(link) = links.get(&runtime.id()) {
            return Ok(link.clone());
        }
        // Those of runtimes that have ended: their tasks are gone, and nothing else holds them.
        links.retain(|_, link| link.is_alive());
        let link = Line::new(self.store.clone(), runtime.clone());
        links.insert(runtime.id(), link.clone());
        Ok(link)
    }

    fn own(&self) -> Result<Line> {
        let own = self.own.get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("tenure-redis")
                .enable_all()
                .build()
                .inspect_err(|error| tracing::warn!(%error, "no thread for the connection"))
                .ok()?;
            let link = Line::new(self.store.clone(), runtime.handle().clone());
            Some(Own { runtime: Some(runtime), link })
        });
        match own {
            Some(own) => Ok(own.link.clone()),
            None => Err(Error::new(ErrorKind::Unreachable, "no thread for the connection")
                .with_nothing_changed()),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // May be dropped inside another runtime, which must not be blocked.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
