//! `tenure acquire`, `renew` and `release`: locks that outlive the process, by their token.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use tenure::{Actor, ErrorKind, Fence, LockManager, LockName, LockToken, NotReleased};

use super::hold::{Acquired, close, signalled};
use crate::app::App;
use crate::args::{Acquire, Release, Renew, TokenSource};
use crate::child::Signals;
use crate::failure::{Failure, Outcome, WHO_HOLDS_IT, code};
use crate::output::text::{self, safe};

const VARIABLE: &str = "TENURE_TOKEN";
/// The token file that is stdin or stdout.
const STREAM: &str = "-";
/// Longer than every token: the longest name as hex digits, and numbers.
const LONGEST: u64 = 4096;

#[derive(Serialize)]
struct Acquisition<'a> {
    name: &'a str,
    store: &'a str,
    owner: &'a str,
    fence: Fence,
    ttl_ms: u64,
    /// The secret, unless it was written to `token_file`.
    token: Option<String>,
    token_file: Option<String>,
}

#[derive(Serialize)]
struct Done<'a> {
    name: &'a str,
    store: &'a str,
    fence: Fence,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
}

pub(crate) async fn acquire(app: &App, args: Acquire) -> Outcome {
    let name = &args.hold.name.name;
    let seats = args.hold.seats()?;
    if let Some(path) = args.file()
        && path.symlink_metadata().is_ok()
    {
        // Again when it is made; here so that nobody waits for a lock in vain.
        let there = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(cannot_write(path, &there).lock(name.as_str()));
    }
    let locks = app.open(name.as_str(), args.hold.owner(app))?;
    let can = locks.capabilities();
    if !can.detached {
        let message = format!("locks of the {} store end with their process", can.kind);
        return Err(Failure::new(code::USAGE, ErrorKind::Unsupported.as_str(), message)
            .lock(name.as_str())
            .help("hold it while a command runs: `tenure run NAME -- COMMAND`"));
    }
    let mut signals = Signals::new()
        .map_err(|e| Failure::new(code::OS, "system", "signals cannot be caught").cause(e))?;
    // Nobody promises to renew it: others may judge its silence by what they were told themselves.
    let renew = false;
    let actor = Actor::from_environment();
    let acquired =
        args.hold.acquire(app, &locks, seats, actor.as_ref(), renew, &mut signals).await?;
    let guard = match acquired {
        Acquired::Held(guard) => guard,
        Acquired::Signalled(signal) => return Ok(signalled(signal)),
    };
    let owner = guard.owner().label.clone();
    let token = match guard.into_token().await {
        Ok(token) => token,
        Err(error) => {
            close(app, &locks).await;
            return Err(error.into());
        }
    };
    if let Err(failure) = hand_out(app, &args, &locks, &owner, &token) {
        // A token that nobody got would keep the lock for nothing.
        let _ = locks.release_token(&token).await;
        return Err(failure);
    }
    Ok(0)
}

impl Acquire {
    /// The file that the token goes to instead of stdout.
    fn file(&self) -> Option<&Path> {
        self.token_file.as_deref().filter(|path| *path != Path::new(STREAM))
    }
}

fn hand_out(
    app: &App,
    args: &Acquire,
    locks: &LockManager,
    owner: &str,
    token: &LockToken,
) -> Outcome<()> {
    let secret = token.expose();
    let file = args.file();
    if let Some(path) = file {
        write_new(path, &secret).map_err(|e| cannot_write(path, &e).lock(token.name().as_str()))?;
    }
    let body = Acquisition {
        name: token.name().as_str(),
        store: &locks.store(),
        owner,
        fence: token.fencing_token(),
        ttl_ms: crate::output::millis(token.ttl()),
        token: file.is_none().then(|| secret.clone()),
        token_file: file.map(|path| path.display().to_string()),
    };
    let printed = app.output.answer("token", &body, || match file {
        Some(_) => String::new(),
        None => format!("{secret}\n"),
    });
    if printed.is_err()
        && let Some(path) = file
    {
        // It is released in a moment, and the file of no use.
        let _ = std::fs::remove_file(path);
    }
    printed
}

/// Writes a file that is not there yet and that nobody else can read.
fn write_new(path: &Path, secret: &str) -> io::Result<()> {
    // `create_new` follows no links.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(format!("{secret}\n").as_bytes());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}

fn cannot_write(path: &Path, error: &io::Error) -> Box<Failure> {
    let message = format!("cannot make the token file {}", path.display());
    let failure = Failure::new(code::CANNOT_CREATE, "token_file", message).cause(error);
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            failure.help("it may be the token of another lock: release that, or name another file")
        }
        _ => failure.help("name a file in a directory that is there and may be written to"),
    }
}

pub(crate) async fn renew(app: &App, args: Renew) -> Outcome {
    let token = read(&args.token, &args.name.name)?;
    let locks = app.open(token.name().as_str(), None)?;
    let ttl = args.ttl.unwrap_or(token.ttl());
    let renewed = locks.renew_token(&token, ttl).await?;
    let body = Done {
        name: token.name().as_str(),
        store: &locks.store(),
        fence: renewed.fencing_token(),
        ttl_ms: Some(crate::output::millis(ttl)),
    };
    app.output.answer("renewed", &body, || {
        format!("{}: renewed for {}\n", safe(body.name), text::duration(ttl))
    })?;
    Ok(0)
}

pub(crate) async fn release(app: &App, args: Release) -> Outcome {
    let token = read(&args.token, &args.name.name)?;
    let locks = app.open(token.name().as_str(), None)?;
    let name = token.name().as_str();
    match locks.release_token(&token).await {
        Ok(()) => {}
        Err(NotReleased::AlreadyLost(reason)) => {
            let message = format!("releasing {name:?}: it was not held any more: {reason}");
            return Err(Failure::new(code::LOST, ErrorKind::Lost.as_str(), message)
                .lock(name)
                .help(WHO_HOLDS_IT));
        }
        Err(not) => return Err(tenure::Error::from(not).with_lock(token.name()).into()),
    }
    let body = Done { name, store: &locks.store(), fence: token.fencing_token(), ttl_ms: None };
    app.output.answer("released", &body, || format!("{}: released\n", safe(name)))?;
    Ok(0)
}

/// The token of the lock `name`, from where it is said to be.
fn read(source: &TokenSource, name: &LockName) -> Outcome<LockToken> {
    let text = match &source.token_file {
        Some(path) => read_file(path)?,
        None => match std::env::var(VARIABLE) {
            Ok(token) if !token.is_empty() => token,
            _ => {
                return Err(Failure::usage("there is no token")
                    .lock(name.as_str())
                    .help(format!("name its file by --token-file, or set {VARIABLE}")));
            }
        },
    };
    let token: LockToken = text.parse()?;
    if token.name() != name {
        return Err(Failure::usage(format!(
            "the token is that of another lock: {:?}",
            token.name()
        ))
        .lock(name.as_str()));
    }
    Ok(token)
}

fn read_file(path: &Path) -> Outcome<String> {
    let mut text = String::new();
    let read = if path == Path::new(STREAM) {
        io::stdin().lock().take(LONGEST).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text))
    };
    match read {
        Ok(_) => Ok(text),
        Err(e) => {
            let message = format!("cannot read the token file {}", path.display());
            Err(Failure::new(code::NO_INPUT, "token_file", message).cause(e).help(
                "name the file that `tenure acquire NAME --token-file FILE` made, or - for stdin",
            ))
        }
    }
}
