//! The addresses of independent servers that vote.

use std::time::Duration;

use tenure_core::{Error, ErrorKind, Result};

use super::{RedisConfig, parts, with_port};

impl RedisConfig {
    /// Reads the address of a set of independent servers, as one configuration each, and the longest
    /// ttl of a lease if it is named:
    ///
    /// - `redlock://[[user]:password@]host[:port],host[:port],host[:port][/db]`, or `redlocks://…` over
    ///   TLS, with the parameters of `redis://`, and `?max_ttl=60s`
    ///
    /// # Errors
    /// `Invalid` if it is not understood; the message never repeats a password.
    pub fn of_voters(url: &str) -> Result<(Vec<Self>, Option<Duration>)> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) = match address.split_once("://") {
            Some(("redlock", rest)) => ("redis", rest),
            Some(("redlocks", rest)) => ("rediss", rest),
            _ => return Err(invalid("it does not begin with `redlock://`")),
        };
        let (mut longest, mut others) = (None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("max_ttl", text)) => {
                    let ttl = duration(text).ok_or_else(|| {
                        invalid("`max_ttl` is a time of 100 ms to an hour, as in `60s`")
                    })?;
                    longest = Some(ttl);
                }
                Some(("min_replicas", _)) => {
                    return Err(invalid("its servers have no replicas to wait for"));
                }
                _ => others.push(pair),
            }
        }
        let (user, hosts, path) = parts(rest);
        let query =
            if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
        let db = if path.is_empty() { String::new() } else { format!("/{path}") };
        if hosts.iter().any(|host| host.is_empty()) {
            return Err(invalid("one of its hosts has no name"));
        }
        let one = |host: &&str| {
            Self::from_url(&format!("{scheme}://{user}{}{db}{query}", with_port(host, 6379)))
        };
        Ok((hosts.iter().map(one).collect::<Result<_>>()?, longest))
    }
}

/// A time of a number and `ms`, `s`, `m` or `h`.
fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let ttl = Duration::from_millis(number.checked_mul(millis)?);
    (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&ttl).then_some(ttl)
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("the address of a Redlock is not understood: {what}"))
        .with_help("for example `redlock://a:6379,b:6379,c:6379?max_ttl=60s`")
        .with_nothing_changed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_what_is_said_of_all_of_them() {
        let url = "redlock://u:secret@a,b:7,[::1]:8/2?prefix=p&max_ttl=2s";
        let (configs, longest) = RedisConfig::of_voters(url).expect("it is understood");
        let shown: Vec<_> = configs.iter().map(RedisConfig::masked).collect();
        assert_eq!(shown, ["redis://a:6379/2", "redis://b:7/2", "redis://[::1]:8/2"]);
        assert!(configs.iter().all(|c| c.prefix == "p" && c.user() == "u"));
        assert_eq!(longest, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_not_understood_is_refused_without_repeating_a_password() {
        for bad in [
            "redlock:secret",
            "redlock://:secret@a,,b",
            "redlock://:secret@a,b,c?max_ttl=secret",
            "redlock://:secret@a,b,c?max_ttl=0s",
            "redlock://:secret@a,b,c?max_ttl=2h",
            "redlock://:secret@a,b,c?min_replicas=1",
            "redlock://:secret@a,b,c:secret",
            "redlock://:secret@a,b,c?x=secret",
        ] {
            let error = RedisConfig::of_voters(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }
}
