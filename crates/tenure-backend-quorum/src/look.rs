//! What a majority of voters has of a lock.

use std::sync::Arc;

use tenure_core::voter::{Sight, Voter};
use tenure_core::{Fence, HolderView, LockName, MemberId, Result, View};

use crate::election::majority;
use crate::end::PATIENCE;
use crate::house::{House, drain, gather, known, too_few};
use crate::seat::Need;

/// What each voter has of a lock, as far as it has answered.
pub(crate) struct Seen(Vec<Option<Sight>>);

/// Looks at a lock until its holder is known, or the time is over.
///
/// # Errors
/// If a majority does not answer.
pub(crate) async fn seen<V: Voter>(house: &House<V>, name: &LockName) -> Result<Seen> {
    let (name, longest) = (Arc::new(name.clone()), house.longest);
    let mut asked = house.ask_all(Need::Majority, move |seat| {
        let name = name.clone();
        async move { seat.voter.look(&name, longest).await }
    });
    let quorum = majority(house.size());
    let enough = |answers: &[Option<Result<Sight>>]| Seen(known(answers)).is_decided();
    let answers = gather(&mut asked, house.size(), PATIENCE, enough).await;
    drain(asked);
    let seen = Seen(known(&answers));
    if seen.0.iter().flatten().count() < quorum { Err(too_few(&answers)) } else { Ok(seen) }
}

pub(crate) async fn view<V: Voter>(house: Arc<House<V>>, name: LockName) -> Result<View> {
    Ok(seen(&house, &name).await?.view(name))
}

pub(crate) async fn ping<V: Voter>(house: Arc<House<V>>) -> Result<()> {
    let mut asked = house.ask_all(Need::Majority, |seat| async move { seat.voter.ping().await });
    let quorum = majority(house.size());
    let enough = |answers: &[Option<Result<()>>]| {
        quorum <= answers.iter().flatten().filter(|answer| answer.is_ok()).count()
    };
    let answers = gather(&mut asked, house.size(), PATIENCE, enough).await;
    drain(asked);
    if enough(&answers) { Ok(()) } else { Err(too_few(&answers)) }
}

impl Seen {
    fn holders(&self) -> impl Iterator<Item = &HolderView> {
        self.0.iter().flatten().filter_map(|sight| sight.holder.as_ref())
    }

    fn bound_to(&self, member: MemberId) -> usize {
        self.holders().filter(|holder| holder.member == member).count()
    }

    fn silent(&self) -> usize {
        self.0.iter().filter(|sight| sight.is_none()).count()
    }

    fn is_decided(&self) -> bool {
        let quorum = majority(self.0.len());
        let most = self.holders().map(|holder| self.bound_to(holder.member)).max().unwrap_or(0);
        quorum <= self.0.len() - self.silent() && (quorum <= most || most + self.silent() < quorum)
    }

    /// Whoever has a majority; of those who may have one, if some voters are silent, the likeliest.
    fn holder(&self) -> Option<HolderView> {
        let quorum = majority(self.0.len());
        let most = self.holders().max_by_key(|holder| self.bound_to(holder.member))?.member;
        if self.bound_to(most) + self.silent() < quorum {
            return None;
        }
        let all = || self.holders().filter(|holder| holder.member == most);
        // A voter that was asked again later knows less of it.
        let mut shown = all().min_by_key(|holder| holder.since)?.clone();
        shown.fence = all().map(|holder| holder.fence).max()?;
        shown.until = all().map(|holder| holder.until).max()?;
        shown.renewed = all().map(|holder| holder.renewed).max()?;
        shown.quiet_for = all().map(|holder| holder.quiet_for).min()?;
        Some(shown)
    }

    /// What a new fence has to be above.
    pub(crate) fn floor(&self) -> Fence {
        self.0.iter().flatten().map(|sight| sight.floor.max(sight.fence)).max().unwrap_or_default()
    }

    pub(crate) fn view(&self, name: LockName) -> View {
        let mut view = View::empty(name);
        view.fence = self.0.iter().flatten().map(|sight| sight.fence).max().unwrap_or_default();
        view.holders = self.holder().into_iter().collect();
        view
    }
}
