//! Who a claim is: the secret that proves it, and the public ids made of it.

use std::fmt;

use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::name::{hex, hex_in};

/// The ownership secret of one claim: 128 random bits.
///
/// Whoever knows it can renew and release the lock. It never appears in `Debug`, errors, logs,
/// metrics or queues; what is shown instead is the [`HolderId`].
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 16]);

impl Token {
    /// A new secret from the operating system's generator (through a ChaCha generator per thread
    /// that is seeded and re-seeded from it).
    pub fn random() -> Self {
        Self(rand::rng().random())
    }

    /// The secret of these bytes, for backends that read it back and for models.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The secret itself. Do not print it.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }

    /// The public identity of this secret.
    pub fn member(&self) -> MemberId {
        MemberId(Sha256::digest(self.0).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The public identity of a claim, holder or waiter: SHA-256 of its token.
///
/// Stores keep this instead of the token, so that reading a record does not let anybody release
/// the lock through `tenure`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId([u8; 32]);

impl MemberId {
    /// The identity of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// All 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The short form that people see.
    pub fn holder(&self) -> HolderId {
        HolderId(u64::from_be_bytes(self.0[..8].try_into().expect("8 of 32 bytes")))
    }

    /// The claim that a first acquire with this token makes.
    pub fn claim(&self) -> ClaimId {
        ClaimId(u128::from_be_bytes(self.0[..16].try_into().expect("16 of 32 bytes")))
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.holder().fmt(f)
    }
}

impl Serialize for MemberId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut digits = [0; 64];
        s.serialize_str(hex_in(&self.0, &mut digits))
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Digits::<32>).map(Self)
    }
}

/// The id of a holder or waiter that people see: the first 64 bits of SHA-256 of its token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderId(u64);

impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HolderId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// The public id of one claim. A token's first claim is named after it; an upgrade is a claim of
/// its own under the same token and has a random id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(u128);

impl ClaimId {
    /// A new id, for an upgrade.
    pub fn random() -> Self {
        Self(rand::rng().random())
    }

    /// The id of this number, for models.
    pub fn new(number: u128) -> Self {
        Self(number)
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ClaimId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut digits = [0; 32];
        s.serialize_str(hex_in(&self.0.to_be_bytes(), &mut digits))
    }
}

impl<'de> Deserialize<'de> for ClaimId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Digits::<16>).map(|bytes| Self(u128::from_be_bytes(bytes)))
    }
}

/// Reads `N` bytes as digits.
struct Digits<const N: usize>;

impl<const N: usize> serde::de::Visitor<'_> for Digits<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hex digits", 2 * N)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<[u8; N], E> {
        unhex(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        if (high | low) == NO_DIGIT {
            return None;
        }
        *byte = high << 4 | low;
    }
    Some(bytes)
}

const NO_DIGIT: u8 = 0xff;

/// What each byte is worth as a hex digit. A record has dozens of ids, and is read at every turn.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        let lower = b"0123456789abcdef"[digit];
        values[lower as usize] = digit as u8;
        values[lower.to_ascii_uppercase() as usize] = digit as u8;
        digit += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed() {
        let token = Token::from_bytes([0xab; 16]);
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert!(!format!("{:?}", token.member()).contains("abab"));
    }

    #[test]
    fn ids_survive_a_round_trip_through_json() {
        let member = Token::random().member();
        let json = serde_json::to_string(&(member, member.claim())).unwrap();
        assert_eq!(
            serde_json::from_str::<(MemberId, ClaimId)>(&json).unwrap(),
            (member, member.claim())
        );
        assert!(serde_json::from_str::<MemberId>("\"zz\"").is_err());
    }
}
