//! What errors of the server and of the connection mean.

use redis::{ErrorKind as Kind, RedisError, ServerErrorKind as Server};
use tenure_core::{Error, ErrorKind};

/// The store did not answer, and the request was not sent.
pub(crate) fn not_sent(error: &RedisError) -> Error {
    match denied(error).or_else(|| misaddressed(error)) {
        Some(refused) => refused.with_nothing_changed(),
        None if error.kind() == Kind::Parse => {
            Error::new(ErrorKind::Unreachable, "what answers there is no Redis server")
                .with_help("are host and port right? A server that wants TLS is `rediss://`")
                .with_source(error.clone())
                .with_nothing_changed()
        }
        None => Error::new(ErrorKind::Unreachable, format!("no connection: {}", words(error)))
            .with_help("is the server running, and its address right?")
            .with_source(error.clone())
            .with_nothing_changed(),
    }
}

/// A request that was sent failed.
pub(crate) fn failed(error: &RedisError) -> Error {
    if let Some(denied) = denied(error) {
        // A script may have got that far.
        return if is_in_script(error) { denied } else { denied.with_nothing_changed() };
    }
    if let Some(misaddressed) = misaddressed(error) {
        return misaddressed.with_nothing_changed();
    }
    let code = error.code().unwrap_or_default();
    let changed_nothing = |kind, message: String| {
        Error::new(kind, message).with_source(error.clone()).with_nothing_changed()
    };
    match (error.kind(), code) {
        (_, "WRONGTYPE") => changed_nothing(
            ErrorKind::Corrupt,
            "the lock's key is of another type: another program uses it for something else".into(),
        ),
        (_, "OOM") => changed_nothing(
            ErrorKind::Unreachable,
            "the server is at its memory limit and takes no more".into(),
        ),
        (_, "LOADING" | "BUSY" | "MISCONF" | "MASTERDOWN" | "READONLY" | "NOREPLICAS")
        | (_, "CLUSTERDOWN" | "MOVED" | "UNBLOCKED") => {
            changed_nothing(ErrorKind::Unreachable, format!("the server refused: {}", words(error)))
        }
        (_, "TRYAGAIN" | "ASK") => changed_nothing(
            ErrorKind::Unreachable,
            "the slot of this lock is being moved to another node".into(),
        ),
        // A script may have got that far, and a slot only moves for a moment.
        _ if is_moving(error) => {
            Error::new(ErrorKind::Unknown, "the lock was being moved to another node")
                .with_source(error.clone())
        }
        (Kind::Server(Server::CrossSlot), _) => changed_nothing(
            ErrorKind::Invalid,
            "the keys of one lock lie in different slots".into(),
        ),
        (Kind::Server(_) | Kind::Extension, _) if error.to_string().contains("WRONGTYPE") => {
            changed_nothing(
                ErrorKind::Corrupt,
                "a key of the lock is of another type: another program uses it".into(),
            )
        }
        (Kind::Server(_) | Kind::Extension, _) => Error::new(
            ErrorKind::Corrupt,
            format!("the server could not take the turn: {}", words(error)),
        )
        .with_source(error.clone()),
        _ => Error::new(ErrorKind::Unknown, format!("no answer: {}", words(error)))
            .with_source(error.clone()),
    }
}

/// Whether a script was cut short because a key of its lock was being moved to another node.
pub(crate) fn is_moving(error: &RedisError) -> bool {
    error.detail().is_some_and(|words| words.contains("access a non local key"))
}

/// The answer cannot be understood.
pub(crate) fn strange(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the server's answer is not understood: {what}"))
        .with_help("is something between here and the server, or another version of tenure?")
}

fn denied(error: &RedisError) -> Option<Error> {
    let code = error.code().unwrap_or_default();
    let is_denied = error.kind() == Kind::AuthenticationFailed
        || matches!(code, "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED")
        || is_in_script(error);
    is_denied.then(|| {
        let (message, help) = if code == "NOAUTH" || words(error).contains("NOAUTH") {
            (
                "the server wants a password".to_owned(),
                "name it in the address, `redis://:password@host`, or in REDIS_PASSWORD",
            )
        } else {
            (
                format!("the server refused this user: {}", words(error)),
                "check user and password, and the commands and keys its ACL allows",
            )
        };
        Error::new(ErrorKind::Denied, message).with_help(help).with_source(error.clone())
    })
}

/// What the server says where the address asks for something that it has not.
fn misaddressed(error: &RedisError) -> Option<Error> {
    let said = words(error);
    let (what, help) = if said.contains("cluster support disabled") {
        (
            "the server is not part of a cluster",
            "the address of a single server is `redis://host:port`, without `+cluster`",
        )
    } else if said.contains("refused to switch database") || said.contains("index is out of range")
    {
        (
            "the server has no database of this number",
            "`redis-cli CONFIG GET databases` says how many there are; the first is 0",
        )
    } else {
        return None;
    };
    Some(Error::new(ErrorKind::Invalid, what).with_help(help).with_source(error.clone()))
}

/// Whether a script was denied a command that it needs.
fn is_in_script(error: &RedisError) -> bool {
    error.detail().is_some_and(|words| {
        words.contains("The user executing the script") || words.contains("ACL failure in script")
    })
}

/// What the library says, on one line.
fn words(error: &RedisError) -> String {
    error.to_string().replace(|c: char| c.is_control(), " ")
}
