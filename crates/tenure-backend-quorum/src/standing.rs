//! What the answers of all voters to a sign of life, a leave or a look amount to. Pure: the backend
//! runs it, and so do the models.

use tenure_core::backend::Departure;
use tenure_core::voter::{Keep, Left};

use crate::election::majority;

/// What became of a holder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// A majority is bound to it, for a whole ttl. These voters are bound to nobody: they should be
    /// asked for their votes again, or the next that fails takes the lock with it.
    Kept {
        /// The voters that have lost it.
        absent: Vec<usize>,
    },
    /// There is no majority, and there cannot be.
    Gone(Departure),
    /// Not enough of them have answered. Nothing is given back: they may be bound to it.
    Unknown,
}

/// What the answers to a sign of life amount to; `None` is no answer, or not yet.
#[must_use]
pub fn standing(answers: &[Option<Keep>]) -> Standing {
    let quorum = majority(answers.len());
    let count = |which: fn(&Option<Keep>) -> bool| answers.iter().filter(|a| which(a)).count();
    let kept = count(|answer| matches!(answer, Some(Keep::Kept { .. })));
    if quorum <= kept {
        let is_absent = |voter: &usize| answers[*voter] == Some(Keep::Absent);
        return Standing::Kept { absent: (0..answers.len()).filter(is_absent).collect() };
    }
    if quorum <= kept + count(Option::is_none) {
        return Standing::Unknown;
    }
    let known = answers.iter().flatten().filter_map(|answer| match answer {
        Keep::Gone(how) => Some(how.clone()),
        _ => None,
    });
    Standing::Gone(plainest(known).unwrap_or(Departure::Expired))
}

/// What became of a release.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// A majority was bound to it until now, or until it released the first time.
    Released,
    /// A majority was not.
    NotHeld(Departure),
    /// Not enough of them have answered.
    Unknown,
}

/// What the answers to a release amount to; `None` is no answer, or not yet.
#[must_use]
pub fn farewell(answers: &[Option<Left>]) -> Farewell {
    let quorum = majority(answers.len());
    let freed = |left: &&Left| matches!(left, Left::Free | Left::NotHeld(Departure::Released));
    let known = answers.iter().flatten().count();
    let released = answers.iter().flatten().filter(freed).count();
    if quorum <= released {
        return Farewell::Released;
    }
    if quorum <= released + answers.len() - known {
        return Farewell::Unknown;
    }
    let how = answers.iter().flatten().filter(|left| !freed(left)).map(|left| match left {
        Left::NotHeld(how) => how.clone(),
        _ => Departure::Forgotten,
    });
    Farewell::NotHeld(plainest(how).unwrap_or(Departure::Forgotten))
}

/// Of what several voters know of somebody's end, what says most.
pub(crate) fn plainest(all: impl Iterator<Item = Departure>) -> Option<Departure> {
    all.max_by_key(|how| match how {
        Departure::Evicted(_) | Departure::Stolen(_) => 4,
        Departure::Released => 3,
        Departure::Withdrawn => 2,
        Departure::Expired => 1,
        _ => 0,
    })
}
