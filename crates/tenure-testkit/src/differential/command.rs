//! What is asked.

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use tenure_core::backend::{Claim, Eviction, LeaseRef, Member, Reason, Value};
use tenure_core::{ClaimId, Details, Fence, LockName, Owner, Priority, Seats, Token};

/// How many claimants there are. Few, so that they meet; each uses several tokens in turn.
pub(super) const CLAIMANTS: usize = 5;
/// The tokens that a claimant uses, one after the other.
pub(super) const LIVES: usize = 2;
pub(super) const NAMES: usize = 2;

/// Whose token: claimant and life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Who {
    pub(super) claimant: usize,
    pub(super) life: usize,
}

/// What a claim wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wants {
    pub(super) seats: Seats,
    pub(super) wait: bool,
    pub(super) or_value: bool,
    pub(super) priority: i32,
    pub(super) force: bool,
    pub(super) detached: bool,
    pub(super) long: bool,
}

/// One thing to ask of a store, of one of the names.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Command {
    /// A claim of this token.
    Acquire(usize, Who, Wants),
    /// The claim of this token again, as it was first sent, or plain if it never was.
    Again(usize, Who),
    /// The holder's wish for all seats; one of two ids, so that upgrades follow upgrades.
    Upgrade(usize, Who, bool, bool),
    /// Gives the claim of this token up.
    Withdraw(usize, Who),
    /// Gives an upgrade up.
    WithdrawUpgrade(usize, Who, bool),
    /// Signs of life, of several at once.
    Renew(usize, Vec<Who>),
    /// A sign of life that changes the ttl.
    Change(usize, Who, bool),
    /// Some seats instead of all.
    Downgrade(usize, Who, Seats),
    /// Gives the seats back, with a value or without.
    Release(usize, Who, Option<u8>),
    /// Writes a value.
    Put(usize, Who, u8),
    /// Ends the n-th holder, or all.
    Evict(usize, Option<usize>),
    /// Ends the holder with a fence that nobody has.
    EvictStranger(usize),
    /// Looks.
    Inspect(usize),
    /// Lets time pass.
    Pass(Duration),
}

impl Command {
    /// The name that it is about.
    pub(super) fn name(&self) -> usize {
        match self {
            Command::Acquire(n, ..)
            | Command::Again(n, _)
            | Command::Upgrade(n, ..)
            | Command::Withdraw(n, _)
            | Command::WithdrawUpgrade(n, ..)
            | Command::Renew(n, _)
            | Command::Change(n, ..)
            | Command::Downgrade(n, ..)
            | Command::Release(n, ..)
            | Command::Put(n, ..)
            | Command::Evict(n, _)
            | Command::EvictStranger(n)
            | Command::Inspect(n) => *n,
            Command::Pass(_) => 0,
        }
    }
}

fn who() -> impl Strategy<Value = Who> {
    (0..CLAIMANTS, 0..LIVES).prop_map(|(claimant, life)| Who { claimant, life })
}

fn seats() -> impl Strategy<Value = Seats> {
    prop_oneof![
        3 => Just(Seats::All),
        5 => Just(Seats::SHARED),
        2 => (1..=3_u32).prop_map(|take| Seats::Some { take, of: 3 }),
    ]
}

fn wants() -> impl Strategy<Value = Wants> {
    let rarely = || prop_oneof![9 => Just(false), 1 => Just(true)];
    let priority = prop_oneof![4 => Just(0), 1 => -2..3];
    (seats(), any::<bool>(), rarely(), priority, rarely(), rarely(), any::<bool>()).prop_map(
        |(seats, wait, or_value, priority, force, detached, long)| Wants {
            seats,
            wait,
            or_value,
            priority,
            force,
            detached,
            long,
        },
    )
}

/// Sequences of up to 60 commands.
pub fn commands() -> impl Strategy<Value = Vec<Command>> {
    let name = || prop_oneof![5 => Just(0_usize), 1 => Just(1)];
    let some = || seats().prop_filter_map("all", |s| (!s.is_all()).then_some(s));
    // Never a multiple of a ttl or of what a point of priority is worth: a store in real time is
    // a few milliseconds late.
    let times = prop_oneof![Just(3_u64), Just(7), Just(11), Just(31)];
    let command = prop_oneof![
        12 => (name(), who(), wants()).prop_map(|(n, w, c)| Command::Acquire(n, w, c)),
        4 => (name(), who()).prop_map(|(n, w)| Command::Again(n, w)),
        8 => (name(), who(), any::<bool>(), prop_oneof![1 => Just(false), 4 => Just(true)])
            .prop_map(|(n, w, id, wait)| Command::Upgrade(n, w, id, wait)),
        3 => (name(), who()).prop_map(|(n, w)| Command::Withdraw(n, w)),
        2 => (name(), who(), any::<bool>()).prop_map(|(n, w, id)| Command::WithdrawUpgrade(n, w, id)),
        3 => (name(), vec(who(), 1..4)).prop_map(|(n, w)| Command::Renew(n, w)),
        1 => (name(), who(), any::<bool>()).prop_map(|(n, w, long)| Command::Change(n, w, long)),
        2 => (name(), who(), some()).prop_map(|(n, w, s)| Command::Downgrade(n, w, s)),
        8 => (name(), who(), prop_oneof![3 => Just(None), 1 => any::<u8>().prop_map(Some)])
            .prop_map(|(n, w, v)| Command::Release(n, w, v)),
        2 => (name(), who(), any::<u8>()).prop_map(|(n, w, v)| Command::Put(n, w, v)),
        2 => (name(), prop_oneof![3 => (0..3_usize).prop_map(Some), 1 => Just(None)])
            .prop_map(|(n, holder)| Command::Evict(n, holder)),
        1 => name().prop_map(Command::EvictStranger),
        4 => name().prop_map(Command::Inspect),
        3 => times.prop_map(|s| Command::Pass(Duration::from_secs(s))),
    ];
    vec(command, 1..60)
}

/// The names and tokens that a sequence is played with, new for each.
#[derive(Debug)]
pub(super) struct Cast {
    names: Vec<LockName>,
    tokens: Vec<Token>,
    upgrades: Vec<ClaimId>,
    details: Arc<Details>,
}

/// The ttl of short-lived leases.
const SHORT: Duration = Duration::from_secs(10);
/// The ttl of long-lived leases.
const LONG: Duration = Duration::from_secs(120);

impl Cast {
    pub(super) fn new() -> Self {
        let run: u64 = rand::random();
        let name = |n| LockName::new(format!("differential/{run:016x}/{n}")).expect("a valid name");
        Self {
            names: (0..NAMES).map(name).collect(),
            tokens: (0..CLAIMANTS * LIVES).map(|_| Token::random()).collect(),
            upgrades: (0..CLAIMANTS * LIVES * 2).map(|_| ClaimId::random()).collect(),
            details: Arc::new(Details::of(Owner::this_process())),
        }
    }

    pub(super) fn name(&self, n: usize) -> &LockName {
        &self.names[n]
    }

    pub(super) fn token(&self, who: Who) -> &Token {
        &self.tokens[who.claimant * LIVES + who.life]
    }

    pub(super) fn claim(&self, n: usize, who: Who, wants: Wants) -> Claim {
        let ttl = if wants.long { LONG } else { SHORT };
        let name = self.name(n).clone();
        let mut claim = Claim::new(name, self.token(who).clone(), ttl, self.details.clone());
        claim.seats = wants.seats;
        claim.wait = wants.wait;
        claim.or_value = wants.or_value;
        claim.priority = Priority::new(wants.priority).expect("within range");
        claim.force = wants.force.then(|| "because".into());
        claim.detached = wants.detached;
        claim
    }

    pub(super) fn upgrade(&self, n: usize, who: Who, id: bool, wait: bool) -> Claim {
        let plain = Wants {
            seats: Seats::All,
            wait,
            or_value: false,
            priority: 0,
            force: false,
            detached: false,
            long: true,
        };
        let mut claim = self.claim(n, who, plain);
        claim.upgrade = true;
        claim.id = self.upgrades[(who.claimant * LIVES + who.life) * 2 + usize::from(id)];
        claim
    }

    pub(super) fn plain(&self, n: usize, who: Who) -> Claim {
        Claim::new(self.name(n).clone(), self.token(who).clone(), SHORT, self.details.clone())
    }

    pub(super) fn member(&self, n: usize, who: Who, fence: Option<Fence>) -> Member {
        Member::new(self.name(n).clone(), self.token(who).clone(), SHORT, fence)
    }

    pub(super) fn change(&self, n: usize, who: Who, fence: Option<Fence>, long: bool) -> Member {
        self.member(n, who, fence).changed(if long { LONG } else { SHORT }, false)
    }

    pub(super) fn lease(&self, n: usize, who: Who, fence: Fence) -> LeaseRef {
        LeaseRef::new(self.name(n).clone(), self.token(who).clone(), fence)
    }
}

pub(super) fn value(byte: u8) -> Value {
    Value { bytes: vec![byte].into(), keep: LONG }
}

pub(super) fn eviction(only_if: Option<Fence>) -> Eviction {
    let reason = Reason::new("somebody".into(), "a random command").expect("a valid reason");
    Eviction { only_if, stolen: false, reason }
}
