//! Replies that no server gives: lies, halves, endless ones.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{ErrorKind, LockManager};
use tenure_testkit::proxy::{Direction, Fault, Mutation};
use tenure_testkit::seed::seed;

use crate::stage::{Ground, LONG, Setup, Stage, X, acquire, backend, now, rounds, until};

/// What a call may take in the face of a lie.
const BOUND: Duration = Duration::from_secs(15);
/// By how much memory may grow.
const MEMORY: u64 = 96 << 20;

/// What a server says to everything but the greeting.
#[derive(Clone, Debug)]
enum Lie {
    Words(Vec<u8>),
    /// The words, and then the end of the connection.
    Last(Vec<u8>),
    /// This again and again, for as long as anybody listens.
    Endless(Vec<u8>),
}

/// A server that greets properly, or not even that, and lies from then on.
struct Liar {
    port: u16,
    stop: Arc<AtomicBool>,
    /// How many connections have ended.
    ended: Arc<AtomicUsize>,
}

impl Liar {
    fn start(lie: Lie, greets: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, ended) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let liar = Self { port, stop: stop.clone(), ended: ended.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, lie) = (stream.unwrap(), lie.clone());
                let (stop, ended) = (stop.clone(), ended.clone());
                std::thread::spawn(move || {
                    // It fails when the other side hangs up.
                    let _ = tell(stream, &lie, greets, &stop);
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        liar
    }

    fn manager(&self) -> LockManager {
        LockManager::new(backend(&format!("redis://127.0.0.1:{}", self.port))).unwrap()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // So that it looks.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn tell(mut stream: TcpStream, lie: &Lie, greets: bool, stop: &AtomicBool) -> std::io::Result<()> {
    let mut buffer = [0; 1 << 16];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&buffer[..count]);
        if greets && (said.contains("HELLO") || said.contains("SETINFO")) {
            // As many answers as there are commands in what the library sends first.
            if said.contains("HELLO") {
                stream.write_all(b"%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n")?;
            }
            for _ in 0..said.matches("SETINFO").count() {
                stream.write_all(b"+OK\r\n")?;
            }
            continue;
        }
        match lie {
            Lie::Words(words) => stream.write_all(words)?,
            Lie::Last(words) => {
                stream.write_all(words)?;
                return stream.shutdown(Shutdown::Both);
            }
            Lie::Endless(words) => {
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(words)?;
                }
            }
        }
    }
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

fn lies() -> Vec<(&'static str, Lie)> {
    let words = |text: &str| Lie::Words(text.replace('~', "\r\n").into_bytes());
    let mut lies = vec![
        ("a number", words(":1~")),
        ("text", words("+OK~")),
        ("nothing", words("_~")),
        ("an empty array", words("*0~")),
        ("too many answers", words("*3~:1~:2~:3~")),
        ("an array of nothing", words("*1~_~")),
        ("an array of an empty array", words("*1~*0~")),
        ("a grant without a grant", words("*1~*1~$7~granted~")),
        ("a grant with an impossible fence", words("*1~*2~$7~granted~*7~:-1~:0~:0~:0~:0~:0~:0~")),
        ("a negative time", words("*1~:-5~")),
        ("a word that is none", words("*1~*1~$5~maybe~")),
        ("a place with impossible numbers", words("*1~*2~$6~queued~*4~:-1~:-9~:-1~*0~")),
        ("an error", words("-ERR what?~")),
        ("an error without a code", words("-~")),
        ("a big number", words("(123456789012345678901234567890~")),
        ("a double", words(",nan~")),
        ("a map", words("%1~+a~+b~")),
        ("an odd length", words("$-5~")),
        ("an array of a negative length", words("*-7~")),
        ("text of a huge length", words("$2147483648~abc")),
        ("an array of a huge length", words("*2147483647~")),
        ("text of an impossible length", words("$99999999999999999999~")),
        ("half a frame", words("*1~*2~$7~gran")),
        ("no protocol", words("HTTP/1.1 200 OK~~<html></html>")),
        ("bytes", Lie::Words(vec![0xff; 300])),
        ("a message for nobody", words(">3~$7~message~$1~x~$1~y~*1~:7~")),
        ("a message that is none", words(">0~>1~:1~*1~_~")),
        ("several answers at once", words("*1~:1~*1~:1~*1~:1~")),
        ("half a frame and the end", Lie::Last(b"*1\r\n*2\r\n$7\r\ngran".to_vec())),
        ("the end", Lie::Last(Vec::new())),
        ("silence", Lie::Words(Vec::new())),
    ];
    lies.push(("arrays in arrays", Lie::Words(b"*1\r\n".repeat(10_000))));
    lies
}

/// Those that never end.
fn endless() -> Vec<(&'static str, Lie)> {
    vec![
        ("a line without an end", Lie::Endless(vec![b'a'; 1 << 14])),
        ("text without an end", Lie::Endless([b"+".to_vec(), vec![b'a'; 1 << 14]].concat())),
        ("messages without an end", Lie::Endless(b">2\r\n+x\r\n+y\r\n".repeat(100))),
    ]
}

/// Asks a liar for a lock, and sees that this ends well.
fn ask(what: &str, liar: &Liar) {
    let manager = liar.manager();
    let since = now();
    let answer = block_on(manager.try_acquire(X, LONG));
    let took = since.elapsed();
    match answer {
        // Whoever grants is believed; no server can be told from one that lies well.
        Ok(guard) => println!("{what}: {guard:?}"),
        Err(error) => {
            println!("{what}: {} in {took:?}: {error}", error.kind());
            let kinds = [ErrorKind::Unreachable, ErrorKind::Unknown, ErrorKind::Corrupt];
            assert!(kinds.contains(&error.kind()), "{what}: {error}");
        }
    }
    assert!(took < BOUND, "{what}: {took:?}");
}

#[test]
fn a_server_that_lies_is_an_error_of_a_kind_and_costs_neither_time_nor_memory() {
    let before = resident();
    thread::scope(|scope| {
        for (what, lie) in lies() {
            for greets in [true, false] {
                let lie = lie.clone();
                scope.spawn(move || ask(what, &Liar::start(lie, greets)));
            }
        }
    });
    let grown = resident().saturating_sub(before);
    assert!(grown < MEMORY, "{} MiB", grown >> 20);
}

#[test]
fn a_server_that_never_ends_its_words_is_hung_up_on() {
    for (what, lie) in endless() {
        let liar = Liar::start(lie, true);
        ask(what, &liar);
        until("its connection has ended", || 0 < liar.ended.load(Ordering::Relaxed));
    }
}

#[test]
fn replies_with_wrong_bytes_make_nobody_panic_or_hang() {
    for _ in 0..rounds(1) {
        let seed = seed("wrong bytes");
        let stage = Stage::start(&Setup { seed, ..Setup::default() });
        let manager = stage.manager();
        block_on(acquire(&manager, X, LONG).release()).unwrap();
        for how in [Mutation::Flip, Mutation::Insert, Mutation::Delete] {
            for one_in in [300, 60, 10] {
                stage.proxy.set(Direction::ToClient, Fault::Mutate { how, one_in });
                for n in 0..4 {
                    let since = now();
                    let name = format!("{how:?}-{one_in}-{n}");
                    let wait = Duration::from_secs(1);
                    let request = manager.lock(name).ttl(LONG).wait_timeout(wait).acquire();
                    // Whatever it says, it says something.
                    if let Ok(guard) = block_on(request) {
                        let _ = block_on(guard.release());
                    }
                    assert!(since.elapsed() < BOUND, "{how:?} {one_in}: {:?}", since.elapsed());
                }
            }
        }
        stage.proxy.heal();
        stage.proxy.cut();
        let again = stage.manager();
        block_on(acquire(&again, X, LONG).release()).unwrap();
        // What is asked over a connection that is just being cut has no answer.
        until("it is connected again", || block_on(manager.inspect("after")).is_ok());
        block_on(acquire(&manager, "after", LONG).release()).unwrap();
    }
}
