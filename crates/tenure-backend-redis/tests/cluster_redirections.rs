//! Nodes that do not agree who has a slot lead nobody round in circles.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(clippy::disallowed_methods, reason = "a test owns its tasks")]

mod kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kit::{IN_THE_END, LONG, backend, manager, within};
use tenure_core::backend::{Kept, Member, Renewal};
use tenure_core::{ErrorKind, Fence, LockName, Token};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Reads one command.
async fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut line = String::new();
    let number = |line: &str| line.trim_end()[1..].parse::<usize>().ok();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut words = Vec::new();
    for _ in 0..number(&line)? {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let mut word = vec![0; number(&line)? + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Some(words)
}

/// A node that says that it has all slots, and answers scripts as it is told.
async fn liar(mut stream: BufReader<TcpStream>, port: u16, script: impl Fn(&str) -> String) {
    while let Some(words) = command(&mut stream).await {
        let reply = match words[0].as_str() {
            "HELLO" => "%1\r\n+proto\r\n:3\r\n".to_owned(),
            "CLUSTER" if words[1] == "INFO" => "+cluster_state:ok\r\n".to_owned(),
            "CLUSTER" => {
                format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n")
            }
            "SUBSCRIBE" => format!(">3\r\n+subscribe\r\n+{}\r\n:1\r\n", words[1]),
            word @ ("EVALSHA" | "EVAL") => script(word),
            _ => "+OK\r\n".to_owned(),
        };
        if stream.get_mut().write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The address of such a node, which is told its port as well.
async fn a_liar(script: impl Fn(&str, u16) -> String + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let script = script.clone();
            tokio::spawn(liar(BufReader::new(stream), port, move |word| script(word, port)));
        }
    });
    format!("redis+cluster://127.0.0.1:{port}")
}

async fn asked_in_circles(how: &'static str) -> usize {
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = asked.clone();
    let url = a_liar(move |_, port| {
        counts.fetch_add(1, Ordering::Relaxed);
        format!("-{how} 5 127.0.0.1:{port}\r\n")
    });
    let locks = manager(&url.await);
    let tried = within(IN_THE_END, "an answer", locks.acquire("lock", LONG)).await;
    let error = tried.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(error.to_string().contains("sent it away"), "{error}");
    // Before the janitor asks whether anything was left there.
    let count = asked.load(Ordering::Relaxed);
    locks.shutdown(kit::SOON).await.ok();
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_moved_in_circles() {
    let count = asked_in_circles("MOVED").await;
    assert!(count < 40, "asked {count} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_in_circles() {
    let count = asked_in_circles("ASK").await;
    assert!(count < 40, "asked {count} times");
}

/// One runtime, so that what is sent together is known.
#[tokio::test(flavor = "current_thread")]
async fn a_script_that_is_sent_away_with_the_text_of_those_behind_it_fails_none_of_them() {
    let (known, sent_away) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let is_sent_away = sent_away.clone();
    let url = a_liar(move |word, port| {
        if word == "EVAL" && !sent_away.swap(true, Ordering::Relaxed) {
            return format!("-MOVED 5 127.0.0.1:{port}\r\n");
        }
        known.fetch_or(word == "EVAL", Ordering::Relaxed);
        match known.load(Ordering::Relaxed) {
            true => "*2\r\n:1000000\r\n:7\r\n".to_owned(),
            false => "-NOSCRIPT No matching script.\r\n".to_owned(),
        }
    });
    let backend = backend(&url.await);
    // Who has which slot is known: what is asked at once is sent at once.
    backend.ping().await.unwrap();
    let member = |name: &str| {
        Member::new(LockName::new(name).unwrap(), Token::random(), LONG, Some(Fence::new(7)))
    };
    // Each in a slot of its own.
    let members: Vec<_> = ["a", "b", "c"].map(member).into();
    let renewed = within(IN_THE_END, "an answer", backend.renew(&members)).await;
    assert!(is_sent_away.load(Ordering::Relaxed));
    for renewal in renewed {
        assert!(matches!(renewal, Renewal::Kept(Kept::Holding(_))), "{renewal:?}");
    }
}
