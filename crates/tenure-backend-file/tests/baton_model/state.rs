//! What there is: one directory, some processes, and what only the observer of the model knows.

/// A generation. Only order and equality matter.
pub(crate) type Gen = u8;

/// A name that nobody else makes: the process that drew it, and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tok {
    pub(crate) owner: u8,
    pub(crate) number: u8,
}

/// The name `cur-<gen>-<tok>`: one version of the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version {
    pub(crate) generation: Gen,
    pub(crate) tok: Tok,
}

/// The file `rec-<prevgen>-<tok>`, immutable once written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Record {
    pub(crate) prev: Gen,
    pub(crate) tok: Tok,
    pub(crate) prev_tok: Option<Tok>,
    pub(crate) holder: Option<Tok>,
}

/// A name a sweeper has on its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Name {
    Record { prev: Gen, tok: Tok },
    Heartbeat(Tok),
}

/// The directory at the path of the lock. Vectors are sorted, so that equal directories are equal.
///
/// There is never need for a second one: a directory leaves the path only when it is empty
/// (`rmdir`, or replaced by a rename, which demands the same), and then every call through an old
/// handle fails. Processes that hold such a handle have `handle == false`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Dir {
    pub(crate) format: bool,
    /// The name `dead-<gen>-<tok>`.
    pub(crate) dead: Option<Version>,
    pub(crate) cur: Vec<Version>,
    pub(crate) records: Vec<Record>,
    pub(crate) heartbeats: Vec<Tok>,
}

impl Dir {
    /// A free lock, as its creator publishes it.
    pub(crate) fn fresh(generation: Gen, tok: Tok) -> Self {
        Self {
            format: true,
            dead: None,
            cur: vec![Version { generation, tok }],
            records: vec![Record { prev: 0, tok, prev_tok: None, holder: None }],
            heartbeats: Vec::new(),
        }
    }

    /// A lock that nobody has stepped on yet, as its creator publishes it where dead ones revive.
    pub(crate) fn stillborn(version: Version) -> Self {
        Self { format: true, dead: Some(version), ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.format
            && self.dead.is_none()
            && self.cur.is_empty()
            && self.records.is_empty()
            && self.heartbeats.is_empty()
    }

    pub(crate) fn newest(&self) -> Option<Version> {
        self.cur.last().copied()
    }

    pub(crate) fn record(&self, tok: Tok) -> Option<Record> {
        self.records.iter().copied().find(|record| record.tok == tok)
    }

    /// The record that `cur` names.
    pub(crate) fn current(&self) -> Option<Record> {
        self.newest().and_then(|version| self.record(version.tok))
    }

    pub(crate) fn has_heartbeat(&self, tok: Tok) -> bool {
        self.heartbeats.contains(&tok)
    }

    /// `open(O_CREAT | O_EXCL)`; a record of that name can only be one's own.
    pub(crate) fn create_record(&mut self, record: Record) {
        let taken =
            self.records.iter().any(|have| have.prev == record.prev && have.tok == record.tok);
        if !taken {
            self.records.push(record);
            self.records.sort_unstable();
        }
    }

    pub(crate) fn create_heartbeat(&mut self, tok: Tok) {
        if !self.has_heartbeat(tok) {
            self.heartbeats.push(tok);
            self.heartbeats.sort_unstable();
        }
    }
}

/// What a process is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Job {
    None,
    Acquire,
    Release,
    Prune,
}

/// The next call a process will make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Pc {
    Idle,
    Open,
    /// Read the clock, build the temporary directory.
    Build,
    /// Rename it to the path.
    Publish {
        generation: Gen,
        tok: Tok,
    },
    /// `statx`, list, take the newest `cur`.
    List,
    /// Read the record of the version listed.
    Read,
    /// Somebody holds the lock: watch the heart-beat, or look again.
    Watch(Tok),
    /// Read the own clock, then create or touch the own heart-beat.
    Touch,
    CreateRecord,
    Rename,
    /// The rename returned an error: list again, revalidated.
    Recheck,
    RecheckRead(Version),
    /// Not won: remove the own record (and heart-beat, for a new token).
    Withdraw,
    /// Won and told so.
    Won,
    /// Won, though the rename returned an error.
    Resolved,
    Sync,
    SweepList,
    Sweep,
    Held,
    /// The renewal has read the clock and will write.
    Beat,
    /// It has written and will read the register.
    BeatRead,
    /// Remove the own heart-beat; the job is done.
    Drop,
    PruneRename,
    PruneRecheck,
    CleanFiles,
    CleanFormat,
    CleanDead,
    RemoveDir,
    /// Read the mark of the last burial before relying on there being no directory.
    CountBurials {
        seen: bool,
    },
    /// The directory is published: was another one buried since the count?
    CheckBurials {
        generation: Gen,
        tok: Tok,
    },
    /// Something is in the way of the directory to publish.
    ClearRemains {
        generation: Gen,
    },
    RemoveRemains {
        generation: Gen,
    },
    Bury,
    LookBare,
    MarkBurial,
}

/// A transition under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attempt {
    pub(crate) from: Version,
    pub(crate) to: Version,
    pub(crate) holder: Option<Tok>,
    /// The holder it means to remove: its own claim in a release, the evicted one in a take-over.
    pub(crate) removes: Option<Tok>,
}

/// One process and its memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Proc {
    pub(crate) pc: Pc,
    pub(crate) job: Job,
    pub(crate) acquisitions: u8,
    pub(crate) crashes: u8,
    /// Whether the open directory is the one at the path.
    pub(crate) handle: bool,
    /// The token it tries to get admitted, or holds the lock with.
    pub(crate) claim: Option<Tok>,
    /// The token of its release.
    pub(crate) releasing: Option<Tok>,
    /// The claim's own deadline has passed. Final: nothing but a new claim resets it.
    pub(crate) lapsed: bool,
    /// A rename of this claim got an error and may yet have effect.
    pub(crate) unsure: bool,
    /// The user has the guard.
    pub(crate) held: bool,
    pub(crate) view: Option<Version>,
    pub(crate) evicts: Option<Tok>,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) sweep: Vec<Name>,
    /// A rename given up by its caller that the server may still execute.
    pub(crate) late: Option<Attempt>,
    /// It has read the mark of the last burial.
    pub(crate) counted: bool,
    /// The generation it chose for the first step in the directory it made.
    pub(crate) first: Option<Gen>,
    /// The mark has changed since.
    pub(crate) buried: bool,
    /// Ghost: the rename of the attempt was executed.
    pub(crate) committed: bool,
    /// Ghost: another process removed the heart-beat of the claim.
    pub(crate) swept: bool,
}

impl Proc {
    pub(crate) fn new(acquisitions: u8, crashes: u8) -> Self {
        Self {
            pc: Pc::Idle,
            job: Job::None,
            acquisitions,
            crashes,
            handle: false,
            claim: None,
            releasing: None,
            lapsed: false,
            unsure: false,
            held: false,
            view: None,
            evicts: None,
            attempt: None,
            sweep: Vec::new(),
            late: None,
            counted: false,
            first: None,
            buried: false,
            committed: false,
            swept: false,
        }
    }

    /// Forgets everything but what its bounds and the server remember.
    pub(crate) fn forget(&mut self) {
        *self = Self { late: self.late, ..Self::new(self.acquisitions, self.crashes) };
    }

    /// A guard the user may rely on now.
    pub(crate) fn is_valid(&self) -> bool {
        self.held && !self.lapsed
    }

    /// The token its present job puts into the name of the transition.
    pub(crate) fn transition_tok(&self) -> Option<Tok> {
        match self.job {
            Job::Acquire => self.claim,
            Job::Release => self.releasing,
            Job::None | Job::Prune => None,
        }
    }
}

/// Something that must not happen, recorded in the step that did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// A grant did not get a higher fence than every earlier one.
    FenceNotRising,
    /// A sweeper, a pruner or a withdrawal removed the record that `cur` names.
    LiveRecordRemoved,
    /// A transition removed another grant than the one it meant to.
    ForeignRemoval,
    /// A transition was reported that had not happened.
    FalseReport,
}

/// The whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) dir: Option<Dir>,
    /// What a loss of power leaves, where the run has any.
    pub(crate) on_disk: Option<Dir>,
    pub(crate) procs: Vec<Proc>,
    pub(crate) prunes: u8,
    pub(crate) power_losses: u8,
    /// Ghost: the highest generation ever made. The wall clock is past it.
    pub(crate) highest: Gen,
    /// Ghost: the highest fence granted.
    pub(crate) granted: Gen,
    /// Ghost: the highest fence a user was told.
    pub(crate) reported: Gen,
    pub(crate) fault: Option<Fault>,
}

impl State {
    /// Whether an observer may get to the point of evicting `tok`: its heart-beat stands still
    /// for a ttl, or the kernel proves its process dead.
    ///
    /// The first implies that the deadline of its holder has passed; the model in `heartbeat`
    /// derives that with time in it, so here the deadline itself is the condition. A token that
    /// its owner no longer pursues belongs to a dead process or to a claim given up.
    pub(crate) fn is_evictable(&self, tok: Tok) -> bool {
        let owner = &self.procs[usize::from(tok.owner)];
        owner.claim != Some(tok) || owner.lapsed
    }

    pub(crate) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// The directory as seen through the handle of a process.
    pub(crate) fn opened(&self, p: usize) -> Option<&Dir> {
        if !self.procs[p].handle {
            return None;
        }
        self.dir.as_ref()
    }

    pub(crate) fn opened_mut(&mut self, p: usize) -> Option<&mut Dir> {
        if !self.procs[p].handle {
            return None;
        }
        self.dir.as_mut()
    }

    /// Takes the directory off the path: handles to it are worthless from now on.
    pub(crate) fn detach(&mut self) {
        self.dir = None;
        for proc in &mut self.procs {
            proc.handle = false;
        }
    }

    /// A token nobody has ever seen: one that nobody can see any more will do.
    pub(crate) fn draw(&self, p: usize) -> Tok {
        let owner = u8::try_from(p).expect("a handful of processes");
        let used = super::canonical::used_numbers(self, owner);
        let number = u8::try_from(used.trailing_ones()).expect("fewer than 32 tokens");
        Tok { owner, number }
    }
}
