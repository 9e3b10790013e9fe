//! The backend: the register's calls, each as one hop onto a thread that may block.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::backend::{
    Backend, Change, Claim, Evicted, Eviction, LeaseRef, Listener, Member, Release, Renewal, Value,
    Verdict,
};
use tenure_core::clock::Clock;
use tenure_core::register::{Register, RegisterBackend};
use tenure_core::{Capabilities, LockName, Result, Seats, View};

use crate::config::FileConfig;
use crate::register::FileRegister;
use crate::waits::Waits;

pub(crate) type Inner = RegisterBackend<FileRegister>;

/// Locks in a directory, with everything the machine can do.
///
/// Needs no runtime: calls run on threads of their own, one hop per call. A call whose future is
/// dropped may still take effect.
///
/// A claim that waits here and is granted gets its lease from the thread that finds out: the
/// watcher's, or that of the call that granted it. The waiting task then has nothing left to ask.
#[derive(Debug)]
pub struct FileBackend {
    inner: Arc<Inner>,
    waits: Arc<Waits>,
}

impl FileBackend {
    /// Opens the directory, and makes it if it is not there. Blocks for a few file operations.
    ///
    /// # Errors
    /// Those of [`FileRegister::open`].
    pub fn open(config: &FileConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let register = FileRegister::open(config, clock.clone())?;
        let inner = Arc::new(RegisterBackend::new(register, clock));
        let waits = Arc::new(Waits::new(&inner));
        let listener: Weak<dyn Listener> = Arc::downgrade(&(waits.clone() as Arc<dyn Listener>));
        Backend::subscribe(&*inner, listener);
        Ok(Self { inner, waits })
    }

    /// Removes the directories of locks that nobody used for `idle_for`; answers how many. Some
    /// go by themselves as new ones are made.
    ///
    /// # Errors
    /// Those of [`FileRegister::prune`].
    ///
    /// # Cancel safety
    /// It goes on to the end when the future is dropped.
    pub async fn prune(&self, idle_for: Duration) -> Result<usize> {
        self.hop(move |inner| inner.register().prune(idle_for)).await
    }

    fn hop<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send {
        let inner = self.inner.clone();
        blocking::unblock(move || call(&inner))
    }
}

impl Backend for FileBackend {
    fn capabilities(&self) -> &Capabilities {
        Backend::capabilities(&*self.inner)
    }

    fn address(&self) -> Arc<str> {
        Backend::address(&*self.inner)
    }

    async fn acquire(&self, claim: &Claim) -> Result<Verdict> {
        let claim = claim.clone();
        self.hop(move |inner| block_on(inner.acquire(&claim))).await
    }

    async fn withdraw(&self, claim: &Claim) -> Result<()> {
        let claim = claim.clone();
        self.hop(move |inner| block_on(inner.withdraw(&claim))).await
    }

    async fn renew(&self, members: &[Member]) -> Vec<Renewal> {
        let members = members.to_vec();
        self.hop(move |inner| block_on(inner.renew(&members))).await
    }

    async fn downgrade(&self, lease: &LeaseRef, seats: Seats) -> Result<Change> {
        let lease = lease.clone();
        self.hop(move |inner| block_on(inner.downgrade(&lease, seats))).await
    }

    async fn release(&self, lease: &LeaseRef, value: Option<&Value>) -> Result<Release> {
        let (lease, value) = (lease.clone(), value.cloned());
        self.hop(move |inner| block_on(inner.release(&lease, value.as_ref()))).await
    }

    async fn put(&self, lease: &LeaseRef, value: &Value) -> Result<Change> {
        let (lease, value) = (lease.clone(), value.clone());
        self.hop(move |inner| block_on(inner.put(&lease, &value))).await
    }

    async fn evict(&self, name: &LockName, why: &Eviction) -> Result<Evicted> {
        let (name, why) = (name.clone(), why.clone());
        self.hop(move |inner| block_on(inner.evict(&name, &why))).await
    }

    async fn inspect(&self, name: &LockName) -> Result<View> {
        let name = name.clone();
        self.hop(move |inner| block_on(inner.inspect(&name))).await
    }

    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<View>> {
        let prefix = prefix.to_owned();
        self.hop(move |inner| block_on(inner.list(&prefix, limit))).await
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        self.waits.listeners.add(listener);
    }

    fn watch(&self, claim: &Claim, waits: bool) -> bool {
        self.waits.note(claim, waits);
        Backend::watch(&*self.inner, claim, waits)
    }

    async fn ping(&self) -> Result<()> {
        self.hop(|inner| block_on(Register::ping(inner.register()))).await
    }

    fn keys(&self, name: &LockName) -> Vec<(&'static str, String)> {
        Backend::keys(&*self.inner, name)
    }
}
