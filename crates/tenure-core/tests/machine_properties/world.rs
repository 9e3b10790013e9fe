//! A lock, its clients, and what is checked of every turn.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tenure_core::backend::{
    Change, Claim, Departure, Evicted, Eviction, Kept, Reason, Refusal, Release, Value, Verdict,
};
use tenure_core::machine::{Cell, Effects, Lasting, Now, Turn};
use tenure_core::{
    ClaimId, Details, Fence, HolderView, LockName, MemberId, Micros, Owner, Priority, Seats, Token,
};

use super::commands::{CLIENTS, Command, Start, Wish};
use super::holds::{list_of, rules_hold};

pub(crate) const KEEP: Duration = Duration::from_secs(600);

/// One of the test's clients; every claim has a token of its own.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) claim: Claim,
    upgrade: Claim,
    asked: bool,
}

/// A lock and its clients.
pub(crate) struct World {
    pub(crate) name: LockName,
    pub(crate) cell: Cell,
    pub(crate) clients: Vec<Client>,
    tokens: u128,
    pub(crate) now: Micros,
    floor: Fence,
    observed: bool,
    /// Tombstones that have to be there still.
    withdrawn: Vec<(ClaimId, Micros)>,
}

impl World {
    pub(crate) fn new(start: Start) -> Self {
        let mut world = Self {
            name: LockName::new("properties").unwrap(),
            cell: Cell::default(),
            clients: Vec::new(),
            tokens: 0,
            now: Micros(start.time),
            floor: Fence::new(start.fence),
            observed: start.observed,
            withdrawn: Vec::new(),
        };
        for _ in 0..CLIENTS {
            let client = world.client();
            world.clients.push(client);
        }
        world
    }

    fn client(&mut self) -> Client {
        self.tokens += 1;
        let token = Token::from_bytes(self.tokens.to_be_bytes());
        let details = Arc::new(Details::of(Owner::labelled("client").unwrap()));
        let claim = Claim::new(self.name.clone(), token, Duration::from_secs(30), details);
        let mut upgrade = claim.clone();
        upgrade.id = ClaimId::new(self.tokens);
        upgrade.upgrade = true;
        Client { claim, upgrade, asked: false }
    }

    /// Takes one turn and checks what holds of all turns.
    fn turn<T>(&mut self, dead: &[MemberId], verb: impl Fn(&mut Turn<'_>) -> T) -> (T, Effects) {
        let before = self.cell.clone();
        let now = match self.observed {
            true => Now::Observed { wall: self.now, dead },
            false => Now::Store(self.now),
        };
        let mut turn = Turn::begin(&mut self.cell, now, self.floor);
        let answer = verb(&mut turn);
        let effects = turn.end();
        assert!(effects.changed || before == self.cell, "a change that would not be stored");
        assert!(before.fence() <= self.cell.fence(), "the fence went back");
        let view = self.cell.view(self.name.clone(), self.now);
        let old = before.view(self.name.clone(), self.now);
        for holder in &view.holders {
            let same = |h: &HolderView| h.member == holder.member && h.fence == holder.fence;
            let granted = !old.holders.iter().any(same);
            let fresh = before.fence() < holder.fence && self.floor <= holder.fence;
            assert!(!granted || fresh, "a grant with an old fence");
            let waited = before.waiter_ids().any(|m| m == holder.member);
            let upgraded = old.holders.iter().any(|h| h.member == holder.member);
            let named =
                effects.granted.iter().any(|(m, g)| *m == holder.member && g.fence == holder.fence);
            let asked = self.clients.iter().any(|c| c.asked && c.claim.member == holder.member);
            assert!(!granted || named || waited || upgraded || asked, "a grant out of nothing");
        }
        for (member, grant) in &effects.granted {
            let ended = effects.gone.iter().any(|(m, _)| m == member);
            let holds = view.holders.iter().any(|h| h.member == *member && h.fence == grant.fence);
            assert!(holds || ended || !self.cell.has(*member), "told of a grant that is none");
        }
        for (member, _) in &effects.gone {
            assert!(!self.cell.holder_ids().any(|m| m == *member), "told to be gone and is there");
        }
        self.check();
        // At the end of time a lease is over as soon as it is granted.
        if self.now < Micros(u64::MAX) {
            self.nothing_is_left_to_do(dead);
        }
        (answer, effects)
    }

    /// A store that repeats a turn, because the answer to the first was lost, finds nothing to hand on.
    fn nothing_is_left_to_do(&self, dead: &[MemberId]) {
        let now = match self.observed {
            true => Now::Observed { wall: self.now, dead },
            false => Now::Store(self.now),
        };
        let mut again = self.cell.clone();
        let effects = Turn::begin(&mut again, now, self.floor).end();
        assert_eq!(effects, Effects::default(), "the turn left something to do");
    }

    fn check(&self) {
        rules_hold(&self.cell);
        let json = serde_json::to_value(&self.cell).unwrap();
        for (claim, until) in &self.withdrawn {
            let there = |list: &str| list_of(&json, list).any(|m| m["claim"] == json!(claim));
            assert!(
                *until <= self.now || !there("holders") && !there("queue"),
                "withdrawn, but there"
            );
        }
        if Fence::MAX < self.cell.fence() {
            assert!(self.cell.encode(&self.name).is_err(), "nobody could read that back");
            return;
        }
        let record = self.cell.encode(&self.name).expect("a reached cell is a good record");
        let (name, cell) = Cell::decode(&record).expect("what was written is read");
        assert_eq!((name, cell), (self.name.clone(), self.cell.clone()));
    }

    pub(crate) fn run(&mut self, command: &Command) {
        match command {
            Command::Acquire { who, wish } => self.acquire(*who, wish),
            Command::Again { who } => self.ask(*who),
            Command::Withdraw { who } => {
                let claim = self.clients[*who].claim.clone();
                self.turn(&[], |turn| turn.withdraw(claim.id, claim.member, KEEP));
                self.withdrawn.push((claim.id, self.now.plus(KEEP)));
                assert!(!self.cell.has(claim.member), "withdrawn, but there");
                if self.now < self.now.plus(KEEP) {
                    let (late, _) = self.turn(&[], |turn| turn.acquire(&claim));
                    assert!(matches!(late, Verdict::Refused(Refusal::Withdrawn)), "{late:?}");
                }
            }
            Command::Upgrade { who, wait } => self.upgrade(*who, *wait),
            Command::WithdrawUpgrade { who } => self.withdraw_upgrade(*who),
            Command::Renew { who } => self.renew(*who, None),
            Command::Change { who, ttl, detached } => {
                self.renew(*who, Some(Lasting { ttl: *ttl, detached: *detached }));
            }
            Command::Downgrade { who, seats, late } => self.downgrade(*who, *seats, *late),
            Command::Release { who, value } => self.release(*who, *value),
            Command::Put { who, value } => self.put(*who, *value),
            Command::Evict { whom, right } => self.evict(*whom, *right),
            Command::Die { who } => {
                let dead: Vec<MemberId> =
                    who.iter().map(|w| self.clients[*w].claim.member).collect();
                self.turn(&dead, |_| ());
                if self.observed {
                    assert!(self.cell.holder_ids().all(|m| !dead.contains(&m)), "dead, but there");
                }
            }
            Command::Pass { time } => {
                self.now = self.now.plus(*time);
                self.turn(&[], |_| ());
            }
            Command::Floor { fence } => {
                let raised = self.floor.get().saturating_add(*fence).min(Fence::MAX.get());
                self.floor = Fence::new(raised);
            }
        }
    }

    /// A new claim of this client; the one before it is left as it is.
    fn acquire(&mut self, who: usize, wish: &Wish) {
        let member = self.clients[who].claim.member;
        if self.clients[who].asked && !self.cell.has(member) {
            self.clients[who] = self.client();
        }
        if !self.clients[who].asked {
            let claim = &mut self.clients[who].claim;
            claim.seats = wish.seats;
            claim.wait = wish.wait;
            claim.priority = Priority::new(wish.priority).unwrap();
            claim.or_value = wish.or_value;
            claim.force = wish.force.then(|| "it takes too long".into());
            claim.detached = wish.detached;
            claim.ttl = wish.ttl;
            claim.pick_up = wish.ttl.min(Claim::PICK_UP);
            self.clients[who].asked = true;
        }
        self.ask(who);
    }

    /// Asks, and asks again: the same claim is granted once.
    fn ask(&mut self, who: usize) {
        let claim = self.clients[who].claim.clone();
        self.clients[who].asked = true;
        let held = self.cell.holder_ids().any(|m| m == claim.member);
        let (first, _) = self.turn(&[], |turn| turn.acquire(&claim));
        if let (Verdict::Granted(_), false) = (&first, held || claim.wait || claim.force.is_some())
        {
            assert_eq!(self.cell.waiter_ids().count(), 0, "it overtook somebody who waits");
        }
        let (second, _) = self.turn(&[], |turn| turn.acquire(&claim));
        match (&first, &second) {
            (Verdict::Granted(a), Verdict::Granted(b)) => assert_eq!(a.fence, b.fence),
            (Verdict::Queued(a), Verdict::Queued(b)) => assert_eq!(a.ahead, b.ahead),
            (Verdict::Busy(_), Verdict::Busy(_))
            | (Verdict::Value(_), Verdict::Value(_))
            | (Verdict::Refused(_), Verdict::Refused(_)) => {}
            // At the end of time a lease is over as soon as it is granted.
            _ => assert_eq!(self.now, Micros(u64::MAX), "{first:?}, then {second:?}"),
        }
    }

    fn upgrade(&mut self, who: usize, wait: bool) {
        if !wait {
            // Asked anew, whatever became of the one before.
            self.tokens += 1;
            self.clients[who].upgrade.id = ClaimId::new(self.tokens);
        }
        self.clients[who].upgrade.wait = wait;
        let claim = self.clients[who].upgrade.clone();
        let pending = self.cell.view(self.name.clone(), self.now);
        let rival = pending.waiters.iter().any(|w| w.upgrade && w.id != claim.member.holder());
        let (verdict, effects) = self.turn(&[], |turn| turn.acquire(&claim));
        let quiet = effects.gone.is_empty() && effects.granted.is_empty();
        if rival
            && quiet
            && let Verdict::Queued(_) = verdict
        {
            panic!("two wait to upgrade");
        }
        if let Verdict::Granted(grant) = verdict {
            assert!(grant.seats.is_all());
        }
    }

    fn withdraw_upgrade(&mut self, who: usize) {
        let claim = self.clients[who].upgrade.clone();
        let held = self.cell.holder_ids().any(|m| m == claim.member);
        for _ in 0..2 {
            let withdraw = |turn: &mut Turn<'_>| turn.withdraw(claim.id, claim.member, KEEP);
            let (_, effects) = self.turn(&[], withdraw);
            let ended = effects.gone.iter().any(|(m, _)| *m == claim.member);
            let holds = self.cell.holder_ids().any(|m| m == claim.member);
            assert!(!held || ended || holds || self.now == Micros(u64::MAX), "it lost its share");
        }
        self.tokens += 1;
        self.clients[who].upgrade.id = ClaimId::new(self.tokens);
    }

    fn renew(&mut self, who: usize, change: Option<Lasting>) {
        let member = self.clients[who].claim.member;
        let view = self.cell.view(self.name.clone(), self.now);
        let until = view.holders.iter().find(|h| h.member == member).map(|h| h.until);
        let (kept, _) = self.turn(&[], |turn| turn.renew(member, change));
        match kept {
            Ok(Kept::Holding(grant)) => {
                let after = grant.at.plus(grant.term);
                let sooner = until.is_some_and(|until| after < until);
                assert!(self.observed || !sooner, "a renewal made the lease shorter");
            }
            Ok(_) => assert!(self.cell.waiter_ids().any(|m| m == member)),
            Err(_) => assert!(!self.cell.has(member)),
        }
    }

    fn downgrade(&mut self, who: usize, seats: Seats, late: bool) {
        let member = self.clients[who].claim.member;
        let fence = self.cell.vigil(member).and_then(|v| v.fence).unwrap_or(Fence::ZERO);
        let fence = if late { Fence::new(fence.get().saturating_sub(1)) } else { fence };
        let (change, _) = self.turn(&[], |turn| turn.downgrade(member, fence, seats));
        assert!(!late || !matches!(change, Change::Done(_)), "a late downgrade counted");
        if let Change::Done(grant) = change {
            assert_eq!((grant.fence, grant.seats), (fence, seats));
        }
    }

    fn release(&mut self, who: usize, value: Option<u8>) {
        let member = self.clients[who].claim.member;
        let others = |cell: &Cell| cell.holder_ids().filter(|m| *m != member).collect::<Vec<_>>();
        let before = others(&self.cell);
        let value = value.map(|v| Value { bytes: Arc::new([v, 0xff]), keep: KEEP });
        let (release, effects) = self.turn(&[], |turn| turn.release(member, value.as_ref()));
        let held = self.cell.holder_ids().any(|m| m == member);
        assert_eq!(held, release == Release::NeedsAllSeats);
        let ended: Vec<MemberId> = effects.gone.iter().map(|(m, _)| *m).collect();
        let after = others(&self.cell);
        let lost = before.iter().find(|m| !after.contains(m) && !ended.contains(m));
        assert_eq!(lost, None, "a release took away what somebody else held");
    }

    fn put(&mut self, who: usize, value: u8) {
        let member = self.clients[who].claim.member;
        let before = self.cell.view(self.name.clone(), self.now).value;
        let value = Value { bytes: Arc::new([value]), keep: KEEP };
        let (change, effects) = self.turn(&[], |turn| turn.put(member, &value));
        let view = self.cell.view(self.name.clone(), self.now);
        if let Change::Done(grant) = change {
            assert!(grant.seats.is_all(), "written without all seats");
            assert!(view.value.is_none_or(|v| v.fence == grant.fence));
        } else if effects.gone.is_empty() {
            assert_eq!(view.value, before, "refused and written");
        }
    }

    fn evict(&mut self, whom: Option<usize>, right: bool) {
        let member = whom.map(|who| self.clients[who].claim.member);
        let fence = member.and_then(|m| self.cell.vigil(m)).and_then(|v| v.fence);
        let only_if = match (whom, right) {
            (None, _) => None,
            (Some(_), true) => Some(fence.unwrap_or(Fence::ZERO)),
            (Some(_), false) => Some(Fence::new(u64::MAX)),
        };
        let reason = Reason { by: "operator".into(), why: "test".into() };
        let why = Eviction { only_if, stolen: false, reason: reason.clone() };
        let before = self.cell.fence();
        let (evicted, _) = self.turn(&[], |turn| turn.evict(&why));
        let Evicted::Done(victims) = evicted else { return };
        assert!(before < self.cell.fence(), "an eviction raises the fence");
        for victim in victims {
            assert!(victim.fence < self.cell.fence());
            let (told, _) = self.turn(&[], |turn| turn.renew(victim.member, None));
            let told = told.unwrap_err();
            // At the end of time nothing is remembered.
            assert!(told == Departure::Evicted(reason.clone()) || self.now == Micros(u64::MAX));
        }
    }
}
