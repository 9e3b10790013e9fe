//! What was asked for under a key.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tenure_core::{Error, ErrorKind, Result};

use super::key::hex;

/// The SHA-256 of what a call asks for. The same key with another fingerprint is refused, so that
/// nobody gets the answer to another question.
///
/// ```
/// use serde_json::json;
/// use tenure_recipes::once::Fingerprint;
///
/// let a = Fingerprint::of_json(&json!({"force": false, "rows": [1, 2]}))?;
/// let b = Fingerprint::of_json(&json!({"rows": [1, 2], "force": false}))?;
/// assert_eq!(a, b, "the order of keys does not count");
/// # Ok::<(), tenure_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a call that is wholly said by its key. Another than that of every request.
    pub const NONE: Fingerprint = Fingerprint([0; 32]);

    /// Of one piece of bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self::of_parts([bytes])
    }

    /// Of several pieces, kept apart by their lengths.
    pub fn of_parts<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            let part = part.as_ref();
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// Of a value as JSON with the keys of its objects in order.
    ///
    /// # Errors
    /// `Invalid` if it cannot be written as JSON.
    pub fn of_json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self::of(canonical(value)?))
    }

    /// Of an HTTP request: method, path with query, the headers that matter, and its body: a JSON
    /// body as [`Fingerprint::of_json`] reads it, any other byte by byte. The order of headers and
    /// the case of their names do not count.
    pub fn of_request<'a>(
        method: &str,
        path: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        body: &[u8],
    ) -> Self {
        let mut headers: Vec<_> =
            headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        headers.sort();
        let json = serde_json::from_slice::<serde_json::Value>(body).ok();
        let json = json.and_then(|json| canonical(&json).ok());
        let body = json.as_deref().unwrap_or(body);
        let count = headers.len().to_string();
        let mut parts: Vec<&[u8]> = vec![method.as_bytes(), path.as_bytes(), count.as_bytes()];
        for (name, value) in &headers {
            parts.extend([name.as_bytes(), *value]);
        }
        parts.push(body);
        Self::of_parts(parts)
    }

    /// The fingerprint as hex.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex()[..16])
    }
}

fn canonical<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let not_json = |e| Error::new(ErrorKind::Invalid, "this is not JSON").with_source(e);
    let mut value = serde_json::to_value(value).map_err(not_json)?;
    // Objects are sorted as they are, unless some crate asks serde_json to preserve their order.
    value.sort_all_objects();
    serde_json::to_vec(&value).map_err(not_json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_differ_by_each_of_their_parts() {
        let of = |m, p, h: &[(&str, &str)], b: &str| {
            let headers = h.iter().map(|(n, v)| (*n, v.as_bytes()));
            Fingerprint::of_request(m, p, headers, b.as_bytes())
        };
        let one = of("POST", "/a", &[("X-Tenant", "t"), ("b", "c")], r#"{"x":1,"y":2}"#);
        assert_eq!(one, of("POST", "/a", &[("B", "c"), ("x-tenant", "t")], r#"{"y":2, "x":1}"#));
        for other in [
            of("PUT", "/a", &[("x-tenant", "t"), ("b", "c")], r#"{"x":1,"y":2}"#),
            of("POST", "/b", &[("x-tenant", "t"), ("b", "c")], r#"{"x":1,"y":2}"#),
            of("POST", "/a", &[("x-tenant", "u"), ("b", "c")], r#"{"x":1,"y":2}"#),
            of("POST", "/a", &[("x-tenant", "t"), ("b", "c")], r#"{"x":1,"y":3}"#),
            of("POST", "/a", &[("x-tenant", "t")], r#"{"x":1,"y":2}"#),
            of("POST", "/a", &[("x-tenant", "t"), ("b", "c")], "no json"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn pieces_are_kept_apart() {
        assert_ne!(Fingerprint::of_parts(["ab", "c"]), Fingerprint::of_parts(["a", "bc"]));
        assert_ne!(Fingerprint::of(""), Fingerprint::NONE);
        assert_ne!(Fingerprint::of_parts::<&str>([]), Fingerprint::NONE);
    }
}
