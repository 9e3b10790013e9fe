//! Single arguments: text in, a valid value or a typed complaint out. Nothing here does I/O.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use tenure::backend::Reason;
use tenure::{Conflict, Details, Error, ErrorKind, LockName, Owner, Priority, Result, Ttl};

const DURATIONS: &str = "write a number with its unit: 30s, 1m30s, 2h 30m, 1d or PT30S";

/// A lock's name.
pub(crate) fn lock_name(text: OsString) -> Result<LockName> {
    LockName::new(utf8(text, "a lock name")?)
}

/// The beginning of lock names: any text that a name can begin with.
pub(crate) fn prefix(text: OsString) -> Result<String> {
    let prefix = utf8(text, "a prefix")?;
    if !prefix.is_empty() {
        LockName::new(&prefix)?;
    }
    Ok(prefix)
}

/// The key of a call that runs once: any text.
pub(crate) fn once_key(text: OsString) -> Result<String> {
    utf8(text, "a key")
}

fn utf8(text: OsString, what: &str) -> Result<String> {
    text.into_string().map_err(|_| {
        invalid(format!("{what} is UTF-8 text, this one is not"))
            .with_help("for the lock of a file with such a name, make one up and keep to it")
    })
}

/// A duration with its unit; days count 24 hours.
pub(crate) fn duration(text: &str) -> Result<Duration> {
    // Zero is the same in every unit.
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.trim().parse::<f64>().is_ok() {
        return Err(
            invalid(format!("the unit of {} is missing", quoted(text))).with_help(DURATIONS)
        );
    }
    let not_understood =
        || invalid(format!("{} is not a duration", quoted(text))).with_help(DURATIONS);
    let span: Span = text.parse().map_err(|_| not_understood())?;
    let days = SpanRelativeTo::days_are_24_hours();
    let duration: SignedDuration = span.to_duration(days).map_err(|_| {
        invalid(format!("{} has no fixed length", quoted(text))).with_help(DURATIONS)
    })?;
    Duration::try_from(duration)
        .map_err(|_| invalid(format!("{} is below zero", quoted(text))).with_help(DURATIONS))
}

/// A lease's ttl.
pub(crate) fn ttl(text: &str) -> Result<Duration> {
    Ttl::new(duration(text)?).map(Ttl::get)
}

/// A number of permits.
pub(crate) fn permits(text: &str) -> Result<u32> {
    match text.parse() {
        Ok(0) => Err(invalid("there is at least 1 permit")),
        Ok(permits) => Ok(permits),
        Err(_) => Err(invalid(format!("{} is not a number of permits", quoted(text)))
            .with_help("a whole number from 1 to 4294967295")),
    }
}

/// A number of retries.
pub(crate) fn retries(text: &str) -> Result<u32> {
    match text.parse() {
        Ok(retries) if retries < u32::MAX => Ok(retries),
        _ => Err(invalid(format!("{} is not a number of retries", quoted(text)))),
    }
}

/// A head start in the queue.
pub(crate) fn priority(text: &str) -> Result<i32> {
    let points = text.parse().map_err(|_| {
        invalid(format!("{} is not a priority", quoted(text)))
            .with_help("a whole number from -1000 to 1000; each point counts as 30 s of waiting")
    })?;
    Priority::new(points).map(Priority::get)
}

/// An owner's label.
pub(crate) fn owner(text: &str) -> Result<String> {
    Owner::labelled(text)?;
    Ok(text.to_owned())
}

/// Why a lock is taken from its holder.
pub(crate) fn reason(text: &str) -> Result<String> {
    Reason::new(Arc::from(""), text)?;
    Ok(text.to_owned())
}

/// JSON that others can read.
pub(crate) fn metadata(text: &str) -> Result<serde_json::Value> {
    let metadata = serde_json::from_str(text).map_err(|e| {
        invalid(format!("this is not JSON: {e}")).with_help(r#"for example '{"build": 42}'"#)
    })?;
    Details::of(Owner::this_process()).with_metadata(&metadata)?;
    Ok(metadata)
}

/// What to do when somebody else holds the lock.
pub(crate) fn conflict(text: &str) -> Result<Conflict> {
    match text {
        "wait" => return Ok(Conflict::Wait),
        "fail" => return Ok(Conflict::Fail),
        "force" => return Ok(Conflict::Force),
        "steal-stale" => return Ok(steal_stale(Conflict::STALE_AFTER)),
        _ => {}
    }
    match text.strip_prefix("steal-stale=") {
        Some(after) => duration(after).map(steal_stale),
        None => Err(invalid(format!("{} is no strategy", quoted(text)))
            .with_help("wait, fail, steal-stale, steal-stale=DUR or force")),
    }
}

fn steal_stale(after: Duration) -> Conflict {
    Conflict::StealStale { after }
}

/// An exit code.
pub(crate) fn exit_code(text: &str) -> Result<u8> {
    text.parse().map_err(|_| {
        invalid(format!("{} is not an exit code", quoted(text)))
            .with_help("a whole number from 0 to 255")
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

/// The text in quotes, shortened: it may be long, and hold anything.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        for (text, millis) in [
            ("0", 0),
            ("100ms", 100),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("2h 30m", 9_000_000),
            ("1.5s", 1_500),
            ("1d", 86_400_000),
            ("PT30S", 30_000),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for bad in [
            "",
            " ",
            "5",
            "-5s",
            "5 S",
            "1e999",
            "NaN",
            "inf",
            "1mo",
            "5m5m",
            "999999999999h",
            "🎉",
        ] {
            let error = duration(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
            assert!(error.help().unwrap().contains("30s"), "{bad}");
        }
    }

    #[test]
    fn strategies_are_read() {
        assert_eq!(conflict("wait").unwrap(), Conflict::Wait);
        assert_eq!(conflict("steal-stale=90s").unwrap(), steal_stale(Duration::from_secs(90)));
        for bad in ["", "steal", "steal-stale=", "steal-stale=90", "FORCE"] {
            assert!(conflict(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_text_is_shortened_in_complaints() {
        let error = duration(&"\u{1b}".repeat(100_000)).unwrap_err();
        assert!(error.message().len() < 400);
        assert!(!error.message().contains('\u{1b}'));
    }
}
