//! The saboteur's tricks with names, leases and renewals.

use tenure_core::backend::{Departure, Kept, LeaseRef, Member, Release, Renewal, Verdict};
use tenure_core::{LockName, Result};

use super::{Deed, Saboteur, disguised};

impl Saboteur {
    pub(super) fn name(&self, name: &LockName) -> LockName {
        if !self.does(Deed::FoldsNames) {
            return name.clone();
        }
        LockName::new(name.as_str().to_lowercase()).unwrap_or_else(|_| name.clone())
    }

    pub(super) fn lease(&self, lease: &LeaseRef) -> LeaseRef {
        let mut lease = lease.clone();
        lease.name = self.name(&lease.name);
        lease
    }

    pub(super) fn twisted_member(&self, member: &Member) -> Member {
        let mut member = member.clone();
        member.name = self.name(&member.name);
        match self.deed {
            Deed::UndoesChanges => member.change = true,
            Deed::NeverExpires => member.ttl *= 1000,
            Deed::ExpiresEarly => member.ttl /= 8,
            _ => {}
        }
        member
    }

    pub(super) async fn twist_renewal(&self, member: &Member, answer: &mut Renewal) {
        let Renewal::Gone(how) = answer else { return };
        if self.does(Deed::ForgetsWhy) {
            *how = Departure::Expired;
        }
        if !self.does(Deed::RecreatesOnRenewal) {
            return;
        }
        let known = self.seen.lock().claims.get(&member.id).cloned();
        let grant = self.seen.lock().grants.get(&member.id).copied();
        if let (Some(claim), Some(grant)) = (known, grant) {
            let again = self.inner.acquire(&disguised(&claim)).await;
            if matches!(again, Ok(Verdict::Granted(_))) {
                *answer = Renewal::Kept(Kept::Holding(grant));
            }
        }
    }

    /// Releases by name: whoever holds it, with the token that passed by here.
    pub(super) async fn release_anybody(&self, name: &LockName) -> Result<Release> {
        for holder in self.inner.inspect(name).await?.holders {
            let claim = self.seen.lock().claims.get(&holder.member).cloned();
            if let Some(claim) = claim {
                let lease = LeaseRef::new(name.clone(), claim.token, holder.fence);
                self.inner.release(&lease, None).await?;
            }
        }
        Ok(Release::Released)
    }
}
