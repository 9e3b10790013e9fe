//! What the tests of this crate share.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use tempfile::TempDir;
use tenure_backend_file::{FileConfig, FileRegister};
use tenure_core::backend::{Backend, Claim, LeaseRef, Member, Release, Verdict};
use tenure_core::clock::SystemClock;
use tenure_core::register::{Loaded, Register, RegisterBackend, Sign, Swap, Version};
use tenure_core::{Details, Fence, LockName, MemberId, Owner, Result, Token};

pub const TTL: Duration = Duration::from_secs(30);
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A directory that is gone with the test.
pub fn room() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub fn open(path: impl AsRef<Path>) -> FileRegister {
    open_as(&FileConfig::new(path.as_ref()))
}

pub fn open_as(config: &FileConfig) -> FileRegister {
    FileRegister::open(config, Arc::new(SystemClock)).unwrap()
}

pub fn machine(path: impl AsRef<Path>) -> RegisterBackend<FileRegister> {
    RegisterBackend::new(open(path), Arc::new(SystemClock))
}

pub fn name(text: &str) -> LockName {
    LockName::new(text).unwrap()
}

pub fn member(name: &LockName) -> Member {
    Member::new(name.clone(), Token::random(), TTL, None)
}

pub fn load(register: &FileRegister, name: &LockName) -> Loaded {
    block_on(register.load(name)).unwrap()
}

pub fn swap(register: &FileRegister, name: &LockName, at: &Version, to: &[u8]) -> Swap {
    block_on(register.swap(name, at, to, &[]))
}

/// Replaces the record whatever it is.
pub fn put(register: &FileRegister, name: &LockName, to: &[u8]) {
    let at = load(register, name).version;
    let swapped = swap(register, name, &at, to);
    assert!(matches!(swapped, Swap::Won), "{swapped:?}");
}

pub fn sign(register: &FileRegister, name: &LockName, member: MemberId) -> Sign {
    block_on(register.signs(name, &[member])).unwrap()[0]
}

pub fn directory(register: &FileRegister, name: &LockName) -> PathBuf {
    PathBuf::from(&register.keys(name)[0].1)
}

/// The names in a directory, in order.
pub fn names_in(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The one name in a directory that begins so.
pub fn only(path: &Path, prefix: &str) -> PathBuf {
    let found: Vec<_> = names_in(path).into_iter().filter(|n| n.starts_with(prefix)).collect();
    assert_eq!(found.len(), 1, "{prefix}: {found:?}");
    path.join(&found[0])
}

pub fn claim(name: &LockName) -> Claim {
    let details = Arc::new(Details::of(Owner::this_process()));
    Claim::new(name.clone(), Token::random(), TTL, details)
}

pub fn waiting_claim(name: &LockName) -> Claim {
    let mut claim = claim(name);
    claim.wait = true;
    claim
}

pub fn acquire(backend: &impl Backend, claim: &Claim) -> Result<Verdict> {
    block_on(backend.acquire(claim))
}

pub fn granted(backend: &impl Backend, claim: &Claim) -> Fence {
    match acquire(backend, claim).unwrap() {
        Verdict::Granted(grant) => grant.fence,
        other => panic!("not granted: {other:?}"),
    }
}

pub fn release(backend: &impl Backend, claim: &Claim, fence: Fence) {
    let lease = LeaseRef::new(claim.name.clone(), claim.token.clone(), fence);
    let released = block_on(backend.release(&lease, None)).unwrap();
    assert_eq!(released, Release::Released);
}

/// Waits until something is seen to be so.
#[allow(clippy::disallowed_methods, reason = "tests wait for an observed state")]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
