//! The name of a lock.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind};

/// The name of a lock: 1 to 512 bytes of UTF-8 without control characters, compared byte by byte.
///
/// One rule for every store. No Unicode normalisation and no case folding takes place: two names
/// are the same lock exactly when their bytes are the same. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct LockName(Arc<str>);

impl LockName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 512;

    /// Checks `name` and makes a lock name of it.
    ///
    /// # Errors
    /// `Invalid` if it is empty, longer than [`LockName::MAX_LEN`] bytes, or holds a C0 or C1
    /// control character or DEL.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Error> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(invalid("a lock name must not be empty"));
        }
        if Self::MAX_LEN < name.len() {
            return Err(invalid(format!(
                "a lock name is at most {} bytes long, this one has {}",
                Self::MAX_LEN,
                name.len()
            )));
        }
        if let Some((at, c)) = name.char_indices().find(|(_, c)| c.is_control()) {
            return Err(invalid(format!(
                "a lock name holds no control characters, this one has U+{:04X} at byte {at}",
                c as u32
            )));
        }
        Ok(Self(Arc::from(name)))
    }

    /// The lock of a file or directory: its canonical path as a name.
    ///
    /// `.` and `..` and symbolic links are resolved as far as the path exists; what does not exist
    /// yet is taken as written. A path that is too long for a name, is not UTF-8 or holds control
    /// characters becomes a readable prefix and the SHA-256 of the whole path.
    ///
    /// # Errors
    /// `Invalid` if the path is empty or the current directory of a relative path is gone.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            return Err(invalid("an empty path names no lock"));
        }
        let canonical =
            canonical(path).map_err(|e| invalid(format!("the path has no canonical form: {e}")))?;
        if let Some(text) = canonical.to_str()
            && let Ok(name) = Self::new(text)
        {
            return Ok(name);
        }
        let bytes = canonical.as_os_str().as_encoded_bytes();
        let hash = hex(&Sha256::digest(bytes));
        let readable: String =
            canonical.to_string_lossy().chars().filter(|c| !c.is_control()).take(100).collect();
        Self::new(format!("{readable}#{hash}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the name's bytes; stores that need a fixed-length key begin with it.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

/// Resolves as much of `path` as exists and keeps the rest, `.` and `..` folded.
fn canonical(path: &Path) -> std::io::Result<std::path::PathBuf> {
    use std::path::Component;
    let absolute = std::path::absolute(path)?;
    let mut resolved = std::path::PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::CurDir => {}
            other => {
                resolved.push(other);
                if let Ok(real) = resolved.canonicalize() {
                    resolved = real;
                }
            }
        }
    }
    Ok(resolved)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    hex_in(bytes, &mut vec![0; 2 * bytes.len()]).to_owned()
}

/// Writes bytes as digits into a place twice as long.
pub(crate) fn hex_in<'a>(bytes: &[u8], digits: &'a mut [u8]) -> &'a str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    std::str::from_utf8(digits).expect("digits are text")
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
        .with_help("a lock name is 1 to 512 bytes of UTF-8 without control characters")
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl AsRef<str> for LockName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for LockName {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        Self::new(s)
    }
}

impl TryFrom<&str> for LockName {
    type Error = Error;
    fn try_from(s: &str) -> Result<Self, Error> {
        Self::new(s)
    }
}

impl TryFrom<String> for LockName {
    type Error = Error;
    fn try_from(s: String) -> Result<Self, Error> {
        Self::new(s)
    }
}

impl TryFrom<&String> for LockName {
    type Error = Error;
    fn try_from(s: &String) -> Result<Self, Error> {
        Self::new(s)
    }
}

impl From<&LockName> for LockName {
    fn from(name: &LockName) -> Self {
        name.clone()
    }
}

impl<'de> Deserialize<'de> for LockName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Self::new(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_to_512_bytes_without_controls_are_taken() {
        for good in [
            "a",
            "/",
            "..",
            ".",
            "CON",
            "dot. ",
            "{",
            "}",
            "{}",
            "a}b",
            "{a}{b}",
            "*?[]",
            "a:b",
            "é",
            "e\u{301}",
            "\u{202e}rtl",
            "zero\u{200b}width",
            "🦀",
            "A",
            &"x".repeat(512),
        ] {
            assert_eq!(LockName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn other_names_are_refused_with_a_reason() {
        for bad in [
            "",
            "\0",
            "a\nb",
            "a\r",
            "\t",
            "\u{7f}",
            "\u{1b}[31m",
            "\u{85}",
            &"x".repeat(513),
            &"x".repeat(1 << 20),
        ] {
            assert_eq!(LockName::new(bad).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn names_that_look_alike_are_different_locks() {
        assert_ne!(LockName::new("é").unwrap(), LockName::new("e\u{301}").unwrap());
        assert_ne!(LockName::new("a").unwrap(), LockName::new("A").unwrap());
    }

    #[test]
    fn paths_that_lead_to_one_file_are_one_lock() {
        let here = LockName::from_path("/usr/./bin/../lib").unwrap();
        assert_eq!(here, LockName::from_path("/usr/lib/").unwrap());
        let long = LockName::from_path(format!("/{}", "x/".repeat(600))).unwrap();
        assert!(long.as_str().len() <= LockName::MAX_LEN);
        assert!(LockName::from_path("").is_err());
    }
}
