//! What a call is known by.

use std::fmt;

use sha2::{Digest, Sha256};
use tenure_core::{Error, ErrorKind, LockName, Result};

/// The key of a call: one or more parts, kept apart whatever they contain.
///
/// Keys are never joined by a separator: `["a:b", "c"]` and `["a", "b:c"]` are two keys. A `&str` or
/// `String` is a key of one part.
///
/// ```
/// use tenure_recipes::once::Key;
///
/// let key = Key::new("rebuild").part("math").part(7);
/// assert_ne!(key, Key::new("rebuild").part("math7"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key(Vec<String>);

impl Key {
    /// The longest part, in bytes.
    pub const MAX_LEN: usize = 64 * 1024;
    /// The most parts.
    pub const MAX_PARTS: usize = 64;

    /// A key that begins with this part.
    pub fn new(part: impl fmt::Display) -> Self {
        Self(vec![part.to_string()])
    }

    /// The key with one more part.
    #[must_use]
    pub fn part(mut self, part: impl fmt::Display) -> Self {
        self.0.push(part.to_string());
        self
    }

    /// The lock that stands for this key in `scope`.
    ///
    /// Readable where that is possible: `once/` and each part after its length in bytes. What is too
    /// long for a name, holds control characters, or braces (which mean something to some stores),
    /// is named by the SHA-256 of the same.
    ///
    /// # Errors
    /// `Invalid` if a part is longer than [`Key::MAX_LEN`] or there are more than
    /// [`Key::MAX_PARTS`].
    pub fn lock_name(&self, scope: &str) -> Result<LockName> {
        let parts = || std::iter::once(scope).chain(self.0.iter().map(String::as_str));
        if Self::MAX_PARTS < self.0.len() || parts().any(|part| Self::MAX_LEN < part.len()) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "a key has at most {} parts of at most {} bytes each",
                    Self::MAX_PARTS,
                    Self::MAX_LEN
                ),
            ));
        }
        let mut name = "once".to_owned();
        for part in parts() {
            name.push_str(&format!("/{}={part}", part.len()));
        }
        if !name.contains(['{', '}'])
            && let Ok(readable) = LockName::new(&name)
        {
            return Ok(readable);
        }
        // No readable name begins so: there is a digit after the slash.
        LockName::new(format!("once/#{}", hex(&Sha256::digest(&name))))
    }
}

impl From<&str> for Key {
    fn from(part: &str) -> Self {
        Self::new(part)
    }
}

impl From<String> for Key {
    fn from(part: String) -> Self {
        Self(vec![part])
    }
}

impl From<&String> for Key {
    fn from(part: &String) -> Self {
        Self(vec![part.clone()])
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: &Key) -> String {
        key.lock_name("scope").unwrap().to_string()
    }

    #[test]
    fn parts_that_read_alike_when_joined_are_kept_apart() {
        assert_eq!(name(&Key::from("a:b").part("c")), "once/5=scope/3=a:b/1=c");
        let keys = [
            Key::from("a").part("b"),
            Key::from("a/1=b"),
            Key::from("a:b"),
            Key::from("a").part("b").part(""),
            Key::from("").part("a").part("b"),
        ];
        for (i, a) in keys.iter().enumerate() {
            for b in &keys[i + 1..] {
                assert_ne!(name(a), name(b));
            }
        }
        assert_ne!(
            Key::from("b").lock_name("a").unwrap(),
            Key::from("").lock_name("a/1=b").unwrap()
        );
    }

    #[test]
    fn every_text_is_a_key() {
        for odd in ["", "\0", "a\nb", "}{", "{a}", &"x".repeat(60_000), "\u{202e}é"] {
            let name = name(&Key::from(odd));
            assert!(name.len() <= LockName::MAX_LEN && !name.contains(['{', '}']));
        }
        assert!(Key::from("x".repeat(Key::MAX_LEN + 1)).lock_name("s").is_err());
    }
}
