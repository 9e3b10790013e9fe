//! What a run of the model switches on: its size, its environment, its rules.

/// Number of acquisitions that stands for "for ever".
pub(crate) const FOR_EVER: u8 = u8::MAX;

/// How many processes do how much, and how much may go wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) processes: u8,
    /// Acquisitions per process; [`FOR_EVER`] for no limit.
    pub(crate) acquisitions: u8,
    /// Crashes per process; a crashed process starts again with empty memory.
    pub(crate) crashes: u8,
    /// Prunes that may succeed in the whole run.
    pub(crate) prunes: u8,
    /// Losses of power in the whole run.
    pub(crate) power_losses: u8,
}

impl Bounds {
    pub(crate) const fn of(processes: u8, acquisitions: u8) -> Self {
        Self { processes, acquisitions, crashes: 0, prunes: 0, power_losses: 0 }
    }

    pub(crate) const fn crashes(mut self, each: u8) -> Self {
        self.crashes = each;
        self
    }

    pub(crate) const fn prunes(mut self, total: u8) -> Self {
        self.prunes = total;
        self
    }

    pub(crate) const fn power_losses(mut self, total: u8) -> Self {
        self.power_losses = total;
        self
    }
}

/// Which records a sweeper deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SweepRule {
    /// `rec-<p>-*` with `p` below the generation seen, except the one that `cur` named then.
    PreviousGeneration,
    /// Broken: whatever the current record does not refer to.
    Unreferenced,
}

/// When a process whose rename returned an error removes the record it had prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithdrawRule {
    /// Only after the source of the rename is seen to be gone: then it can never execute.
    SourceGone,
    /// Broken where a server may execute a request late: whenever the rename seems not to have
    /// happened.
    NotWon,
}

/// Which generation a transition makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FenceRule {
    /// `max(gen + 1, clock read after the current record)`.
    ClockFloor,
    /// `gen + 1`.
    Successor,
}

/// What a renewal does when its heart-beat file is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RenewRule {
    /// The file is written in place through its open descriptor; gone means lost.
    InPlace,
    /// Broken: the name is created again.
    Recreate,
}

/// Which token a new attempt after a failed one carries, and from when its lease counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryRule {
    /// A fresh token once the register has moved on; while it has not, the same token with the
    /// lease still counted from the first send.
    FreshToken,
    /// Broken: the same token, each time with a lease counted from the newest send.
    SameToken,
}

/// How an idle lock's directory goes away and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PruneRule {
    /// The dead mark is final: whoever sees it finishes the removal and makes a new directory.
    Final,
    /// The dead mark is a step like any other, from which the next acquisition moves on. A
    /// directory is published dead, and removed only by taking the very mark away that was seen
    /// before a burial was announced to whoever is about to publish.
    Revivable,
}

/// The rules the processes follow. [`Rules::baton`] is the protocol, each other is a control.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) sweep: SweepRule,
    pub(crate) withdraw: WithdrawRule,
    pub(crate) fence: FenceRule,
    pub(crate) renew: RenewRule,
    pub(crate) retry: RetryRule,
    /// `fsync` of the directory before a transition is reported.
    pub(crate) durable: bool,
    pub(crate) prune: PruneRule,
    /// Creators ask whether there was a burial since they found no directory.
    pub(crate) counts_burials: bool,
    /// Where dead locks revive, `FORMAT` is removed before the mark that may be moved on.
    pub(crate) format_first: bool,
    /// Whoever revives a dead lock says again what kind of directory it is; not if it dies before.
    pub(crate) format_returns: bool,
    /// A pruner works through its directory handle, not through the path.
    pub(crate) prune_by_handle: bool,
    /// A directory with neither `cur` nor `FORMAT` counts as pruned.
    pub(crate) remnant_is_pruned: bool,
}

impl Rules {
    pub(crate) const fn baton() -> Self {
        Self {
            sweep: SweepRule::PreviousGeneration,
            withdraw: WithdrawRule::SourceGone,
            fence: FenceRule::ClockFloor,
            renew: RenewRule::InPlace,
            retry: RetryRule::FreshToken,
            durable: false,
            prune: PruneRule::Final,
            counts_burials: true,
            format_first: true,
            format_returns: true,
            prune_by_handle: true,
            remnant_is_pruned: true,
        }
    }
}

/// How finely time is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Every call is a step of its own.
    EveryCall,
    /// Calls that neither see nor change anything that others care about go with the one before:
    /// see `model` for the calls and the reasons. For more processes than every call allows.
    VisibleCalls,
    /// Only load and rename: the register without the files around it.
    Register,
}

/// One configuration of the model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Baton {
    pub(crate) bounds: Bounds,
    pub(crate) rules: Rules,
    pub(crate) detail: Detail,
    /// A rename whose caller got an error may still be executed by the server, once, later.
    pub(crate) late_renames: bool,
    /// A process may go on with a version it listed for an earlier attempt, and see the directory
    /// as it was before the attempt when it checks what became of a rename.
    pub(crate) old_listings: bool,
    /// Holders renew: write in place, then read the register again.
    pub(crate) renewals: bool,
    /// The directory is there from the start; otherwise the processes create it.
    pub(crate) starts_created: bool,
}

impl Baton {
    pub(crate) const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            rules: Rules::baton(),
            detail: Detail::EveryCall,
            late_renames: false,
            old_listings: false,
            renewals: false,
            starts_created: true,
        }
    }

    pub(crate) fn revives(&self) -> bool {
        self.rules.prune == PruneRule::Revivable
    }

    pub(crate) const fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    pub(crate) const fn detail(mut self, detail: Detail) -> Self {
        self.detail = detail;
        self
    }

    pub(crate) fn has_files(&self) -> bool {
        self.detail != Detail::Register
    }

    pub(crate) const fn late_renames(mut self) -> Self {
        self.late_renames = true;
        self
    }

    pub(crate) const fn old_listings(mut self) -> Self {
        self.old_listings = true;
        self
    }

    pub(crate) const fn renewals(mut self) -> Self {
        self.renewals = true;
        self
    }

    pub(crate) const fn starts_empty(mut self) -> Self {
        self.starts_created = false;
        self
    }
}
