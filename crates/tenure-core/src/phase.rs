//! The one word that decides who may still do what with a lease.
//!
//! Renewal, release, loss and drop race for it; each is one compare-and-swap, so exactly one
//! wins. Kept apart from everything else so that a model checker can run every interleaving.

use crate::sync::{AtomicU8, Ordering};

/// Where a lease stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The claim was sent or is about to be; the seats may be taken at any moment.
    Sent = 0,
    /// The seats are held, and renewed.
    Held = 1,
    /// They are being given back: no more renewals.
    Releasing = 2,
    /// They are lost: no more renewals, and nothing brings them back.
    Lost = 3,
    /// Nothing is left to do.
    Gone = 4,
}

/// The phase of one lease, shared by guard, keeper and janitor.
#[derive(Debug)]
pub(crate) struct PhaseWord(AtomicU8);

impl PhaseWord {
    pub(crate) fn new(phase: Phase) -> Self {
        Self(AtomicU8::new(phase as u8))
    }

    pub(crate) fn get(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Sent,
            1 => Phase::Held,
            2 => Phase::Releasing,
            3 => Phase::Lost,
            _ => Phase::Gone,
        }
    }

    /// Moves from `from` to `to`; `false` if somebody else moved it first.
    fn step(&self, from: Phase, to: Phase) -> bool {
        self.0.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The grant arrived. `false` if the attempt was given up meanwhile: it must be withdrawn.
    pub(crate) fn hold(&self) -> bool {
        self.step(Phase::Sent, Phase::Held)
    }

    /// The attempt is given up. `true` for the one that has to withdraw it.
    pub(crate) fn give_up(&self) -> bool {
        self.step(Phase::Sent, Phase::Gone)
    }

    /// The guard is released or dropped. `true` for the one that has to send the release.
    pub(crate) fn release(&self) -> bool {
        self.step(Phase::Held, Phase::Releasing)
    }

    /// The lease is lost. `true` for the one that has to tell.
    pub(crate) fn lose(&self) -> bool {
        self.step(Phase::Held, Phase::Lost)
    }

    /// The release was answered, or given up.
    pub(crate) fn finish(&self) {
        self.0.store(Phase::Gone as u8, Ordering::Release);
    }
}
