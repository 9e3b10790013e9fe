//! A held lock as text, to hand to another process.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::name::{LockName, hex};
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
