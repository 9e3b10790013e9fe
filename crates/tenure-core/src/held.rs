//! A held lock as text, to hand to another process, and what can be done with it there.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Claim, Grant, Kept, LeaseRef, Member, Release, Renewal};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::{LockGuard, NotReleased};
use crate::lease::{Lease, earliest_end};
use crate::loss::LossReason;
use crate::manager::LockManager;
use crate::name::{LockName, hex};
use crate::refusal::departed;
use crate::token::{Token, unhex};
use crate::values::{Fence, Ttl};

/// A held lock that outlives its process: the name, the ownership secret, ttl and fence.
///
/// Made by [`LockGuard::into_token`](crate::LockGuard::into_token), used by
/// [`LockManager::resume`](crate::LockManager::resume). Whoever has it can renew and release the
/// lock: pass it through a file or an environment variable, never through arguments. `Debug` does
/// not show the secret; [`LockToken::expose`] does.
#[derive(Clone, PartialEq, Eq)]
pub struct LockToken {
    pub(crate) name: LockName,
    pub(crate) token: Token,
    pub(crate) ttl: Duration,
    pub(crate) fence: Fence,
}

const VERSION: &str = "tenure1";

impl LockToken {
    /// The lock.
    pub fn name(&self) -> &LockName {
        &self.name
    }

    /// The fencing token.
    pub fn fencing_token(&self) -> Fence {
        self.fence
    }

    /// The ttl of the lease.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The token as text, secret included; [`FromStr`] reads it back.
    pub fn expose(&self) -> String {
        let Self { name, token, ttl, fence } = self;
        format!(
            "{VERSION}.{}.{}.{fence}.{}",
            hex(token.expose()),
            ttl.as_millis(),
            hex(name.as_str().as_bytes())
        )
    }
}

impl fmt::Debug for LockToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockToken")
            .field("name", &self.name)
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}

impl FromStr for LockToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text.trim()).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "this is not a lock token")
                .with_help("a lock token is what `tenure acquire` printed, unchanged")
        })
    }
}

fn parse(text: &str) -> Option<LockToken> {
    let mut parts = text.split('.');
    if parts.next()? != VERSION {
        return None;
    }
    let token = Token::from_bytes(unhex::<16>(parts.next()?)?);
    let ttl = Duration::from_millis(parts.next()?.parse().ok()?);
    let fence = parts.next()?.parse().ok()?;
    let digits = parts.next()?;
    if parts.next().is_some() || 2 * LockName::MAX_LEN < digits.len() || !digits.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let name = LockName::new(String::from_utf8(bytes?).ok()?).ok()?;
    Ttl::new(ttl).ok()?;
    Some(LockToken { name, token, ttl, fence })
}

impl LockManager {
    /// Takes over a lock that another process handed out as a token, and renews it from now on.
    ///
    /// # Errors
    /// `NotHeld` or `Lost` if it is not held any more; `Unsupported`; `Unreachable`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the lock may be held until its ttl has passed.
    pub async fn resume(&self, token: &LockToken) -> Result<LockGuard> {
        let inner = &self.inner;
        let details = inner.details(Some(token.ttl / 3));
        let claim = Claim::new(token.name.clone(), token.token.clone(), token.ttl, details.clone());
        let lease = Arc::new(Lease::sent(&claim, Some(token.ttl / 3), inner.pid()));
        let sent = inner.clock().now();
        let grant = self.renew_held(token, token.ttl, false).await?;
        let end = earliest_end(sent, grant.term);
        if !lease.hold(&grant, end, inner.clock().now()) {
            return Err(Error::new(
                ErrorKind::Unknown,
                "the lease was given up while it was resumed",
            ));
        }
        let due = lease.times.lock().due();
        inner.keeper().care_for(&lease, due);
        inner.metrics().acquired(Duration::ZERO);
        Ok(LockGuard::new(inner.clone(), lease, details, None))
    }

    /// Renews a lock that was handed out as a token, without taking it over; it lives for `ttl`
    /// from now on.
    ///
    /// # Errors
    /// `NotHeld` or `Lost` if it is not held any more; `Invalid`; `Unsupported`; `Unreachable`.
    pub async fn renew_token(&self, token: &LockToken, ttl: Duration) -> Result<LockToken> {
        self.inner.check_ttl(ttl)?;
        let grant = self.renew_held(token, ttl, true).await?;
        Ok(LockToken { ttl, fence: grant.fence, ..token.clone() })
    }

    /// Releases a lock that was handed out as a token.
    ///
    /// # Errors
    /// `AlreadyLost` if it is not held any more; `Unknown` if the store did not say.
    pub async fn release_token(&self, token: &LockToken) -> Result<(), NotReleased> {
        let lease = LeaseRef {
            name: token.name.clone(),
            token: token.token.clone(),
            id: token.token.member(),
            fence: token.fence,
        };
        let answer = self.inner.limited(self.inner.backend().release(&lease, None)).await;
        match answer {
            Ok(Release::Released) => {
                self.inner.metrics().released();
                Ok(())
            }
            Ok(Release::NotHeld(how)) => Err(NotReleased::AlreadyLost(how.into())),
            Ok(Release::NeedsAllSeats) => Err(NotReleased::AlreadyLost(LossReason::Expired)),
            Err(error) => Err(NotReleased::Unknown {
                within: token.ttl,
                error: self.inner.context(error, "releasing", Some(&token.name)),
            }),
        }
    }

    async fn renew_held(&self, token: &LockToken, ttl: Duration, detached: bool) -> Result<Grant> {
        self.inner.check_open()?;
        self.inner.check_detached()?;
        let member = Member::new(token.name.clone(), token.token.clone(), ttl, Some(token.fence));
        let members = [member.changed(ttl, detached)];
        let call = async { Ok(self.inner.backend().renew(&members).await) };
        let context = |e: Error| self.inner.context(e, "renewing", Some(&token.name));
        match self.inner.limited(call).await.map_err(context)?.pop() {
            Some(Renewal::Kept(Kept::Holding(grant))) => Ok(grant),
            Some(Renewal::Gone(how)) => Err(context(departed(how))),
            Some(Renewal::Unknown(error)) => Err(context(error)),
            Some(Renewal::Kept(Kept::Waiting)) | None => {
                Err(context(Error::new(ErrorKind::NotHeld, "the token waits for the lock")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_token_survives_text_and_hides_its_secret() {
        let token = LockToken {
            name: LockName::new("a.b/ü").unwrap(),
            token: Token::from_bytes([0xcd; 16]),
            ttl: Duration::from_secs(30),
            fence: Fence::new(7),
        };
        assert_eq!(token.expose().parse::<LockToken>().unwrap(), token);
        assert!(!format!("{token:?}").contains("cdcd"));
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "tenure1", "tenure1.00.1.1.61", "tenure2.x", &"x".repeat(10_000)] {
            assert_eq!(bad.parse::<LockToken>().unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}
