//! What a store's refusal means to whoever asked.

use crate::backend::{Departure, Refusal};
use crate::error::{Error, ErrorKind};
use crate::values::Seats;
use crate::view::HolderView;

/// The store said nothing within the time that it was given.
pub(crate) fn late() -> Error {
    Error::new(ErrorKind::Unreachable, "the store did not answer in time")
}

/// Others hold the seats, and the wish was not to wait.
pub(crate) fn busy(holders: Vec<HolderView>) -> Error {
    Error::new(ErrorKind::Busy, "somebody else holds it")
        .with_help("wait for it, or look who holds it: `tenure status NAME`")
        .with_holders(holders)
}

/// The store refused a claim.
pub(crate) fn refused(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::Mismatch { of } => mismatch(*of),
        Refusal::UpgradePending => Error::new(
            ErrorKind::Deadlock,
            "another holder already waits to upgrade; both would wait for ever",
        )
        .with_help("release the shared lock and acquire it exclusively"),
        Refusal::NotHeld => Error::new(ErrorKind::NotHeld, "only a holder can upgrade"),
        Refusal::Departed(how) => {
            Error::new(ErrorKind::Lost, format!("the lock is not held any more: {how}"))
        }
        Refusal::Withdrawn => {
            Error::new(ErrorKind::Unknown, "the claim was withdrawn while it was being granted")
        }
    }
}

/// Others count `of` seats for this lock.
pub(crate) fn mismatch(of: u32) -> Error {
    let there = if of == Seats::MANY { "unlimited".to_owned() } else { of.to_string() };
    Error::new(
        ErrorKind::Mismatch,
        format!("the present holders and waiters count {there} seats, this claim another number"),
    )
    .with_help("all users of one name must name the same number of permits")
}

/// What a departed claim means to somebody who asks for the departure itself.
pub(crate) fn departed(how: Departure) -> Error {
    match how {
        Departure::Forgotten | Departure::Released | Departure::Withdrawn => {
            Error::new(ErrorKind::NotHeld, format!("the lock is not held by this token: {how}"))
        }
        how => crate::loss::LossReason::from(how).into(),
    }
}
