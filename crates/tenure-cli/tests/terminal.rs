//! What somebody at a terminal sees.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::Site;
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const DEADLINE: Duration = Duration::from_secs(30);

/// The other end of a program's terminal.
struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
    child: Child,
}

impl Terminal {
    /// Starts a program whose stdin and stderr are a terminal.
    fn start(site: &Site, arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::from(open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap());
        let mut command = site.command(arguments);
        command.env("TERM", "xterm").stdin(slave.try_clone().unwrap()).stderr(slave);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        drop(command);
        let keyboard = File::from(master);
        let mut from = keyboard.try_clone().unwrap();
        let (send, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Fails when the program has closed the terminal.
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                if send.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keyboard, screen, seen: String::new(), child }
    }

    /// Waits until the text was on the screen.
    fn until(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let more = self.screen.recv_timeout(DEADLINE);
            let more = more.unwrap_or_else(|e| panic!("{e}: no {text:?} in {:?}", self.seen));
            self.seen += &String::from_utf8_lossy(&more);
        }
    }

    fn type_line(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn end(mut self) -> (i32, String) {
        while let Ok(more) = self.screen.recv_timeout(DEADLINE) {
            self.seen += &String::from_utf8_lossy(&more);
        }
        (self.child.wait().unwrap().code().unwrap(), self.seen.clone())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn somebody_who_waits_sees_for_whom_and_since_when() {
    let site = Site::new();
    let holder = site.hold("x", &["--owner", "ann"]);
    let mut waiter = Terminal::start(&site, &["run", "x", "--", "true"]);
    waiter.until("waiting for \"x\": next, held by ann since ");
    let mut second = Terminal::start(&site, &["run", "x", "--", "true"]);
    second.until("1 ahead, held by ann");
    holder.end();
    let (code, seen) = waiter.end();
    assert_eq!(code, 0, "{seen}");
    assert_eq!(second.end().0, 0);
}

#[test]
fn the_end_of_the_wait_is_seen_on_80_columns() {
    let site = Site::new();
    let name = "a-name-that-is-longer-than-what-a-terminal-leaves-for-it/orders/42";
    let owner = "an-owner-whose-name-is-long";
    let _holder = site.hold(name, &["--owner", owner]);
    let mut waiter = Terminal::start(&site, &["run", name, "--", "true"]);
    waiter.until("Z until ");
    let from = waiter.seen.find("waiting for \"a-name").unwrap();
    waiter.until("\u{1b}");
    let line = waiter.seen[from..].split(['\r', '\u{1b}']).next().unwrap().trim_end();
    assert!(line.ends_with('Z') && line.contains("…"), "{line:?}");
    assert!(line.chars().count() <= 78, "{line:?}");
}

#[test]
fn whoever_asks_for_quiet_sees_nothing() {
    let site = Site::new();
    let _holder = site.hold("x", &[]);
    let waiter = Terminal::start(&site, &["run", "-q", "-w", "300ms", "x", "--", "true"]);
    assert_eq!(waiter.end(), (75, String::new()));
}

#[test]
fn errors_are_coloured_unless_somebody_minds() {
    let site = Site::new();
    let (code, seen) = Terminal::start(&site, &["status", ""]).end();
    assert_eq!(code, 64);
    assert!(seen.contains("\u{1b}[1;31merror:\u{1b}[0m"), "{seen:?}");
    let mut plain = Terminal::start(&site, &["run", "-q", "x", "--ttl", "5", "--", "true"]);
    plain.until("error:");
    let mut command = site.command(["status", ""]);
    let done = common::done(command.env("NO_COLOR", "1").env("TERM", "xterm"));
    assert!(!done.stderr.contains('\u{1b}'));
}

#[test]
fn force_release_asks_for_the_name() {
    let site = Site::new();
    let _holder = site.hold("orders/42", &["--owner", "ann"]);
    let words = ["force-release", "orders/42", "--reason", "test"];
    let mut wrong = Terminal::start(&site, &words);
    wrong.until("held by  ann");
    wrong.until("Type the name of the lock to go on: ");
    wrong.type_line("orders/43");
    let (code, seen) = wrong.end();
    assert_eq!(code, 64, "{seen}");
    assert!(seen.contains("nothing was changed"), "{seen}");
    assert!(!site.is_free("orders/42"));
    let mut right = Terminal::start(&site, &words);
    right.until("Type the name of the lock to go on: ");
    right.type_line("orders/42");
    let (code, seen) = right.end();
    assert_eq!(code, 0, "{seen}");
    assert!(site.is_free("orders/42"));
}
