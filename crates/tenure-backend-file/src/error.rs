//! What an error of the file system means for a lock: the one place where it is decided.

use std::path::Path;

use rustix::io::Errno;
use tenure_core::{Error, ErrorKind};

/// The error of a file operation: `doing` says what was tried, `path` on what.
pub(crate) fn io(errno: Errno, doing: &str, path: &Path) -> Error {
    let (kind, why, help) = meaning(errno);
    let why = why.map_or_else(|| errno.to_string(), str::to_owned);
    let message = format!("cannot {doing} {}: {why}", path.display());
    let error = Error::new(kind, message).with_source(errno);
    match help {
        Some(help) => error.with_help(help),
        None => error,
    }
}

/// Something that stands where this backend's own file should be, or is not as it left it.
pub(crate) fn corrupt(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{} {what}", path.display()))
        .with_help("nothing was changed; `ls -la` there shows what it is")
}

/// A file that somebody else owns.
pub(crate) fn foreign(path: &Path, uid: u32) -> Error {
    let message =
        format!("{} belongs to user {uid}, who is neither this user nor root", path.display());
    Error::new(ErrorKind::Denied, message)
        .with_help("a lock directory for several users is opened with `?shared=true`")
}

type Meaning = (ErrorKind, Option<&'static str>, Option<&'static str>);

fn meaning(errno: Errno) -> Meaning {
    match errno {
        Errno::NOSPC | Errno::DQUOT => (
            ErrorKind::Unreachable,
            Some("the disk is full"),
            Some("free some space; a lock that is held ends by its ttl meanwhile"),
        ),
        Errno::FBIG => (ErrorKind::Unreachable, None, Some("see `ulimit -f`")),
        Errno::ROFS => (ErrorKind::Denied, Some("the file system is read-only"), None),
        Errno::ACCESS | Errno::PERM => (
            ErrorKind::Denied,
            None,
            Some("the lock directory and its files have to be writable for this user"),
        ),
        Errno::MFILE => (
            ErrorKind::Unreachable,
            Some("this process has too many open files"),
            Some("raise its limit, see `ulimit -n`"),
        ),
        Errno::NFILE | Errno::NOMEM => {
            (ErrorKind::Unreachable, Some("the system is out of file descriptors or memory"), None)
        }
        Errno::NOENT => (
            ErrorKind::Unreachable,
            Some("it is not there, or was removed while it was in use"),
            Some("connect again if the lock directory was removed or replaced"),
        ),
        Errno::STALE
        | Errno::IO
        | Errno::TIMEDOUT
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::NODEV
        | Errno::NOTCONN => (ErrorKind::Unreachable, None, None),
        Errno::INTR | Errno::AGAIN | Errno::BUSY => (ErrorKind::Unreachable, None, None),
        Errno::NOTDIR => (ErrorKind::Corrupt, Some("it is not a directory"), None),
        Errno::LOOP => (
            ErrorKind::Corrupt,
            Some("it is a symbolic link"),
            Some("symbolic links are not followed here; see who put it there"),
        ),
        Errno::NXIO => (ErrorKind::Corrupt, Some("it is a pipe or a socket"), None),
        Errno::ISDIR => (ErrorKind::Corrupt, Some("it is a directory"), None),
        Errno::EXIST | Errno::NOTEMPTY => (ErrorKind::Corrupt, None, None),
        Errno::NAMETOOLONG | Errno::INVAL => (ErrorKind::Invalid, None, None),
        Errno::NOSYS | Errno::OPNOTSUPP | Errno::XDEV | Errno::NOLCK => (
            ErrorKind::Unsupported,
            None,
            Some("this file system cannot do what locks need; use a directory on a local one"),
        ),
        // The kernel may add more; none of them says that anything was changed.
        _ => (ErrorKind::Unreachable, None, None),
    }
}

/// Whether a call that failed so may have taken effect all the same, as calls over a network can.
pub(crate) fn is_ambiguous(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::IO
            | Errno::TIMEDOUT
            | Errno::STALE
            | Errno::NOENT
            | Errno::INTR
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::NOTCONN
            | Errno::CONNRESET
    )
}
