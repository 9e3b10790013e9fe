//! What errors of the server and of the connection mean.

use tenure_core::{Error, ErrorKind};
use tokio_postgres::error::{DbError, Severity};

/// What the server said about a statement, by its code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    /// This user may not.
    Denied,
    /// Something that is to be on the server is not there.
    Missing,
    /// The server cannot do that at all.
    Unsupported,
    /// It is full, starts, shuts down, or only reads: later, or elsewhere.
    Unavailable,
    /// It gave way to somebody else: at once again.
    GaveWay,
    /// It was cancelled, or waited for too long.
    Cancelled,
    /// Waiting would never have ended.
    Deadlock,
    /// The session ends; what its last statement did is not known.
    SessionEnds,
    /// What is on the server, or what we sent, is not what it has to be.
    Strange,
}

/// What a code (SQLSTATE) means.
pub(crate) fn meaning(code: &str) -> Meaning {
    match code {
        "42501" => return Meaning::Denied,
        "3D000" | "3F000" | "42P01" | "42883" | "42703" | "42704" => return Meaning::Missing,
        "25006" | "57P03" | "55000" => return Meaning::Unavailable,
        "40P01" => return Meaning::Deadlock,
        "55P03" | "57014" => return Meaning::Cancelled,
        "25P03" | "57P01" | "57P02" | "57P04" | "57P05" => return Meaning::SessionEnds,
        _ => {}
    }
    match code.get(..2).unwrap_or_default() {
        "28" => Meaning::Denied,
        "0A" => Meaning::Unsupported,
        "53" | "58" => Meaning::Unavailable,
        "40" => Meaning::GaveWay,
        "08" | "57" => Meaning::SessionEnds,
        _ => Meaning::Strange,
    }
}

/// No connection could be made; nothing was sent.
pub(crate) fn not_connected(error: tokio_postgres::Error) -> Error {
    let words = words(&error);
    let (kind, help) = match error.as_db_error().map(|e| meaning(e.code().code())) {
        Some(Meaning::Denied) => {
            (ErrorKind::Denied, "check user and password, and what pg_hba.conf lets in")
        }
        Some(Meaning::Missing) => (ErrorKind::Invalid, "does the database exist?"),
        Some(_) => (ErrorKind::Unreachable, "the server is there and takes no connection"),
        None if words.contains("TLS") => (
            ErrorKind::Denied,
            "does the server speak TLS, and does its certificate fit `sslmode` and `sslrootcert`?",
        ),
        None => (ErrorKind::Unreachable, "is the server running, and its address right?"),
    };
    Error::new(kind, format!("no connection: {words}"))
        .with_help(help)
        .with_source(error)
        .with_nothing_changed()
}

/// A statement that was sent failed. What it did was rolled back if the server says why, but for
/// session locks, which no rollback gives back.
pub(crate) fn failed(error: tokio_postgres::Error) -> Error {
    let words = words(&error);
    let Some(said) = error.as_db_error() else {
        return Error::new(ErrorKind::Unknown, format!("no answer: {words}")).with_source(error);
    };
    let rolled_back = was_rolled_back(said);
    let (kind, message, help) = match meaning(said.code().code()) {
        Meaning::Denied => (
            ErrorKind::Denied,
            format!("the server refused this user: {words}"),
            "grant what it names to the user of the connection",
        ),
        Meaning::Missing => (
            ErrorKind::Unsupported,
            format!("something is not on the server: {words}"),
            "install it, or check the schema, the database and the server's version",
        ),
        Meaning::Unsupported => (
            ErrorKind::Unsupported,
            format!("the server cannot do that: {words}"),
            "PostgreSQL 14 or newer is needed",
        ),
        Meaning::Unavailable | Meaning::GaveWay => (
            ErrorKind::Unreachable,
            format!("the server refused: {words}"),
            "it may be full, shutting down, or a standby",
        ),
        Meaning::Cancelled => (
            ErrorKind::Unreachable,
            format!("the statement was cancelled: {words}"),
            "is there a statement_timeout or lock_timeout, or somebody who cancels?",
        ),
        Meaning::Deadlock => (
            ErrorKind::Deadlock,
            format!("the server found a deadlock: {words}"),
            "take the locks in one order everywhere",
        ),
        Meaning::SessionEnds => (
            ErrorKind::Unknown,
            format!("the session was ended: {words}"),
            "is the server restarting, or did somebody end the session?",
        ),
        Meaning::Strange => (
            ErrorKind::Corrupt,
            format!("the server could not do it: {words}"),
            "is another version of tenure installed on the server?",
        ),
    };
    let error = Error::new(kind, message).with_help(help).with_source(error);
    if rolled_back { error.with_nothing_changed() } else { error }
}

/// Whether the server rolled the statement back; when the session ends with it, nobody knows.
fn was_rolled_back(said: &DbError) -> bool {
    said.parsed_severity() == Some(Severity::Error)
        && meaning(said.code().code()) != Meaning::SessionEnds
}

/// What code the server gave an error, if it comes from there.
pub(crate) fn code(error: &Error) -> Option<&str> {
    let source = std::error::Error::source(error)?;
    let driver = source.downcast_ref::<tokio_postgres::Error>()?;
    Some(driver.as_db_error()?.code().code())
}

/// No answer came in time, or none at all.
pub(crate) fn no_answer(what: &str) -> Error {
    Error::new(ErrorKind::Unknown, format!("no answer: {what}"))
}

/// The answer cannot be understood.
pub(crate) fn strange(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the server's answer is not understood: {what}"))
        .with_help("is something between here and the server, or another version of tenure?")
}

/// What the library and the server say, on one line. Neither repeats a password.
fn words(error: &tokio_postgres::Error) -> String {
    let words = match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(said), _) => format!("{} ({})", said.message(), said.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    };
    words.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_manual_says() {
        for (code, is) in [
            ("42501", Meaning::Denied),
            ("28P01", Meaning::Denied),
            ("42P01", Meaning::Missing),
            ("0A000", Meaning::Unsupported),
            ("53200", Meaning::Unavailable),
            ("53300", Meaning::Unavailable),
            ("25006", Meaning::Unavailable),
            ("40001", Meaning::GaveWay),
            ("40P01", Meaning::Deadlock),
            ("55P03", Meaning::Cancelled),
            ("57014", Meaning::Cancelled),
            ("57P01", Meaning::SessionEnds),
            ("57P05", Meaning::SessionEnds),
            ("08006", Meaning::SessionEnds),
            ("22P02", Meaning::Strange),
            ("XX000", Meaning::Strange),
            ("", Meaning::Strange),
        ] {
            assert_eq!(meaning(code), is, "{code}");
        }
    }
}
