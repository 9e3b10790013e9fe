//! Which step may come next.

use stateright::{Model, Property};

use super::canonical::canonical;
use super::config::{Baton, Detail, FenceRule, RetryRule};
use super::state::{Dir, Job, Pc, Proc, State, Tok};

/// Where a search that cannot end by itself stops: enough for two grants on either side of a
/// power loss, and some retries.
const LAST_GENERATION: u8 = 6;

/// One step of one process, or of its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Action {
    pub(crate) proc: u8,
    pub(crate) choice: Choice,
}

/// What happens in the step, where the next call of the process leaves a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Choice {
    Next,
    Acquire,
    Prune,
    Release,
    Renew,
    ListStale,
    RecheckStale,
    LookAgain,
    Evict(Tok),
    Executed,
    ExecutedUnanswered,
    Refused,
    Delayed,
    GiveUp,
    Unlink(u8),
    Crash,
    Lapse,
    Deliver,
    WriteBack,
    PowerLoss,
}

impl Model for Baton {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let creator = Tok { owner: 0, number: 0 };
        let dir = self.starts_created.then(|| Dir::fresh(1, creator));
        let power = 0 < self.bounds.power_losses;
        let proc = Proc::new(self.bounds.acquisitions, self.bounds.crashes);
        let state = State {
            on_disk: if power { dir.clone() } else { None },
            dir,
            procs: vec![proc; usize::from(self.bounds.processes)],
            prunes: self.bounds.prunes,
            power_losses: self.bounds.power_losses,
            highest: 1,
            granted: 0,
            reported: 0,
            fault: None,
        };
        vec![self.canonical(state)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.fault.is_some() {
            return;
        }
        for (p, proc) in (0u8..).zip(&state.procs) {
            let mut add = |choice| actions.push(Action { proc: p, choice });
            self.own_choices(state, usize::from(p), &mut add);
            if 0 < proc.crashes && proc.pc != Pc::Idle {
                add(Choice::Crash);
            }
            if proc.claim.is_some() && !proc.lapsed && self.lapse_matters(proc) {
                add(Choice::Lapse);
            }
            if proc.late.is_some() {
                add(Choice::Deliver);
            }
        }
        if state.on_disk.is_some() {
            let machine = |choice| Action { proc: 0, choice };
            actions.push(machine(Choice::PowerLoss));
            if state.on_disk != state.dir {
                actions.push(machine(Choice::WriteBack));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let p = usize::from(action.proc);
        match action.choice {
            Choice::Next => self.step(&mut state, p)?,
            Choice::Acquire => state.start_acquire(p),
            Choice::Prune => state.start_prune(p),
            Choice::Release => state.start_release(p),
            Choice::Renew => state.procs[p].pc = Pc::Beat,
            Choice::ListStale => state.list_stale(p),
            Choice::RecheckStale => state.recheck_stale(p, self),
            Choice::LookAgain => state.look_again(p),
            Choice::Evict(holder) => state.decide_to_evict(p, holder),
            Choice::Executed if state.procs[p].pc == Pc::PruneRename => {
                self.kill(&mut state, p, true);
            }
            Choice::ExecutedUnanswered if state.procs[p].pc == Pc::PruneRename => {
                self.kill(&mut state, p, false);
            }
            Choice::Refused if state.procs[p].pc == Pc::PruneRename => {
                state.procs[p].pc = if self.revives() { Pc::Drop } else { Pc::PruneRecheck };
            }
            Choice::Executed => state.rename_answered(p, self),
            Choice::ExecutedUnanswered => state.rename_unanswered(p, self),
            Choice::Refused => state.rename_refused(p),
            Choice::Delayed => state.rename_delayed(p),
            Choice::GiveUp => state.give_up(p),
            Choice::Unlink(index) => state.sweep_one(p, usize::from(index)),
            Choice::Crash => state.crash(p),
            Choice::Lapse => state.lapse(p),
            Choice::Deliver => state.deliver(p, self),
            Choice::WriteBack => state.write_back(),
            Choice::PowerLoss => state.lose_power(),
        }
        self.fuse(&mut state, p)?;
        state.drop_garbage(self);
        self.fuse(&mut state, p)?;
        Some(self.canonical(state))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::properties::all(self)
    }

    /// Without the clock floor, generations count, and there is no end to them.
    fn within_boundary(&self, state: &State) -> bool {
        self.rules.fence == FenceRule::ClockFloor || state.highest <= LAST_GENERATION
    }
}

impl Baton {
    fn kill(&self, state: &mut State, p: usize, answered: bool) {
        if self.revives() {
            state.kill(p, answered);
        } else {
            state.mark_dead(p, answered);
        }
    }

    fn canonical(&self, mut state: State) -> State {
        state.drop_garbage(self);
        canonical(state, self.rules.fence == FenceRule::ClockFloor)
    }

    /// A claim that has sent nothing has no lease that could end: it is counted from `Touch`.
    fn lapse_matters(&self, proc: &Proc) -> bool {
        if proc.job != Job::Acquire || self.rules.retry == RetryRule::SameToken {
            return true;
        }
        !matches!(
            proc.pc,
            Pc::Open
                | Pc::Build
                | Pc::Publish { .. }
                | Pc::CountBurials { .. }
                | Pc::CheckBurials { .. }
                | Pc::ClearRemains { .. }
                | Pc::RemoveRemains { .. }
                | Pc::List
                | Pc::Read
                | Pc::Watch(_)
                | Pc::Touch
                | Pc::CleanFiles
                | Pc::CleanFormat
                | Pc::CleanDead
                | Pc::RemoveDir
        )
    }

    fn own_choices(&self, state: &State, p: usize, add: &mut impl FnMut(Choice)) {
        let proc = &state.procs[p];
        match proc.pc {
            Pc::Idle => {
                if 0 < proc.acquisitions {
                    add(Choice::Acquire);
                }
                if 0 < state.prunes {
                    add(Choice::Prune);
                }
            }
            Pc::List => {
                add(Choice::Next);
                if self.old_listings && proc.view.is_some() && proc.handle {
                    add(Choice::ListStale);
                }
            }
            Pc::Recheck => {
                add(Choice::Next);
                if self.old_listings {
                    add(Choice::RecheckStale);
                }
            }
            Pc::Watch(holder) => {
                add(Choice::LookAgain);
                if state.is_evictable(holder) {
                    add(Choice::Evict(holder));
                }
            }
            Pc::Rename => {
                let attempt = proc.attempt.expect("prepared before rename");
                add(Choice::Refused);
                if state.opened(p).is_some() && state.can_commit(attempt) {
                    add(Choice::Executed);
                    add(Choice::ExecutedUnanswered);
                    if self.late_renames && proc.late.is_none() {
                        add(Choice::Delayed);
                    }
                }
                if proc.unsure && (self.late_renames || self.old_listings) {
                    add(Choice::GiveUp);
                }
            }
            Pc::PruneRename => {
                add(Choice::Refused);
                if state.can_prune(p) {
                    add(Choice::Executed);
                    add(Choice::ExecutedUnanswered);
                }
            }
            Pc::Sweep if !proc.sweep.is_empty() => {
                let count = u8::try_from(proc.sweep.len()).expect("a short list");
                (0..count).for_each(|index| add(Choice::Unlink(index)));
            }
            Pc::Held => {
                add(Choice::Release);
                if self.renewals {
                    add(Choice::Renew);
                }
            }
            _ => add(Choice::Next),
        }
    }

    /// The next call of process `p`, where it has no choice. `None`: it changes nothing.
    fn step(&self, state: &mut State, p: usize) -> Option<()> {
        match state.procs[p].pc {
            Pc::Open => state.open(p, self),
            Pc::Build if self.revives() => state.build_stillborn(p),
            Pc::Build => state.build(p),
            Pc::Publish { generation, tok } if self.revives() => {
                state.publish_stillborn(p, generation, tok);
            }
            Pc::CountBurials { seen } => state.count_burials(p, seen),
            Pc::CheckBurials { generation, tok } => {
                state.check_burials(p, generation, tok, self);
            }
            Pc::ClearRemains { generation } => state.clear_remains(p, generation),
            Pc::RemoveRemains { generation } => state.remove_remains(p, generation),
            Pc::Bury => state.bury(p),
            Pc::LookBare => state.look_bare(p),
            Pc::MarkBurial => state.mark_burial(p, self),
            Pc::Publish { generation, tok } => state.publish(p, generation, tok),
            Pc::List => state.list(p, self)?,
            Pc::Read => state.read(p),
            Pc::Touch => state.touch(p, self),
            Pc::CreateRecord => state.create_record(p, self),
            Pc::Recheck => state.recheck(p, self),
            Pc::RecheckRead(version) => state.recheck_read(p, version),
            Pc::Withdraw => state.withdraw(p, self),
            Pc::Won | Pc::Resolved => state.won(p, self),
            Pc::Sync => state.sync(p),
            Pc::SweepList => state.sweep_list(p, self),
            Pc::Sweep => state.swept(p),
            Pc::Beat => state.beat(p, self),
            Pc::BeatRead => state.beat_read(p),
            Pc::Drop => state.drop_claim(p),
            Pc::PruneRecheck => state.prune_recheck(p),
            Pc::CleanFiles => state.clean_files(p),
            Pc::CleanFormat => state.clean_format(p, self),
            Pc::CleanDead if self.revives() => state.unlink_mark(p, self),
            Pc::CleanDead => state.clean_dead(p),
            Pc::RemoveDir => state.remove_dir(p),
            Pc::Idle | Pc::Watch(_) | Pc::Rename | Pc::Held | Pc::PruneRename => return None,
        }
        Some(())
    }

    /// Takes the next call of `p` at once where that loses nothing.
    fn fuse(&self, state: &mut State, p: usize) -> Option<()> {
        let whole = self.detail == Detail::Register;
        let visible = whole || self.detail == Detail::VisibleCalls;
        loop {
            let proc = &state.procs[p];
            match proc.pc {
                // Local: nothing is left to delete.
                Pc::Sweep if proc.sweep.is_empty() => self.step(state, p)?,
                // While nobody removes the directory, opening it finds the same one at any time.
                // So does creating the own heart-beat in it: it is not listed, and no sweeper
                // takes it for a stray before the lease that begins here has ended, which is free
                // to happen as late as if the heart-beat had been created later.
                Pc::Open | Pc::Touch if self.keeps_directory(state) => self.step(state, p)?,
                // Records do not change. Should the one listed be superseded before it is read,
                // the attempt is doomed, as it is if that happens right after.
                Pc::Read | Pc::RecheckRead(_) if visible => self.step(state, p)?,
                // Nobody looks at a record of the current generation but through a `cur` that
                // names it, nor at what an attempt left that is off the register.
                Pc::CreateRecord | Pc::Withdraw | Pc::Drop if visible => self.step(state, p)?,
                // A releaser that is told changes nothing.
                Pc::Won if visible && proc.job == Job::Release => self.step(state, p)?,
                Pc::SweepList if whole => self.step(state, p)?,
                Pc::Sweep if whole => state.sweep_one(p, 0),
                _ => return Some(()),
            }
        }
    }

    fn keeps_directory(&self, state: &State) -> bool {
        state.dir.is_some() && self.bounds.prunes == 0 && self.bounds.power_losses == 0
    }
}
