//! Nodes that do not agree who has a slot lead nobody round in circles.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(clippy::disallowed_methods, reason = "a test owns its tasks")]

mod kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kit::{IN_THE_END, LONG, manager, within};
use tenure_core::ErrorKind;
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

/// A node that says that it has all slots, and sends whoever wants one of them to where it is told.
async fn liar(
    mut stream: BufReader<TcpStream>,
    port: u16,
    answer: String,
    asked: Arc<AtomicUsize>,
) {
    while let Some(words) = command(&mut stream).await {
        let reply = match words[0].as_str() {
            "HELLO" => "%1\r\n+proto\r\n:3\r\n".to_owned(),
            "CLUSTER" if words[1] == "INFO" => "+cluster_state:ok\r\n".to_owned(),
            "CLUSTER" => {
                format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n")
            }
            "SUBSCRIBE" => format!(">3\r\n+subscribe\r\n+{}\r\n:1\r\n", words[1]),
            "EVALSHA" | "EVAL" => {
                asked.fetch_add(1, Ordering::Relaxed);
                answer.clone()
            }
            _ => "+OK\r\n".to_owned(),
        };
        if stream.get_mut().write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn asked_in_circles(how: &str) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = format!("-{how} 5 127.0.0.1:{port}\r\n");
    let counts = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(liar(BufReader::new(stream), port, answer.clone(), counts.clone()));
        }
    });
    let locks = manager(&format!("redis+cluster://127.0.0.1:{port}"));
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
