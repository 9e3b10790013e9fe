//! What must hold in every state, and what must happen in some.

use stateright::Property;

use super::config::{Baton, FOR_EVER, RenewRule};
use super::state::{Fault, Job, Pc, Proc, State};

pub(crate) const ONE_HOLDER: &str = "at most one valid holder";
pub(crate) const HOLDER_IS_LISTED: &str = "a valid holder is the one the register lists";
pub(crate) const FENCES_RISE: &str = "every grant has a higher fence than all before";
pub(crate) const RECORD_EXISTS: &str = "the record that cur names exists";
pub(crate) const ONE_CUR: &str = "there are never two cur";
pub(crate) const NO_LIVE_REMOVAL: &str = "nobody removes a live record";
pub(crate) const HEARTBEAT_EXISTS: &str = "the heart-beat of a valid holder exists";
pub(crate) const SWEPT_STAYS_SWEPT: &str = "a swept heart-beat never returns";
pub(crate) const RELEASES_OWN: &str = "a transition removes no other grant than it means to";
pub(crate) const REPORTS_ARE_TRUE: &str = "nothing is reported that did not happen";
pub(crate) const NEVER_STUCK: &str = "a directory can always be used or finished off";

/// The properties that fit what the configuration can do: a `sometimes` nobody can reach would
/// fail the run.
pub(crate) fn all(model: &Baton) -> Vec<Property<Baton>> {
    let mut properties = promises();
    properties.extend(exercises(model));
    properties
}

fn promises() -> Vec<Property<Baton>> {
    vec![
        Property::always(ONE_HOLDER, |_, state: &State| {
            state.procs.iter().filter(|proc| proc.is_valid()).count() <= 1
        }),
        Property::always(HOLDER_IS_LISTED, |_, state: &State| {
            let dir = state.dir.as_ref();
            let listed = dir.and_then(|dir| dir.current()).and_then(|record| record.holder);
            all_valid(state, |proc| proc.handle && proc.claim == listed)
        }),
        // Grants are compared in the order in which they enter the register. That lies between
        // call and return of each, so it implies both uniqueness and real-time order.
        Property::always(FENCES_RISE, |_, state: &State| {
            state.fault != Some(Fault::FenceNotRising)
        }),
        Property::always(RECORD_EXISTS, |_, state: &State| {
            state
                .dir
                .as_ref()
                .is_none_or(|dir| dir.cur.iter().all(|cur| dir.record(cur.tok).is_some()))
        }),
        Property::always(ONE_CUR, |_, state: &State| {
            state.dir.as_ref().is_none_or(|dir| dir.cur.len() <= 1)
        }),
        Property::always(NO_LIVE_REMOVAL, |_, state: &State| {
            state.fault != Some(Fault::LiveRecordRemoved)
        }),
        Property::always(HEARTBEAT_EXISTS, |model: &Baton, state: &State| {
            !model.has_files()
                || all_valid(state, |proc| {
                    let dir = state.dir.as_ref();
                    let exists = |tok| dir.is_some_and(|dir| dir.has_heartbeat(tok));
                    proc.claim.is_some_and(exists)
                })
        }),
        Property::always(SWEPT_STAYS_SWEPT, |_, state: &State| {
            let returned = |proc: &Proc| {
                let dir = state.dir.as_ref();
                let exists = |tok| dir.is_some_and(|dir| dir.has_heartbeat(tok));
                proc.swept && proc.claim.is_some_and(exists)
            };
            !state.procs.iter().any(returned)
        }),
        Property::always(RELEASES_OWN, |_, state: &State| {
            state.fault != Some(Fault::ForeignRemoval)
        }),
        Property::always(REPORTS_ARE_TRUE, |_, state: &State| {
            state.fault != Some(Fault::FalseReport)
        }),
        Property::always(NEVER_STUCK, |model: &Baton, state: &State| {
            state.dir.as_ref().is_none_or(|dir| {
                if !dir.cur.is_empty() {
                    return dir.dead.is_none() && (dir.format || model.revives());
                }
                // Without the rule for remnants, somebody must still have it in hand.
                let in_hand = |proc: &Proc| {
                    proc.handle && !matches!(proc.pc, Pc::Idle | Pc::Open | Pc::List | Pc::Drop)
                };
                let remains = if model.revives() {
                    !dir.format || dir.records.is_empty()
                } else {
                    !dir.format && model.rules.remnant_is_pruned
                };
                let free = remains || dir.is_empty();
                dir.dead.is_some() || free || any(state, in_hand)
            })
        }),
    ]
}

fn exercises(model: &Baton) -> Vec<Property<Baton>> {
    let mut properties = vec![
        Property::sometimes("a lost reply is resolved as won", |_, state: &State| {
            any(state, |proc| proc.pc == Pc::Resolved && proc.job == Job::Acquire)
        }),
        Property::sometimes("a release with a lost reply is resolved", |_, state: &State| {
            any(state, |proc| proc.pc == Pc::Resolved && proc.job == Job::Release)
        }),
        Property::sometimes("a live holder that lapsed is evicted", |_, state: &State| {
            any(state, |proc| {
                let lapsed = |other: &Proc| {
                    other.claim.is_some() && other.claim == proc.evicts && other.lapsed
                };
                proc.pc == Pc::Won && any(state, lapsed)
            })
        }),
        Property::sometimes("a grant comes too late to be a guard", |_, state: &State| {
            any(state, |proc| proc.pc == Pc::Won && proc.job == Job::Acquire && proc.lapsed)
        }),
    ];
    if 0 < model.bounds.crashes {
        properties.push(Property::sometimes(
            "a lock is taken over from a crashed holder",
            |model: &Baton, state: &State| {
                any(state, |proc| {
                    let gone = |tok: super::state::Tok| {
                        let owner = &state.procs[usize::from(tok.owner)];
                        let crashed = model.bounds.crashes == FOR_EVER
                            || owner.crashes < model.bounds.crashes;
                        crashed && owner.pc == Pc::Idle
                    };
                    proc.pc == Pc::Won && !proc.lapsed && proc.evicts.is_some_and(gone)
                })
            },
        ));
    }
    if 0 < model.bounds.prunes {
        properties.push(Property::sometimes(
            "a pruned lock is created again and granted",
            |model: &Baton, state: &State| {
                let pruned = model.bounds.prunes == FOR_EVER || state.prunes < model.bounds.prunes;
                pruned && any(state, Proc::is_valid)
            },
        ));
    }
    if 0 < model.bounds.prunes && !model.revives() {
        properties.push(Property::sometimes(
            "a late file makes the directory a remnant",
            |_, state: &State| {
                let remnant = |dir: &super::state::Dir| {
                    !dir.format && dir.dead.is_none() && dir.cur.is_empty() && !dir.is_empty()
                };
                state.dir.as_ref().is_some_and(remnant)
            },
        ));
    }
    if model.late_renames && model.bounds.crashes == 0 {
        properties.push(Property::sometimes(
            "a rename given up enters the register late",
            |_, state: &State| {
                let current = state.dir.as_ref().and_then(|dir| dir.current());
                let holder = current.and_then(|record| record.holder);
                let abandoned = |tok: super::state::Tok| {
                    let owner = &state.procs[usize::from(tok.owner)];
                    owner.pc == Pc::Idle && owner.late.is_none()
                };
                holder.is_some_and(abandoned)
            },
        ));
    }
    if model.renewals && model.rules.renew == RenewRule::InPlace {
        properties.push(Property::sometimes(
            "a renewal finds its heart-beat swept",
            |_, state: &State| any(state, |proc| proc.pc == Pc::Beat && proc.swept),
        ));
    }
    if 0 < model.bounds.power_losses {
        properties.push(Property::sometimes(
            "power loss undoes a transition",
            |model: &Baton, state: &State| {
                let generation = |dir: &super::state::Dir| dir.newest().map(|cur| cur.generation);
                state.power_losses < model.bounds.power_losses
                    && state.dir.as_ref().and_then(generation) < Some(state.highest)
            },
        ));
    }
    properties
}

fn any(state: &State, condition: impl FnMut(&Proc) -> bool) -> bool {
    state.procs.iter().any(condition)
}

fn all_valid(state: &State, mut condition: impl FnMut(&Proc) -> bool) -> bool {
    state.procs.iter().filter(|proc| proc.is_valid()).all(&mut condition)
}
