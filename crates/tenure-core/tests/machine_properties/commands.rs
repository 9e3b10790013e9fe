//! What happens to a lock, at random.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use tenure_core::{Fence, Seats, Ttl};

pub(crate) const CLIENTS: usize = 8;
/// One thing that a client, an operator or the world does.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Acquire {
        who: usize,
        wish: Wish,
    },
    /// The last claim of this client, once more.
    Again {
        who: usize,
    },
    Withdraw {
        who: usize,
    },
    Upgrade {
        who: usize,
        wait: bool,
    },
    WithdrawUpgrade {
        who: usize,
    },
    Renew {
        who: usize,
    },
    Change {
        who: usize,
        ttl: Duration,
        detached: bool,
    },
    Downgrade {
        who: usize,
        seats: Seats,
        late: bool,
    },
    Release {
        who: usize,
        value: Option<u8>,
    },
    Put {
        who: usize,
        value: u8,
    },
    Evict {
        whom: Option<usize>,
        right: bool,
    },
    /// Observers find these dead; only matters without a clock.
    Die {
        who: HashSet<usize>,
    },
    Pass {
        time: Duration,
    },
    /// The store's floor of fences rises to this.
    Floor {
        fence: u64,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) seats: Seats,
    pub(crate) wait: bool,
    pub(crate) priority: i32,
    pub(crate) or_value: bool,
    pub(crate) force: bool,
    pub(crate) detached: bool,
    pub(crate) ttl: Duration,
}

pub(crate) fn seats() -> impl Strategy<Value = Seats> {
    // Few limits, so that most go together; the extreme ones with every take.
    let permits =
        prop_oneof![4 => Just(3), 1 => Just(1), 1 => Just(u32::MAX)].prop_flat_map(|of| {
            let take = prop_oneof![3 => Just(1), 1 => 1..=of, 1 => Just(of)];
            take.prop_map(move |take| Seats::permits(take, of).unwrap())
        });
    prop_oneof![1 => Just(Seats::All), 2 => permits]
}

pub(crate) fn ttl() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Ttl::MIN),
        Just(Ttl::MAX),
        Just(Duration::from_secs(30)),
        // Finer than a record keeps it.
        (100_000_000_u64..10_000_000_000).prop_map(Duration::from_nanos),
    ]
}

pub(crate) fn wish() -> impl Strategy<Value = Wish> {
    let priority = prop_oneof![3 => Just(0), 1 => -3..=3, 1 => Just(-1000), 1 => Just(1000)];
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.05), any::<bool>());
    (seats(), flags, priority, ttl()).prop_map(
        |(seats, (wait, or_value, force, detached), priority, ttl)| Wish {
            seats,
            wait,
            priority,
            or_value,
            force,
            detached,
            ttl,
        },
    )
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    use Command as C;
    let who = 0..CLIENTS;
    let time = prop_oneof![
        4 => (0_u64..60_000_000).prop_map(Duration::from_micros),
        1 => Just(Ttl::MAX),
        1 => Just(Duration::ZERO),
    ];
    prop_oneof![
        8 => (who.clone(), wish()).prop_map(|(who, wish)| C::Acquire { who, wish }),
        2 => who.clone().prop_map(|who| C::Again { who }),
        2 => who.clone().prop_map(|who| C::Withdraw { who }),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, wait)| C::Upgrade { who, wait }),
        1 => who.clone().prop_map(|who| C::WithdrawUpgrade { who }),
        4 => who.clone().prop_map(|who| C::Renew { who }),
        1 => (who.clone(), ttl(), any::<bool>())
            .prop_map(|(who, ttl, detached)| C::Change { who, ttl, detached }),
        2 => (who.clone(), seats(), prop::bool::weighted(0.2))
            .prop_map(|(who, seats, late)| C::Downgrade { who, seats, late }),
        5 => (who.clone(), prop::option::weighted(0.3, any::<u8>()))
            .prop_map(|(who, value)| C::Release { who, value }),
        1 => (who.clone(), any::<u8>()).prop_map(|(who, value)| C::Put { who, value }),
        1 => (prop::option::of(who.clone()), any::<bool>())
            .prop_map(|(whom, right)| C::Evict { whom, right }),
        1 => prop::collection::hash_set(who, 1..3).prop_map(|who| C::Die { who }),
        3 => time.prop_map(|time| C::Pass { time }),
        1 => (0_u64..1_000).prop_map(|fence| C::Floor { fence }),
    ]
}

/// What the numbers begin with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) observed: bool,
    pub(crate) time: u64,
    pub(crate) fence: u64,
}

pub(crate) fn start() -> impl Strategy<Value = Start> {
    let time = prop_oneof![
        Just(0),
        Just(1_700_000_000_000_000),
        Just(i64::MAX as u64 - 5_000_000),
        Just(u64::MAX - 50_000_000),
        Just(u64::MAX),
    ];
    let fence = prop_oneof![3 => Just(0), 1 => Just(Fence::MAX.get() - 6), 1 => Just(1 << 53)];
    (any::<bool>(), time, fence).prop_map(|(observed, time, fence)| Start { observed, time, fence })
}
