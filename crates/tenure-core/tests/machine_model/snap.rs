//! A record in the model's words.

use tenure_core::machine::Cell;
use tenure_core::{Micros, Seats};

use super::rules::{Slot, Table};

/// A holder in the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) slot: Slot,
    pub(crate) seats: Seats,
    pub(crate) fence: u64,
    pub(crate) until: Micros,
    pub(crate) picked_up: bool,
}

/// A waiter in the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waits {
    pub(crate) slot: Slot,
    pub(crate) seats: Seats,
    pub(crate) upgrade: bool,
}

/// A record at one time, in the model's words.
#[derive(Debug)]
pub(crate) struct Snap {
    pub(crate) fence: u64,
    pub(crate) holders: Vec<Held>,
    pub(crate) waiters: Vec<Waits>,
    /// Who wrote the value, its fence, when.
    pub(crate) value: Option<(Slot, u64, Micros)>,
}

impl Snap {
    pub(crate) fn of(table: &Table, cell: &Cell, now: Micros) -> Self {
        let view = cell.view(table.name.clone(), now);
        let held = |h: &tenure_core::HolderView| Held {
            slot: table.slot(h.member),
            seats: h.seats,
            fence: h.fence.get(),
            until: h.until,
            picked_up: cell.vigil(h.member).is_some_and(|v| !v.handed_over),
        };
        let waiters = cell.waiter_ids().zip(&view.waiters).map(|(member, w)| Waits {
            slot: table.slot(member),
            seats: w.seats,
            upgrade: w.upgrade,
        });
        Self {
            fence: view.fence.get(),
            holders: view.holders.iter().map(held).collect(),
            waiters: waiters.collect(),
            value: view.value.map(|v| (v.bytes[0], v.fence.get(), v.written)),
        }
    }

    pub(crate) fn holder(&self, slot: Slot) -> Option<&Held> {
        self.holders.iter().find(|h| h.slot == slot)
    }

    pub(crate) fn waiter(&self, slot: Slot) -> Option<&Waits> {
        self.waiters.iter().find(|w| w.slot == slot)
    }

    /// Whether `seats` are free beside everybody but `slot`.
    pub(crate) fn fits(&self, seats: Seats, slot: Slot) -> bool {
        fit_together(self.holders.iter().filter(|h| h.slot != slot).map(|h| h.seats), Some(seats))
    }
}

/// Whether these may be held at the same time.
pub(crate) fn fit_together(held: impl Iterator<Item = Seats>, more: Option<Seats>) -> bool {
    let all: Vec<Seats> = held.chain(more).collect();
    if 1 < all.len() && all.iter().any(|s| s.is_all()) {
        return false;
    }
    let mut taken = 0_u64;
    let mut limit = u64::MAX;
    for seats in all {
        if let Seats::Some { take, of } = seats {
            taken += u64::from(take);
            limit = limit.min(u64::from(of));
        }
    }
    taken <= limit
}
