//! Heart-beats with time in them: why whoever evicts may know that the holder's lease has ended.
//!
//! The large model lets an observer evict only a claim whose own deadline has passed, although an
//! observer never sees that deadline. Here is what it does see: that the heart-beat file reads the
//! same at two fresh opens at least a ttl apart. One holder, one observer, one careless sweeper;
//! time in ticks, each participant as slow as it likes.
//!
//! The observer's clock and the holder's differ in rate by less than ρ. The holder shortens its
//! ttl and the observer lengthens its own accordingly, so that here both count the same ticks.

use stateright::{Model, Property};

/// The lease of the holder and the patience of the observer, in ticks.
const TTL: u8 = 3;

pub(crate) const NO_VALID_HOLDER_EVICTED: &str = "an evicted holder is not valid";

/// Which of the safeguards are in force. All of them: the protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heartbeat {
    /// A renewal that is confirmed after the old deadline does not count: loss is final.
    pub(crate) loss_is_final: bool,
    /// A renewal counts only if the file it wrote is still linked.
    pub(crate) checks_link: bool,
    /// The lease counts from before the write, not from when it was confirmed.
    pub(crate) counts_from_before: bool,
}

impl Heartbeat {
    pub(crate) const fn baton() -> Self {
        Self { loss_is_final: true, checks_link: true, counts_from_before: true }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Created,
    Admitted,
    Holding,
    Beating,
    Written,
    Listed,
    Gone,
}

/// Ages are ticks since the event and stop at [`TTL`]: older makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    stage: Stage,
    /// Since the lease began to count.
    lease: u8,
    /// Since the renewal under way began to count.
    renewal: u8,
    /// The deadline passed while the user had the guard.
    lost: bool,
    listed: bool,
    linked: bool,
    /// Since the first sight of the heart-beat as it is now, if it has not changed since.
    sight: Option<u8>,
    unchanged: bool,
    /// The observer has its proof and will evict.
    proven: bool,
    evicted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Tick,
    Admit,
    Return,
    BeginRenewal,
    Write,
    ReadRegister,
    Confirm,
    Sweep,
    FirstSight,
    SecondSight,
    Evict,
}

impl State {
    fn is_valid(&self) -> bool {
        let has_guard =
            matches!(self.stage, Stage::Holding | Stage::Beating | Stage::Written | Stage::Listed);
        has_guard && self.lease < TTL && !self.lost
    }

    fn tick(&mut self) {
        let had = self.is_valid();
        self.lease = (self.lease + 1).min(TTL);
        self.renewal = (self.renewal + 1).min(TTL);
        self.sight = self.sight.map(|age| (age + 1).min(TTL));
        self.lost |= had && !self.is_valid();
    }

    /// The file changed, or its name went away: either looks different to who opens it afresh.
    fn change(&mut self) {
        self.unchanged = false;
    }
}

impl Model for Heartbeat {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            stage: Stage::Created,
            lease: 0,
            renewal: 0,
            lost: false,
            listed: false,
            linked: true,
            sight: None,
            unchanged: false,
            proven: false,
            evicted: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        match state.stage {
            Stage::Created => actions.push(Action::Admit),
            Stage::Admitted => actions.push(Action::Return),
            Stage::Holding if state.is_valid() => actions.push(Action::BeginRenewal),
            Stage::Beating => actions.push(Action::Write),
            Stage::Written => actions.push(Action::ReadRegister),
            Stage::Listed => actions.push(Action::Confirm),
            Stage::Holding | Stage::Gone => {}
        }
        if state.linked {
            actions.push(Action::Sweep);
        }
        if state.listed {
            actions.push(Action::FirstSight);
        }
        if state.sight == Some(TTL) {
            actions.push(Action::SecondSight);
        }
        if state.proven && state.listed {
            actions.push(Action::Evict);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Tick => state.tick(),
            Action::Admit => {
                state.listed = true;
                state.stage = Stage::Admitted;
            }
            Action::Return => {
                let in_time = state.lease < TTL;
                state.stage = if in_time { Stage::Holding } else { Stage::Gone };
            }
            Action::BeginRenewal => {
                state.renewal = 0;
                state.stage = Stage::Beating;
            }
            Action::Write => {
                if state.linked {
                    state.change();
                }
                state.stage = Stage::Written;
            }
            Action::ReadRegister => {
                let refused = !state.listed;
                let swept = self.checks_link && !state.linked;
                let gone = refused || swept;
                state.stage = if gone { Stage::Gone } else { Stage::Listed };
            }
            Action::Confirm => {
                let late = self.loss_is_final && !state.is_valid();
                state.stage = if late { Stage::Gone } else { Stage::Holding };
                state.lease = if self.counts_from_before { state.renewal } else { 0 };
                state.lost = false;
            }
            Action::Sweep => {
                state.linked = false;
                state.change();
            }
            Action::FirstSight => {
                state.sight = Some(0);
                state.unchanged = true;
                state.proven = false;
            }
            Action::SecondSight => {
                state.proven = state.unchanged;
                state.sight = None;
            }
            Action::Evict => {
                state.listed = false;
                state.evicted = true;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NO_VALID_HOLDER_EVICTED, |_, state: &State| {
                !state.evicted || !state.is_valid()
            }),
            Property::sometimes("a holder is evicted", |_, state: &State| {
                state.evicted && state.stage == Stage::Holding
            }),
            Property::sometimes("a renewal is under way as the proof is found", |_, state| {
                let state: &State = state;
                state.proven && state.stage == Stage::Beating
            }),
            Property::sometimes("a renewal is refused", |_, state: &State| {
                state.stage == Stage::Gone && state.lost && state.evicted
            }),
        ]
    }
}
