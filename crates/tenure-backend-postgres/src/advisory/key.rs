//! Which advisory lock a name is.

use tenure_core::LockName;

/// What a name begins with that addresses a given advisory lock: `key:42`.
const GIVEN: &str = "key:";

/// The number of an advisory lock, of those with one number of 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key(pub(crate) i64);

impl Key {
    /// The first eight bytes of the name's SHA-256, the first one highest; or the number that is
    /// given, in its only spelling.
    pub(crate) fn of(name: &LockName) -> Self {
        let given = name.as_str().strip_prefix(GIVEN);
        if let Some(text) = given
            && let Ok(key) = text.parse::<i64>()
            && key.to_string() == text
        {
            return Self(key);
        }
        let hash = name.sha256();
        Self(i64::from_be_bytes(*hash.first_chunk().expect("it has 32 bytes")))
    }
}

/// The same in SQL, for `psql` and programs without this library.
pub(crate) fn sql(name: &LockName) -> String {
    let key = Key::of(name);
    if name.as_str().strip_prefix(GIVEN) == Some(&key.0.to_string()) {
        return key.0.to_string();
    }
    let quoted = name.as_str().replace('\'', "''");
    format!(
        "('x' || left(encode(sha256(convert_to('{quoted}', 'UTF8')), 'hex'), 16))::bit(64)::bigint"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> i64 {
        Key::of(&LockName::new(name).expect("a valid name")).0
    }

    #[test]
    fn a_name_is_its_hash_and_a_key_is_itself() {
        // echo -n orders/42 | sha256sum
        assert_eq!(key("orders/42"), -4_261_225_075_031_449_721);
        assert_eq!(key("key:42"), 42);
        assert_eq!(key(&format!("key:{}", i64::MIN)), i64::MIN);
        for other in ["key:042", "key:+42", "key:", "key:9223372036854775808", "key: 42"] {
            assert_ne!(key(other), 42, "{other}");
        }
        let name = LockName::new("it's").expect("a valid name");
        assert!(sql(&name).contains("'it''s'"));
        assert_eq!(sql(&LockName::new("key:-7").expect("a valid name")), "-7");
    }
}
