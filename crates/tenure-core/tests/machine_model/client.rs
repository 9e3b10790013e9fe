//! What a client believes, what it may ask next, and what it makes of the answer.

use tenure_core::backend::{Change, Grant, Kept, Refusal, Verdict};
use tenure_core::{Micros, Seats};

use super::rules::{Reply, Request, SHARE};
use super::world::{Lock, World};

/// What a client believes to hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Guard {
    pub(crate) seats: Seats,
    pub(crate) fence: u64,
    /// Valid before this time. Counted without the margins that a client subtracts for drift and
    /// delay, so that the model is harder on the rules than the world is.
    pub(crate) until: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Stage {
    Fresh,
    /// It asked and does not know what became of it.
    Unsure,
    Waiting,
    /// It was granted on a store without a clock and has to show a sign of life first.
    PickingUp(u64),
    Holding,
    /// It holds a share and asked for all.
    Upgrading,
    /// It asked to step down and does not know what became of it.
    Downgrading,
    /// Its guard is over; the application may not have noticed.
    Lost,
    /// It makes no more claims, or crashed.
    Over,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Client {
    pub(crate) life: u8,
    pub(crate) stage: Stage,
    pub(crate) wish: u8,
    pub(crate) guard: Option<Guard>,
    /// How many upgrades this life has asked for.
    pub(crate) upgrades: u8,
}

/// What a client gives up before it asks, whatever the answer will be.
pub(crate) fn before_sending(client: &mut Client, request: Request) {
    match request {
        Request::Acquire { wish, .. } => client.wish = wish,
        Request::Upgrade { nth, .. } => client.upgrades = nth + 1,
        Request::WithdrawUpgrade { .. } => client.stage = Stage::Holding,
        Request::Downgrade { .. } => {
            client.guard = client.guard.map(|g| Guard { seats: SHARE, ..g });
        }
        Request::Withdraw { .. } | Request::Release { .. } => end_life(client),
        _ => {}
    }
}

/// What a client makes of silence.
pub(crate) fn without_answer(client: &mut Client, request: Request) {
    match request {
        Request::Acquire { .. } if client.stage == Stage::Fresh => client.stage = Stage::Unsure,
        Request::Upgrade { .. } => client.stage = Stage::Upgrading,
        Request::Downgrade { .. } => client.stage = Stage::Downgrading,
        _ => {}
    }
}

pub(crate) fn end_life(client: &mut Client) {
    *client =
        Client { life: client.life + 1, stage: Stage::Fresh, wish: 0, guard: None, upgrades: 0 };
}

impl Lock {
    /// What a client makes of an answer.
    pub(crate) fn hear(&self, client: &mut Client, request: Request, reply: &Reply, sent: u64) {
        let guard = |grant: &Grant| Guard {
            seats: grant.seats,
            fence: grant.fence.get(),
            until: self.until(grant, sent),
        };
        match (request, reply) {
            (Request::Acquire { .. }, Reply::Verdict(verdict)) => match verdict {
                Verdict::Granted(grant) if self.observed() && grant.handed_over => {
                    client.stage = Stage::PickingUp(grant.fence.get());
                }
                Verdict::Granted(grant) => {
                    client.stage = Stage::Holding;
                    client.guard = Some(guard(grant));
                }
                Verdict::Queued(_) => client.stage = Stage::Waiting,
                _ => end_life(client),
            },
            (Request::Upgrade { .. }, Reply::Verdict(verdict)) => match verdict {
                Verdict::Granted(grant) => {
                    client.stage = Stage::Holding;
                    client.guard = Some(guard(grant));
                }
                Verdict::Queued(_) => client.stage = Stage::Upgrading,
                Verdict::Busy(_) | Verdict::Refused(Refusal::UpgradePending) => {
                    client.stage = Stage::Holding;
                }
                _ => end_life(client),
            },
            (_, Reply::Renewal(Ok(Kept::Holding(grant))))
                if self.observed() && grant.handed_over =>
            {
                client.stage = Stage::PickingUp(grant.fence.get());
            }
            (_, Reply::Renewal(Ok(Kept::Holding(grant)))) => {
                let upgraded = client.stage == Stage::Upgrading && grant.seats.is_all();
                if client.stage != Stage::Upgrading || upgraded {
                    client.stage = Stage::Holding;
                }
                let seats = client.guard.map_or(grant.seats, |g| g.seats);
                let seats = if upgraded { grant.seats } else { seats };
                client.guard = Some(Guard { seats, ..guard(grant) });
            }
            (_, Reply::Renewal(Ok(_))) => {}
            (_, Reply::Renewal(Err(_))) => end_life(client),
            (Request::Downgrade { .. }, Reply::Change(change)) => match change {
                Change::Done(grant) => {
                    client.stage = Stage::Holding;
                    client.guard = Some(guard(grant));
                }
                // Nothing was changed, but a copy of the request may still arrive: it goes on
                // with the share and asks again.
                Change::Mismatch { .. } => client.stage = Stage::Downgrading,
                _ => end_life(client),
            },
            (_, Reply::Change(Change::NotHeld(_))) => end_life(client),
            _ => {}
        }
    }

    /// Until when the lease of a reply is good, by the reply and the time the request was sent.
    pub(crate) fn until(&self, grant: &Grant, sent: u64) -> u64 {
        match grant.now {
            Some(now) => (Micros(sent).plus(grant.term).0).saturating_sub(now.0 - grant.at.0),
            None => u64::MAX,
        }
    }

    pub(crate) fn requests(&self, world: &World, c: usize, to: &mut Vec<Request>) {
        let (client, menu) = (&world.clients[c], &self.menu);
        let who = self.slot(c, client.life);
        let mut add = |open: bool, request| {
            if open {
                to.push(request);
            }
        };
        let acquire = Request::Acquire { who, wish: client.wish };
        let release = Request::Release { who, value: false };
        let with_value = Request::Release { who, value: true };
        match client.stage {
            Stage::Fresh => {
                for wish in &menu.open[c] {
                    add(true, Request::Acquire { who, wish: *wish });
                }
            }
            Stage::Unsure | Stage::Waiting => {
                add(true, acquire);
                add(menu.withdraw, Request::Withdraw { who });
                add(menu.renew && client.stage == Stage::Waiting, Request::Renew { who });
            }
            Stage::PickingUp(fence) => {
                add(true, Request::PickUp { who, fence });
                add(menu.withdraw, Request::Withdraw { who });
            }
            Stage::Holding => {
                let all = client.guard.is_some_and(|g| g.seats.is_all());
                let fence = client.guard.map_or(0, |g| g.fence);
                add(true, release);
                add(menu.renew, Request::Renew { who });
                add(menu.extend, Request::Extend { who });
                add(menu.release_with_value, with_value);
                add(menu.put, Request::Put { who });
                add(menu.downgrade && all, Request::Downgrade { who, fence });
                let nth = client.upgrades;
                add(nth < menu.upgrades && !all, Request::Upgrade { who, nth });
            }
            Stage::Upgrading => {
                let nth = client.upgrades - 1;
                add(true, Request::Upgrade { who, nth });
                add(menu.withdraw, Request::WithdrawUpgrade { who, nth });
                add(true, release);
                add(menu.renew, Request::Renew { who });
            }
            Stage::Downgrading => {
                let fence = client.guard.map_or(0, |g| g.fence);
                add(true, Request::Downgrade { who, fence });
                add(true, release);
            }
            Stage::Lost => {
                add(true, release);
                add(menu.release_with_value, with_value);
                add(menu.put, Request::Put { who });
            }
            Stage::Over => {}
        }
    }
}
