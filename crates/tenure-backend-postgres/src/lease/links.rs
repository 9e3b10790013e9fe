//! One link per runtime: a connection is driven by the runtime it was made in, and the keeper's
//! must go on when a user's stands still.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tenure_core::Result;
use tokio::runtime::{Handle, Id};

use super::link::{Link, Store};
use crate::runtime::OwnRuntime;

/// The links of one backend.
#[derive(Debug)]
pub(crate) struct Links {
    store: Arc<Store>,
    by_runtime: Mutex<HashMap<Id, Arc<Link>>>,
    /// For what is done outside of any runtime, and for whoever listens.
    own: OnceLock<Result<OwnRuntime>>,
}

impl Links {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, by_runtime: Mutex::default(), own: OnceLock::new() }
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The link of the runtime that this is called in.
    pub(crate) fn here(&self) -> Result<Arc<Link>> {
        let runtime = match Handle::try_current() {
            Ok(runtime) => runtime,
            Err(_) => self.own()?,
        };
        let mut links = self.by_runtime.lock();
        if let Some(link) = links.get(&runtime.id()) {
            return Ok(link.clone());
        }
        // Those of runtimes that have ended: their tasks are gone, and nothing else holds them.
        links.retain(|_, link| link.is_alive());
        let link = Link::new(self.store.clone(), runtime.clone());
        links.insert(runtime.id(), link.clone());
        Ok(link)
    }

    /// The backend's own runtime.
    pub(crate) fn own(&self) -> Result<Handle> {
        match self.own.get_or_init(OwnRuntime::start) {
            Ok(own) => Ok(own.handle().clone()),
            Err(error) => Err(error.clone()),
        }
    }
}
