//! What clients ask of a lock, and the rules that answer: the machine itself, or a broken one.

use std::time::Duration;

use tenure_core::backend::{
    Change, Claim, Departure, Evicted, Eviction, Kept, Reason, Release, Value, Verdict,
};
use tenure_core::machine::{Cell, Effects, Lasting, Now, Turn};
use tenure_core::{ClaimId, Details, Fence, LockName, MemberId, Owner, Priority, Seats, Token};

/// One step of the model's time. Two and three of them lie on either side of a point of priority
/// (30 s), none on it, so that no two waiters ever have the same order key.
pub(crate) const STEP: Duration = Duration::from_secs(20);
pub(crate) const TTL: Duration = Duration::from_secs(40);
pub(crate) const LONG_TTL: Duration = Duration::from_secs(60);
pub(crate) const PICK_UP: Duration = STEP;
pub(crate) const WAIT_TTL: Duration = Duration::from_secs(40);
pub(crate) const KEEP: Duration = Duration::from_secs(40);
pub(crate) const TOMBSTONE: Duration = Duration::from_secs(600);

/// One claim of one client; its token is made of it.
pub(crate) type Slot = u8;

/// One of two permits.
pub(crate) const SHARE: Seats = Seats::Some { take: 1, of: 2 };
/// One of three permits: does not go together with [`SHARE`].
pub(crate) const OTHER_SHARE: Seats = Seats::Some { take: 1, of: 3 };

/// What a client may wish for when it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) seats: Seats,
    pub(crate) wait: bool,
    pub(crate) priority: i32,
    pub(crate) or_value: bool,
    pub(crate) force: bool,
}

impl Wish {
    pub(crate) const fn waiting(seats: Seats) -> Self {
        Self { seats, wait: true, priority: 0, or_value: false, force: false }
    }

    pub(crate) const fn trying(seats: Seats) -> Self {
        Self { wait: false, ..Self::waiting(seats) }
    }

    pub(crate) const fn urgent(self) -> Self {
        Self { priority: 1, ..self }
    }

    pub(crate) const fn or_value(self) -> Self {
        Self { or_value: true, ..self }
    }

    pub(crate) const fn forced(self) -> Self {
        Self { force: true, ..self }
    }
}

/// A message to the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Request {
    /// Nothing: somebody looks, and the turn ends what is over.
    Look,
    Acquire {
        who: Slot,
        wish: u8,
    },
    Withdraw {
        who: Slot,
    },
    /// The first or second upgrade of a claim; each has an id of its own.
    Upgrade {
        who: Slot,
        nth: u8,
    },
    WithdrawUpgrade {
        who: Slot,
        nth: u8,
    },
    Renew {
        who: Slot,
    },
    PickUp {
        who: Slot,
        fence: u64,
    },
    Extend {
        who: Slot,
    },
    Downgrade {
        who: Slot,
        fence: u64,
    },
    Release {
        who: Slot,
        value: bool,
    },
    Put {
        who: Slot,
    },
    Evict {
        only_if: Option<u64>,
    },
}

impl Request {
    /// The claim that it is about.
    pub(crate) fn who(self) -> Option<Slot> {
        match self {
            Request::Look | Request::Evict { .. } => None,
            Request::Acquire { who, .. }
            | Request::Withdraw { who }
            | Request::Upgrade { who, .. }
            | Request::WithdrawUpgrade { who, .. }
            | Request::Renew { who }
            | Request::PickUp { who, .. }
            | Request::Extend { who }
            | Request::Downgrade { who, .. }
            | Request::Release { who, .. }
            | Request::Put { who } => Some(who),
        }
    }
}

/// The store's answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Nothing,
    Verdict(Verdict),
    Renewal(Result<Kept, Departure>),
    Change(Change),
    Release(Release),
    Evicted(Evicted),
}

/// Everything that is the same in all states, made once.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: LockName,
    pub(crate) members: Vec<MemberId>,
    pub(crate) wishes: Vec<Wish>,
    claims: Vec<Vec<Claim>>,
    upgrades: Vec<[Claim; 2]>,
}

impl Table {
    pub(crate) fn new(slots: u8, wishes: Vec<Wish>) -> Self {
        let name = LockName::new("model").expect("a valid name");
        let mut owner = Owner::labelled("model").expect("a valid label");
        // The same in every run, so that counts of states are, too.
        owner.host = "model".into();
        owner.pid = 1;
        let details = std::sync::Arc::new(Details::of(owner));
        let claim = |slot: u8| {
            let token = Token::from_bytes([slot + 1; 16]);
            let mut claim = Claim::new(name.clone(), token, TTL, details.clone());
            claim.wait_ttl = WAIT_TTL;
            claim.pick_up = PICK_UP;
            claim
        };
        let wished = |slot: u8, wish: &Wish| {
            let mut claim = claim(slot);
            claim.seats = wish.seats;
            claim.wait = wish.wait;
            claim.priority = Priority::new(wish.priority).expect("a small priority");
            claim.or_value = wish.or_value;
            claim.force = wish.force.then(|| "model".into());
            claim
        };
        let upgrade = |slot: u8, nth: u128| {
            let mut claim = claim(slot);
            claim.id = ClaimId::new(100 * (nth + 1) + u128::from(slot));
            claim.upgrade = true;
            claim.wait = true;
            claim
        };
        Self {
            members: (0..slots).map(|s| claim(s).member).collect(),
            claims: (0..slots).map(|s| wishes.iter().map(|w| wished(s, w)).collect()).collect(),
            upgrades: (0..slots).map(|s| [upgrade(s, 0), upgrade(s, 1)]).collect(),
            name,
            wishes,
        }
    }

    pub(crate) fn member(&self, slot: Slot) -> MemberId {
        self.members[usize::from(slot)]
    }

    pub(crate) fn slot(&self, member: MemberId) -> Slot {
        let at = self.members.iter().position(|m| *m == member);
        u8::try_from(at.expect("a member of the model")).expect("few slots")
    }

    pub(crate) fn claim(&self, slot: Slot, wish: u8) -> &Claim {
        &self.claims[usize::from(slot)][usize::from(wish)]
    }

    pub(crate) fn upgrade(&self, slot: Slot, nth: u8) -> &Claim {
        &self.upgrades[usize::from(slot)][usize::from(nth)]
    }
}

/// Takes one turn for one request.
pub(crate) type Rules = fn(&Table, &mut Cell, Now<'_>, Request) -> (Reply, Effects);

/// The rules under test.
pub(crate) fn the_machine(
    table: &Table,
    cell: &mut Cell,
    now: Now<'_>,
    request: Request,
) -> (Reply, Effects) {
    let mut turn = Turn::begin(cell, now, Fence::ZERO);
    let reply = ask(&mut turn, table, request);
    (reply, turn.end())
}

/// The reason that every eviction of the model gives.
pub(crate) fn reason() -> Reason {
    Reason { by: "operator".into(), why: "model".into() }
}

/// The value that `who` writes.
pub(crate) fn value_of(who: Slot) -> Value {
    Value { bytes: std::sync::Arc::new([who]), keep: KEEP }
}

fn ask(turn: &mut Turn<'_>, table: &Table, request: Request) -> Reply {
    match request {
        Request::Look => Reply::Nothing,
        Request::Acquire { who, wish } => Reply::Verdict(turn.acquire(table.claim(who, wish))),
        Request::Upgrade { who, nth } => Reply::Verdict(turn.acquire(table.upgrade(who, nth))),
        Request::Withdraw { who } => {
            turn.withdraw(table.member(who).claim(), table.member(who), TOMBSTONE);
            Reply::Nothing
        }
        Request::WithdrawUpgrade { who, nth } => {
            turn.withdraw(table.upgrade(who, nth).id, table.member(who), TOMBSTONE);
            Reply::Nothing
        }
        Request::Renew { who } => Reply::Renewal(turn.renew(table.member(who), None)),
        Request::PickUp { who, fence } => {
            Reply::Renewal(turn.pick_up(table.member(who), Fence::new(fence)))
        }
        Request::Extend { who } => {
            let change = Lasting { ttl: LONG_TTL, detached: false };
            Reply::Renewal(turn.renew(table.member(who), Some(change)))
        }
        Request::Downgrade { who, fence } => {
            Reply::Change(turn.downgrade(table.member(who), Fence::new(fence), SHARE))
        }
        Request::Release { who, value } => {
            let value = value.then(|| value_of(who));
            Reply::Release(turn.release(table.member(who), value.as_ref()))
        }
        Request::Put { who } => Reply::Change(turn.put(table.member(who), &value_of(who))),
        Request::Evict { only_if } => Reply::Evicted(turn.evict(&Eviction {
            only_if: only_if.map(Fence::new),
            stolen: false,
            reason: reason(),
        })),
    }
}
