//! Deliberately broken protocols, each of which the checker must find out.
//!
//! A model that finds nothing wrong is worth what its negative controls are worth: the same
//! machinery, with one rule replaced, has to come up with the failure, and in few steps.

#[path = "baton_model/mod.rs"]
mod baton_model;
mod broken;

use baton_model::config::{
    Baton, Bounds, Detail, FenceRule, PruneRule, RenewRule, RetryRule, Rules, SweepRule,
    WithdrawRule,
};
use baton_model::heartbeat::{Heartbeat, NO_VALID_HOLDER_EVICTED};
use baton_model::over::{self, Over, Takes};
use baton_model::properties;
use baton_model::run::{catch, exhaust, full, never};
use broken::generations::{self, Generations, Verification};
use broken::lock_file::{self, LockFile};
use broken::rename_renewal::{self, RenameRenewal};

#[test]
fn a_lock_file_that_is_deleted_and_created_has_two_holders() {
    let model = LockFile { processes: 3, deletes_expired: true, checks_owner: true };
    catch("lock file", model, lock_file::ONE_HOLDER, 12);
}

#[test]
fn a_lock_file_that_is_not_deleted_is_never_taken_over() {
    let model = LockFile { processes: 3, deletes_expired: false, checks_owner: true };
    never("lock file, not deleted", model, lock_file::TAKEN_OVER);
}

#[test]
fn a_release_that_does_not_look_deletes_the_file_of_its_successor() {
    let model = LockFile { processes: 2, deletes_expired: true, checks_owner: false };
    catch("blind release", model, lock_file::RELEASES_OWN, 9);
}

#[test]
fn a_release_that_looks_first_still_deletes_the_file_of_its_successor() {
    let model = LockFile { processes: 2, deletes_expired: true, checks_owner: true };
    catch("release in two calls", model, lock_file::RELEASES_OWN, 10);
}

const fn generations(
    acquisitions: &'static [u8],
    verification: Verification,
    stale_listings: bool,
) -> Generations {
    Generations { acquisitions, verification, stale_listings, coarse: true }
}

#[test]
fn generations_without_verification_have_two_holders() {
    let model = generations(&[2, 2], Verification::None, false);
    catch("generations", model, generations::ONE_HOLDER, 9);
}

#[test]
fn generations_without_verification_have_falling_fences() {
    let model = generations(&[2, 2], Verification::None, false);
    catch("generations", model, generations::FENCES_RISE, 7);
}

#[test]
fn generations_that_check_that_a_predecessor_exists_have_two_holders() {
    let model = generations(&[2, 1, 1], Verification::PredecessorExists, false);
    catch("predecessor exists", model, generations::ONE_HOLDER, 24);
}

#[test]
fn generations_that_trust_an_old_listing_have_two_holders() {
    let model = generations(&[2, 2], Verification::HighestInListing, true);
    catch("listed again, stale", model, generations::ONE_HOLDER, 13);
}

/// The sibling that is right, so that the three above fail for the reason they name.
#[test]
fn generations_that_check_the_token_of_their_predecessor_are_safe() {
    let acquisitions: &[u8] = if full() { &[2, 1, 1] } else { &[2, 2] };
    let model = Generations {
        coarse: false,
        ..generations(acquisitions, Verification::PredecessorToken, false)
    };
    exhaust("generations, predecessor's token", model);
}

#[test]
fn a_renewal_by_rename_has_two_holders() {
    let model = RenameRenewal { processes: 2, loss_is_final: false };
    catch("rename renewal", model, rename_renewal::ONE_HOLDER, 5);
}

#[test]
fn a_renewal_by_rename_overwrites_its_successor_even_if_it_heeds_its_deadline() {
    let model = RenameRenewal { processes: 2, loss_is_final: true };
    catch("rename renewal", model, rename_renewal::HOLDER_IS_LISTED, 5);
    catch("rename renewal", model, rename_renewal::ONE_HOLDER, 7);
}

fn baton(rules: Rules) -> Baton {
    Baton::new(Bounds::of(2, 2)).rules(rules)
}

#[test]
fn a_sweeper_that_deletes_what_is_not_referred_to_removes_the_current_record() {
    let rules = Rules { sweep: SweepRule::Unreferenced, ..Rules::baton() };
    catch("naive sweep", baton(rules), properties::RECORD_EXISTS, 15);
}

#[test]
fn the_same_sweeper_is_caught_where_only_visible_calls_are_steps() {
    let rules = Rules { sweep: SweepRule::Unreferenced, ..Rules::baton() };
    let model = baton(rules).detail(Detail::VisibleCalls);
    catch("naive sweep", model, properties::RECORD_EXISTS, 11);
}

#[test]
fn a_renewal_that_creates_its_heart_beat_again_brings_back_a_swept_name() {
    let rules = Rules { renew: RenewRule::Recreate, ..Rules::baton() };
    let model = baton(rules).renewals();
    catch("re-created heart-beat", model, properties::SWEPT_STAYS_SWEPT, 19);
}

#[test]
fn a_record_withdrawn_while_its_rename_may_still_execute_is_missed() {
    let rules = Rules { withdraw: WithdrawRule::NotWon, ..Rules::baton() };
    let model = baton(rules).late_renames();
    catch("early withdrawal", model, properties::RECORD_EXISTS, 8);
}

#[test]
fn a_record_withdrawn_because_of_an_old_listing_is_missed() {
    let rules = Rules { withdraw: WithdrawRule::NotWon, ..Rules::baton() };
    let model = baton(rules).old_listings();
    catch("withdrawal by an old listing", model, properties::RECORD_EXISTS, 7);
}

#[test]
fn a_retry_with_the_same_token_loses_its_heart_beat_to_its_evictor() {
    let rules = Rules { retry: RetryRule::SameToken, ..Rules::baton() };
    catch("same token", baton(rules), properties::HEARTBEAT_EXISTS, 22);
}

#[test]
fn a_retry_with_the_same_token_and_a_new_deadline_has_two_holders() {
    let rules = Rules { retry: RetryRule::SameToken, ..Rules::baton() };
    let model = baton(rules).late_renames();
    catch("same token", model, properties::ONE_HOLDER, 22);
}

#[test]
fn a_directory_published_late_brings_back_old_fences() {
    let rules = Rules { fence: FenceRule::Successor, ..Rules::baton() };
    let model = Baton::new(Bounds::of(2, 1).prunes(1)).rules(rules).starts_empty();
    catch("no clock floor", model, properties::FENCES_RISE, 37);
}

#[test]
fn a_power_loss_brings_back_old_fences_without_sync_and_without_floor() {
    let rules = Rules { fence: FenceRule::Successor, ..Rules::baton() };
    let model = Baton::new(Bounds::of(2, 2).power_losses(1)).rules(rules);
    catch("no sync, no floor", model, properties::FENCES_RISE, 16);
}

#[test]
fn a_pruner_that_goes_by_the_path_damages_the_next_directory() {
    let rules = Rules { prune_by_handle: false, ..Rules::baton() };
    let model = Baton::new(Bounds::of(3, 1).prunes(1)).rules(rules);
    catch("prune by path", model, properties::NEVER_STUCK, 17);
}

#[test]
fn a_renewal_confirmed_after_the_deadline_revives_an_evicted_holder() {
    let model = Heartbeat { loss_is_final: false, ..Heartbeat::baton() };
    catch("late confirmation", model, NO_VALID_HOLDER_EVICTED, 12);
}

#[test]
fn a_renewal_of_an_unlinked_heart_beat_is_seen_by_nobody() {
    let model = Heartbeat { checks_link: false, ..Heartbeat::baton() };
    catch("unlinked heart-beat", model, NO_VALID_HOLDER_EVICTED, 13);
}

#[test]
fn a_lease_counted_from_the_confirmation_outlives_the_proof() {
    let model = Heartbeat { counts_from_before: false, ..Heartbeat::baton() };
    catch("counted from after", model, NO_VALID_HOLDER_EVICTED, 12);
}

#[test]
fn a_directory_that_a_late_file_kept_from_removal_is_stuck_without_a_rule_for_remnants() {
    let rules = Rules { remnant_is_pruned: false, ..Rules::baton() };
    let model = Baton::new(Bounds::of(2, 1).prunes(1).crashes(1)).rules(rules);
    catch("no rule for remnants", model, properties::NEVER_STUCK, 15);
}

#[test]
fn a_creator_that_does_not_ask_for_burials_brings_back_old_fences() {
    let rules = Rules { prune: PruneRule::Revivable, counts_burials: false, ..Rules::baton() };
    let model = Baton::new(Bounds::of(2, 1).prunes(1)).rules(rules).starts_empty();
    catch("burials not counted", model, properties::FENCES_RISE, 40);
}

#[test]
fn a_revivable_directory_that_loses_its_format_last_may_be_stuck() {
    let rules = Rules { prune: PruneRule::Revivable, format_first: false, ..Rules::baton() };
    let model = Baton::new(Bounds::of(2, 1).prunes(1).crashes(1)).rules(rules);
    catch("FORMAT goes last", model, properties::NEVER_STUCK, 17);
}

#[test]
fn a_file_whose_author_sleeps_is_written_over_by_its_author_when_it_wakes_up() {
    let model = Over { takes: Takes::AnyOlder, ..Over::baton(2, 5) };
    catch("any older file", model, over::RECORD, 30);
}

#[test]
fn a_file_that_is_not_taken_before_it_is_written_has_two_authors() {
    let model = Over { moves_first: false, ..Over::baton(2, 4) };
    catch("written before it is taken", model, over::RECORD, 30);
}

#[test]
fn a_reader_that_does_not_look_which_step_a_record_is_of_takes_a_later_one_for_it() {
    let model = Over { compares: false, ..Over::baton(2, 4) };
    catch("record not compared", model, over::READER, 20);
}
