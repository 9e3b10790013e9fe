//! What the clients of a model may do, and how much of it.

use super::landmarks::Landmark;
use super::rules::{OTHER_SHARE, SHARE, Wish};
use tenure_core::Seats;

/// How the store tells the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Clock {
    /// It has a clock, which runs this many steps.
    Store { steps: u8 },
    /// It has none; the dead are observed.
    Observed,
}

/// One model: who takes part, what they may do, and what must be reached.
#[derive(Clone, Debug)]
pub(crate) struct Menu {
    pub(crate) name: &'static str,
    pub(crate) clock: Clock,
    pub(crate) clients: u8,
    /// How many claims each client makes, one after the other.
    pub(crate) lives: u8,
    pub(crate) wishes: Vec<Wish>,
    /// The wishes open to each client.
    pub(crate) open: Vec<Vec<u8>>,
    /// How many requests are duplicated, delayed or lost on their way.
    pub(crate) ghosts: u8,
    pub(crate) crashes: u8,
    /// How many times an operator evicts.
    pub(crate) evictions: u8,
    pub(crate) renew: bool,
    pub(crate) extend: bool,
    /// How many upgrades a claim may ask for, one after the other.
    pub(crate) upgrades: u8,
    pub(crate) downgrade: bool,
    pub(crate) withdraw: bool,
    pub(crate) put: bool,
    pub(crate) release_with_value: bool,
    /// How many waiters that live are given up, because their refresh was late.
    pub(crate) lapses: u8,
    /// What the model has to reach, or it proves nothing.
    pub(crate) reaches: Vec<Landmark>,
}

impl Menu {
    /// A model in which each client makes `lives` claims and may wish for what is open to it.
    fn new(name: &'static str, clock: Clock, lives: u8, open: &[&[Wish]]) -> Self {
        let mut wishes = Vec::new();
        let open = open.iter().map(|own| {
            let first = u8::try_from(wishes.len()).expect("few wishes");
            wishes.extend_from_slice(own);
            (first..).take(own.len()).collect()
        });
        let open: Vec<Vec<u8>> = open.collect();
        Self {
            name,
            clock,
            clients: u8::try_from(open.len()).expect("few clients"),
            lives,
            wishes,
            open,
            ghosts: 0,
            crashes: 0,
            evictions: 0,
            renew: false,
            extend: false,
            upgrades: 0,
            downgrade: false,
            withdraw: false,
            put: false,
            release_with_value: false,
            lapses: 0,
            reaches: Vec::new(),
        }
    }
}

const ALL: Wish = Wish::waiting(Seats::All);
const TRY_ALL: Wish = Wish::trying(Seats::All);
pub(crate) const PERMIT: Wish = Wish::waiting(SHARE);
const TRY_PERMIT: Wish = Wish::trying(SHARE);
const OTHER_PERMIT: Wish = Wish::waiting(OTHER_SHARE);

/// A store whose clock runs `steps`.
pub(crate) const fn store(steps: u8) -> Clock {
    Clock::Store { steps }
}

/// A mutex: queue, hand-over, pick-up, renewal, expiry, crash, lost and late messages.
pub(crate) fn mutex(clock: Clock, lives: u8, open: &[&[Wish]]) -> Menu {
    let mut menu = Menu::new("mutex", clock, lives, open);
    menu.renew = true;
    menu.reaches = vec![Landmark::HandedOver, Landmark::NotPickedUp, Landmark::LeaseExpired];
    menu
}

/// A few clients that do everything a mutex is for, on a bad network.
pub(crate) fn bad_network(clock: Clock) -> Menu {
    let mut menu = mutex(clock, 2, &[&[ALL, TRY_ALL], &[ALL.urgent()]]);
    menu.name = "mutex on a bad network";
    menu.ghosts = 1;
    menu.crashes = 1;
    menu.withdraw = true;
    menu.lapses = 1;
    menu.reaches.extend([
        Landmark::PlaceExpired,
        Landmark::Busy,
        Landmark::WithdrawnRefused,
        Landmark::DepartedRefused,
        Landmark::GrantedAgain,
        Landmark::ReleasedAgain,
    ]);
    menu
}

/// Everybody queues, and comes back for more.
pub(crate) fn crowd(clock: Clock) -> Menu {
    let mut menu = mutex(clock, 2, &[&[ALL], &[ALL], &[TRY_ALL]]);
    menu.name = "a crowd for a mutex";
    menu.reaches.push(Landmark::Busy);
    menu
}

/// Waiters with a head start.
pub(crate) fn priorities(clock: Clock) -> Menu {
    let mut menu =
        mutex(clock, 1, &[&[ALL, PERMIT], &[ALL, PERMIT], &[ALL.urgent(), PERMIT.urgent()]]);
    menu.name = "priorities";
    menu.crashes = 1;
    menu.withdraw = true;
    menu.extend = clock != Clock::Observed;
    menu.reaches.push(Landmark::HeadStart);
    if clock != Clock::Observed {
        menu.reaches.extend([Landmark::AgedPastHeadStart, Landmark::Extended]);
    }
    menu
}

/// Permits and a writer beside each other.
pub(crate) fn permits(clock: Clock, lives: u8) -> Menu {
    let open: [&[Wish]; 3] = match lives {
        1 => [&[PERMIT, ALL], &[PERMIT, TRY_PERMIT, OTHER_PERMIT], &[PERMIT, ALL]],
        _ => [&[PERMIT], &[PERMIT], &[ALL]],
    };
    let mut menu = Menu::new("permits", clock, lives, &open);
    menu.renew = lives == 1;
    menu.withdraw = lives == 1;
    menu.crashes = u8::from(lives == 1);
    menu.reaches = vec![Landmark::SharedByTwo, Landmark::HandedOver];
    if lives == 1 {
        menu.reaches.extend([Landmark::MismatchRefused, Landmark::Busy]);
    }
    menu
}

/// Shares that become all seats, and the way back.
pub(crate) fn upgrades(clock: Clock, open: &[&[Wish]], ghosts: u8) -> Menu {
    let mut menu = Menu::new("upgrades", clock, 1, open);
    menu.upgrades = 1;
    menu.downgrade = true;
    menu.withdraw = true;
    menu.ghosts = ghosts;
    menu.reaches = vec![
        Landmark::Upgraded,
        Landmark::UpgradeQueued,
        Landmark::SecondUpgraderRefused,
        Landmark::UpgradeWithdrawnInQueue,
        Landmark::Downgraded,
    ];
    if 0 < ghosts {
        menu.reaches.extend([Landmark::UpgradeWithdrawnAfterGrant, Landmark::LateDowngrade]);
    }
    menu
}

/// The wishes of two and of three clients that upgrade.
pub(crate) const TWO_UPGRADERS: [&[Wish]; 2] = [&[PERMIT, ALL], &[PERMIT, OTHER_PERMIT]];
pub(crate) const THREE_UPGRADERS: [&[Wish]; 3] = [&[PERMIT, ALL], &[PERMIT], &[ALL, OTHER_PERMIT]];

/// Stealing and force release.
pub(crate) fn force(clock: Clock, open: &[&[Wish]]) -> Menu {
    let mut menu = Menu::new("force", clock, 1, open);
    menu.evictions = 1;
    menu.ghosts = 1;
    menu.renew = true;
    menu.reaches =
        vec![Landmark::Stolen, Landmark::Evicted, Landmark::FenceMoved, Landmark::ToldWhy];
    menu
}

/// The wishes of two and of three clients of which one takes by force.
pub(crate) const TWO_WITH_FORCE: [&[Wish]; 2] = [&[PERMIT, ALL], &[ALL.forced(), PERMIT.forced()]];
pub(crate) const THREE_WITH_FORCE: [&[Wish]; 3] =
    [&[PERMIT, ALL], &[PERMIT], &[ALL.forced(), PERMIT.forced()]];

/// Values, and claims that would rather have one.
pub(crate) fn values(clock: Clock, open: &[&[Wish]]) -> Menu {
    let mut menu = Menu::new("values", clock, 1, open);
    menu.put = true;
    menu.release_with_value = true;
    menu.ghosts = 1;
    menu.reaches = vec![
        Landmark::ValueWritten,
        Landmark::Answered,
        Landmark::AnsweredAtOnce,
        Landmark::WriteRefused,
    ];
    menu
}

/// The wishes of two and of three clients that leave values behind.
pub(crate) const TWO_WITH_VALUES: [&[Wish]; 2] = [&[ALL.or_value(), ALL], &[ALL.or_value()]];
pub(crate) const THREE_WITH_VALUES: [&[Wish]; 3] =
    [&[ALL.or_value()], &[ALL.or_value(), ALL], &[ALL, PERMIT]];

/// Everything at once, for two clients.
pub(crate) fn everything(clock: Clock) -> Menu {
    let open: [&[Wish]; 2] =
        [&[PERMIT, ALL.or_value()], &[PERMIT.urgent(), TRY_PERMIT, ALL.forced()]];
    let mut menu = Menu::new("everything", clock, 1, &open);
    menu.crashes = 1;
    menu.evictions = 1;
    menu.lapses = 1;
    menu.renew = true;
    menu.extend = true;
    menu.upgrades = 1;
    menu.downgrade = true;
    menu.withdraw = true;
    menu.put = true;
    menu.release_with_value = true;
    menu.reaches = vec![Landmark::Upgraded, Landmark::Downgraded, Landmark::Stolen];
    menu
}
