//! Exhaustive models of the baton, the protocol of the file store.
//!
//! Each test searches every state of one configuration. The normal sizes take seconds in a debug
//! build; `TENURE_MODELS=full` chooses sizes for a release build and minutes:
//!
//! ```text
//! TENURE_MODELS=full cargo test --release -p tenure-backend-file --test baton_model -- \
//!     --nocapture --test-threads=1
//! ```
//!
//! Where a size says [`FOR_EVER`], the processes acquire and release (and crash, and prune)
//! without limit: tokens and generations are told apart only as far as anybody could, so there
//! are finitely many states, and the result holds for histories of any length.

#[path = "baton_model/mod.rs"]
mod baton_model;

use baton_model::config::{Baton, Bounds, Detail, FOR_EVER, FenceRule, PruneRule, Rules};
use baton_model::heartbeat::Heartbeat;
use baton_model::over::Over;
use baton_model::run::{exhaust, full};

/// One or the other, as the environment asks.
fn size(normal: Bounds, large: Bounds) -> Bounds {
    if full() { large } else { normal }
}

#[test]
fn three_processes_at_the_register_alone_hold_one_after_the_other() {
    let bounds = size(Bounds::of(3, 1), Bounds::of(3, FOR_EVER));
    let mut model = Baton::new(bounds).detail(Detail::Register);
    if full() {
        model = model.late_renames();
    }
    exhaust("register", model);
}

#[test]
fn the_register_alone_survives_late_renames_and_old_listings() {
    let model =
        Baton::new(Bounds::of(2, FOR_EVER)).detail(Detail::Register).late_renames().old_listings();
    exhaust("register, late renames, old listings", model);
}

#[test]
fn two_processes_hold_one_after_the_other_whatever_call_they_are_stopped_at() {
    let bounds = size(Bounds::of(2, 1).crashes(1), Bounds::of(2, FOR_EVER).crashes(FOR_EVER));
    let model = Baton::new(bounds).late_renames().old_listings().renewals();
    exhaust("every call", model);
}

#[test]
fn two_processes_may_come_back_as_often_as_they_like() {
    let bounds = size(Bounds::of(2, 2), Bounds::of(2, FOR_EVER));
    exhaust("every call, again and again", Baton::new(bounds));
}

#[test]
fn processes_that_crash_hold_one_after_the_other() {
    let bounds = size(Bounds::of(2, 2).crashes(1), Bounds::of(3, FOR_EVER).crashes(FOR_EVER));
    let model = Baton::new(bounds).detail(Detail::VisibleCalls);
    exhaust("visible calls", model);
}

#[test]
fn processes_with_late_renames_and_old_listings_hold_one_after_the_other() {
    let bounds = size(Bounds::of(2, FOR_EVER), Bounds::of(3, FOR_EVER));
    let model = Baton::new(bounds).detail(Detail::VisibleCalls).late_renames().old_listings();
    exhaust("visible calls, late renames, old listings", model);
}

#[test]
fn processes_that_renew_hold_one_after_the_other() {
    let bounds = size(Bounds::of(2, FOR_EVER).crashes(FOR_EVER), Bounds::of(3, 2));
    let model = Baton::new(bounds).detail(Detail::VisibleCalls).renewals();
    exhaust("visible calls, renewals", model);
}

#[test]
fn three_processes_hold_one_after_the_other_whatever_call_they_are_stopped_at() {
    if full() {
        exhaust("every call, three", Baton::new(Bounds::of(3, 1)));
    }
}

#[test]
fn a_pruned_lock_is_created_again_with_higher_fences() {
    let bounds = size(
        Bounds::of(2, 1).prunes(1),
        Bounds::of(2, FOR_EVER).prunes(FOR_EVER).crashes(FOR_EVER),
    );
    let mut model = Baton::new(bounds).starts_empty();
    if full() {
        model = model.late_renames().old_listings().renewals();
    }
    exhaust("prune", model);
}

#[test]
fn a_dead_lock_is_revived_or_removed_but_not_both() {
    let rules = Rules { prune: PruneRule::Revivable, ..Rules::baton() };
    let bounds = size(Bounds::of(2, 1).prunes(1), Bounds::of(2, 2).prunes(1).crashes(1));
    exhaust("prune, revivable", Baton::new(bounds).rules(rules).starts_empty());
    let rules = Rules { format_returns: false, ..rules };
    exhaust("prune, revivable, without FORMAT", Baton::new(bounds).rules(rules).starts_empty());
}

#[test]
fn a_dead_lock_is_revived_or_removed_for_ever() {
    if full() {
        let rules = Rules { prune: PruneRule::Revivable, ..Rules::baton() };
        let bounds = Bounds::of(2, FOR_EVER).prunes(FOR_EVER);
        exhaust("prune, revivable, for ever", Baton::new(bounds).rules(rules).starts_empty());
    }
}

#[test]
fn fences_rise_over_a_power_loss_by_the_clock_alone() {
    let bounds = size(Bounds::of(2, 1), Bounds::of(2, 2)).power_losses(1);
    exhaust("power loss, clock floor", Baton::new(bounds));
}

#[test]
fn fences_rise_over_a_power_loss_by_sync_alone() {
    let rules = Rules { durable: true, fence: FenceRule::Successor, ..Rules::baton() };
    let bounds = size(Bounds::of(2, 1), Bounds::of(2, 2)).power_losses(1);
    exhaust("power loss, sync", Baton::new(bounds).rules(rules));
}

#[test]
fn whoever_evicts_by_a_silent_heart_beat_evicts_nobody_valid() {
    exhaust("heart-beat", Heartbeat::baton());
}

#[test]
fn records_stay_what_they_are_although_their_files_are_written_into_again() {
    let model = if full() { Over::baton(2, 6) } else { Over::baton(2, 4) };
    exhaust("written over", model);
}
