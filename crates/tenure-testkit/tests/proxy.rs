//! The proxy does to a connection what it is told, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use tenure_testkit::history::now_ns;
use tenure_testkit::proxy::{Direction, End, Fault, FaultProxy, Mutation, Scope, Storm};
use tenure_testkit::servers::ports::free_port;

use Direction::{ToClient, ToServer};
use echo::{Echo, Seen};

#[path = "proxy/echo.rs"]
mod echo;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn stage() -> (Echo, FaultProxy) {
    let echo = Echo::start();
    let proxy = FaultProxy::start(echo.port());
    (echo, proxy)
}

fn connect(proxy: &FaultProxy) -> TcpStream {
    let client = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

fn send(mut client: &TcpStream, text: &str) {
    client.write_all(text.as_bytes()).unwrap();
}

/// Reads exactly so much.
fn receive(mut client: &TcpStream, length: usize) -> String {
    let mut text = vec![0; length];
    client.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn echoes(client: &TcpStream, text: &str) {
    send(client, text);
    assert_eq!(receive(client, text.len()), text);
}

/// How the stream ends: nothing comes any more.
fn end_of(mut client: &TcpStream) -> Result<(), ErrorKind> {
    match client.read(&mut [0; 100]) {
        Ok(0) => Ok(()),
        Ok(count) => panic!("{count} bytes, and not the end"),
        Err(error) => Err(error.kind()),
    }
}

fn is_silent(mut client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let read = client.read(&mut [0; 100]);
    client.set_nonblocking(false).unwrap();
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn seconds_of(deed: impl FnOnce()) -> f64 {
    let start = now_ns();
    deed();
    (now_ns() - start) as f64 / 1e9
}

#[test]
fn bytes_pass_and_are_counted() {
    let (_echo, proxy) = stage();
    let client = connect(&proxy);
    echoes(&client, "hello");
    let counts = proxy.wait_until(PATIENCE, |counts| counts.to_client.delivered == 5);
    assert_eq!((counts.to_server.arrived, counts.to_server.delivered), (5, 5));
    assert_eq!((counts.to_client.arrived, counts.faults), (5, 0));
    assert_eq!((proxy.connections(), proxy.accepted()), (1, 1));
    drop(client);
    proxy.wait_until(PATIENCE, |counts| counts.open == 0);
    assert_eq!((proxy.connections(), proxy.accepted()), (0, 1));
}

#[test]
fn a_side_that_has_nothing_more_to_say_still_hears() {
    let (echo, proxy) = stage();
    let client = connect(&proxy);
    send(&client, "last words");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(receive(&client, 10), "last words");
    assert_eq!(end_of(&client), Ok(()));
    echo.until(|seen| seen.fins == 1);
}

#[test]
fn a_reset_of_the_client_reaches_the_server() {
    let (echo, proxy) = stage();
    let client = connect(&proxy);
    echoes(&client, "hello");
    send(&client, "never read");
    // Closed with unread bytes, a connection is reset.
    proxy.wait_until(PATIENCE, |counts| counts.to_client.delivered == 15);
    drop(client);
    echo.until(|seen| seen.resets == 1);
    proxy.wait_until(PATIENCE, |counts| counts.open == 0);
}

#[test]
fn a_client_is_reset_if_there_is_no_server() {
    let proxy = FaultProxy::start(free_port());
    let client = connect(&proxy);
    assert_eq!(end_of(&client), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_delay_holds_bytes_back_and_in_order() {
    let (_echo, proxy) = stage();
    let client = connect(&proxy);
    let (by, jitter) = (Duration::from_millis(30), Duration::from_millis(20));
    proxy.set(ToClient, Fault::Delay { by, jitter });
    let text = "the quick brown fox jumps over the lazy dog";
    let seconds = seconds_of(|| {
        for (sent, character) in text.char_indices() {
            send(&client, &character.to_string());
            // So that each of them is late by itself.
            proxy.wait_until(PATIENCE, |counts| sent as u64 <= counts.to_client.arrived);
        }
        assert_eq!(receive(&client, text.len()), text);
    });
    assert!(0.03 <= seconds, "{seconds}");
    assert!(0 < proxy.counts().faults);
}

#[test]
fn a_stall_holds_requests_back_and_loses_none() {
    let (echo, proxy) = stage();
    let client = connect(&proxy);
    echoes(&client, "before");
    proxy.set(ToServer, Fault::Stall);
    send(&client, "during");
    proxy.wait_until(PATIENCE, |counts| counts.to_server.arrived == 12);
    assert_eq!(proxy.counts().to_server.delivered, 6);
    assert_eq!(echo.seen().bytes, 6);
    proxy.heal();
    assert_eq!(receive(&client, 6), "during");
    proxy.wait_until(PATIENCE, |counts| counts.faults == 1);
}

#[test]
fn a_stall_of_replies_lets_requests_pass() {
    let (echo, proxy) = stage();
    let client = connect(&proxy);
    proxy.set(ToClient, Fault::Stall);
    send(&client, "request");
    echo.until(|seen| seen.bytes == 7);
    proxy.wait_until(PATIENCE, |counts| counts.to_client.arrived == 7);
    assert!(is_silent(&client));
    proxy.heal();
    assert_eq!(receive(&client, 7), "request");
}

#[test]
fn nobody_hears_through_a_stall_that_the_other_side_has_left() {
    let (echo, proxy) = stage();
    let client = connect(&proxy);
    echoes(&client, "hello");
    proxy.set_both(Fault::Stall);
    drop(client);
    let other = connect(&proxy);
    send(&other, "the proxy is awake");
    proxy.wait_until(PATIENCE, |counts| counts.to_server.arrived == 23);
    assert_eq!((echo.seen().fins, proxy.connections()), (0, 2));
    proxy.heal();
    echo.until(|seen| seen.fins == 1);
}

#[test]
fn what_is_swallowed_is_lost_and_its_connection_is_reset_in_the_end() {
    let (echo, proxy) = stage();
    let client = connect(&proxy);
    echoes(&client, "before");
    proxy.set_both(Fault::Swallow);
    send(&client, "during");
    proxy.wait_until(PATIENCE, |counts| counts.to_server.swallowed == 6);
    assert_eq!(echo.seen().bytes, 6);
    assert!(is_silent(&client));
    proxy.heal();
    assert_eq!(end_of(&client), Err(ErrorKind::ConnectionReset));
    echo.until(|seen| seen.resets == 1);
}

#[test]
fn a_connection_that_lost_nothing_survives_a_black_hole() {
    let (_echo, proxy) = stage();
    let client = connect(&proxy);
    echoes(&client, "before");
    proxy.set_both(Fault::Swallow);
    proxy.heal();
    echoes(&client, "after");
}

#[test]
fn a_reply_falls_silent_after_so_many_bytes() {
    let (_echo, proxy) = stage();
    let client = connect(&proxy);
    proxy.set(ToClient, Fault::After { bytes: 4, end: End::Silence });
    send(&client, "0123456789");
    assert_eq!(receive(&client, 4), "0123");
    proxy.wait_until(PATIENCE, |counts| counts.to_client.swallowed == 6);
    assert!(is_silent(&client));
    proxy.heal();
    assert_eq!(end_of(&client), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_connection_is_reset_after_so_many_bytes_of_a_direction() {
    for direction in Direction::BOTH {
        let (echo, proxy) = stage();
        let client = connect(&proxy);
        proxy.set(direction, Fault::After { bytes: 4, end: End::Reset });
        send(&client, "0123456789");
        if direction == ToClient {
            assert_eq!(receive(&client, 4), "0123");
        }
        let mut rest = Vec::new();
        let error = (&client).read_to_end(&mut rest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        echo.until(|seen| seen.resets == 1);
        assert_eq!(proxy.counts().of(direction).delivered, 4);
    }
}

#[test]
fn a_reply_that_comes_after_so_many_bytes_is_lost_and_its_connection_reset() {
    let (echo, proxy) = stage();
    let client = connect(&proxy);
    proxy.set(ToClient, Fault::After { bytes: 5, end: End::Loss });
    echoes(&client, "first");
    send(&client, "second");
    assert_eq!(end_of(&client), Err(ErrorKind::ConnectionReset));
    assert_eq!(echo.seen().bytes, 11);
}

#[test]
fn a_stream_ends_after_so_many_bytes() {
    let (echo, proxy) = stage();
    let client = connect(&proxy);
    proxy.set(ToClient, Fault::After { bytes: 4, end: End::Eof });
    send(&client, "0123456789");
    assert_eq!(receive(&client, 4), "0123");
    assert_eq!(end_of(&client), Ok(()));
    send(&client, "still heard");
    echo.until(|seen| seen.bytes == 21);
    drop(client);
    proxy.wait_until(PATIENCE, |counts| counts.open == 0);
}

#[test]
fn a_connection_is_half_open_after_so_many_bytes() {
    let (echo, proxy) = stage();
    let client = connect(&proxy);
    proxy.set(ToClient, Fault::After { bytes: 4, end: End::HalfOpen });
    send(&client, "0123456789");
    assert_eq!(receive(&client, 4), "0123");
    echo.until(|seen| seen.fins + seen.resets == 1);
    send(&client, "into the void");
    assert!(is_silent(&client));
}

#[test]
fn a_half_open_connection_is_silent_until_it_is_healed() {
    let (echo, proxy) = stage();
    let client = connect(&proxy);
    echoes(&client, "hello");
    proxy.half_open(Scope::All);
    echo.until(|seen| seen.fins == 1);
    send(&client, "into the void");
    proxy.wait_until(PATIENCE, |counts| counts.to_server.swallowed == 13);
    assert!(is_silent(&client));
    assert_eq!(proxy.connections(), 1);
    proxy.heal();
    assert_eq!(end_of(&client), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_half_open_connection_is_over_when_its_client_leaves() {
    let (_echo, proxy) = stage();
    let client = connect(&proxy);
    echoes(&client, "hello");
    proxy.half_open(Scope::All);
    drop(client);
    proxy.wait_until(PATIENCE, |counts| counts.open == 0);
}

#[test]
fn all_connections_are_cut_and_new_ones_are_well() {
    let (echo, proxy) = stage();
    let clients = [connect(&proxy), connect(&proxy)];
    clients.iter().for_each(|client| echoes(client, "hello"));
    proxy.cut();
    assert_eq!(proxy.connections(), 0);
    for client in &clients {
        assert_eq!(end_of(client), Err(ErrorKind::ConnectionReset));
    }
    echo.until(|seen| seen.resets == 2);
    assert_eq!(proxy.counts().faults, 2);
    echoes(&connect(&proxy), "again");
}

#[test]
fn a_drip_is_slow() {
    let (_echo, proxy) = stage();
    let client = connect(&proxy);
    proxy.set(ToClient, Fault::Drip { bytes: 2, every: Duration::from_millis(4) });
    let seconds = seconds_of(|| echoes(&client, "0123456789abcdef"));
    assert!(0.028 <= seconds, "eight portions: {seconds}");
}

#[test]
fn new_connections_are_refused_and_old_ones_stay() {
    let (_echo, proxy) = stage();
    let client = connect(&proxy);
    echoes(&client, "hello");
    proxy.refuse();
    let refused = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    echoes(&client, "still here");
    proxy.accept();
    echoes(&connect(&proxy), "welcome");
    proxy.refuse();
    proxy.heal();
    echoes(&connect(&proxy), "welcome");
}

#[test]
fn bytes_are_mutated() {
    let (_echo, proxy) = stage();
    let client = connect(&proxy);
    let zeros = "\0".repeat(100);
    let mutate = |how| {
        proxy.set(ToClient, Fault::Mutate { how, one_in: 1 });
        send(&client, &zeros);
    };
    mutate(Mutation::Flip);
    let mut bytes = [0; 100];
    (&client).read_exact(&mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| byte.count_ones() == 1));
    mutate(Mutation::Insert);
    let mut bytes = [0; 200];
    (&client).read_exact(&mut bytes).unwrap();
    mutate(Mutation::Delete);
    proxy.wait_until(PATIENCE, |counts| counts.to_client.arrived == 300);
    proxy.heal();
    echoes(&client, "as it was sent");
}

#[test]
fn mutations_come_from_the_seed() {
    let echo = Echo::start();
    let reply = |seed| {
        let proxy = FaultProxy::with_seed(echo.port(), seed);
        proxy.set(ToClient, Fault::Mutate { how: Mutation::Flip, one_in: 5 });
        let client = connect(&proxy);
        send(&client, &"\0".repeat(100));
        let mut bytes = [0; 100];
        (&client).read_exact(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(reply(1), reply(1));
    assert_ne!(reply(1), reply(2));
}

#[test]
fn a_reply_is_replaced() {
    let (_echo, proxy) = stage();
    let client = connect(&proxy);
    proxy.replace_next_reply(b"something else");
    send(&client, "hello");
    assert_eq!(receive(&client, 14), "something else");
    echoes(&client, "hello");
    proxy.replace_reply_to(b"special", b"!");
    echoes(&client, "usual");
    send(&client, "something special");
    assert_eq!(receive(&client, 1), "!");
    echoes(&client, "usual");
}

#[test]
fn the_reply_to_the_next_request_is_lost() {
    let (echo, proxy) = stage();
    let client = connect(&proxy);
    echoes(&client, "hello");
    proxy.lose_next_reply();
    send(&client, "outcome?");
    assert_eq!(end_of(&client), Err(ErrorKind::ConnectionReset));
    assert_eq!(echo.seen().bytes, 13);
    let counts = proxy.wait_until(PATIENCE, |counts| counts.lost == 1);
    assert_eq!((counts.to_client.swallowed, counts.faults), (8, 1));
    echoes(&connect(&proxy), "only once");
}

#[test]
fn the_reply_to_a_certain_request_is_lost() {
    let (_echo, proxy) = stage();
    let (client, other) = (connect(&proxy), connect(&proxy));
    proxy.lose_reply_to(b"acquire");
    echoes(&client, "ping");
    echoes(&other, "ping");
    send(&client, "please acquire it");
    assert_eq!(end_of(&client), Err(ErrorKind::ConnectionReset));
    echoes(&other, "please acquire it");
}

#[test]
fn the_next_request_is_lost() {
    let (echo, proxy) = stage();
    let client = connect(&proxy);
    echoes(&client, "hello");
    proxy.lose_next_request();
    send(&client, "outcome?");
    assert_eq!(end_of(&client), Err(ErrorKind::ConnectionReset));
    echo.until(|seen| seen.resets == 1);
    assert_eq!(echo.seen().bytes, 5);
    proxy.wait_until(PATIENCE, |counts| counts.lost == 1);
    proxy.lose_next_request();
    proxy.heal();
    echoes(&connect(&proxy), "no more");
}

#[test]
fn faults_are_for_those_that_they_are_for() {
    let (_echo, proxy) = stage();
    let first = connect(&proxy);
    echoes(&first, "hello");
    proxy.set_for(Scope::New, ToClient, Fault::After { bytes: 0, end: End::Eof });
    let second = connect(&proxy);
    assert_eq!(end_of(&second), Ok(()));
    echoes(&first, "hello");

    proxy.set_for(Scope::New, ToClient, Fault::Pass);
    let third = connect(&proxy);
    echoes(&third, "hello");
    assert_eq!(proxy.accepted(), 3);
    proxy.cut_for(Scope::Only(3));
    assert_eq!(end_of(&third), Err(ErrorKind::ConnectionReset));
    assert_eq!(proxy.connection_ids(), [1, 2]);

    proxy.set_for(Scope::Existing, ToServer, Fault::Stall);
    send(&first, "hello");
    echoes(&connect(&proxy), "hello");
    assert!(is_silent(&first));
}

#[test]
fn a_proxy_leads_elsewhere_if_it_is_told() {
    let (echo, proxy) = stage();
    let elsewhere = Echo::start();
    let client = connect(&proxy);
    echoes(&client, "hello");
    proxy.redirect(elsewhere.port());
    echoes(&connect(&proxy), "hello there");
    assert_eq!((echo.seen().bytes, elsewhere.seen().bytes), (5, 11));
}

#[test]
fn much_passes_unharmed_through_senders_that_wait_for_readers() {
    let (_echo, proxy) = stage();
    let client = connect(&proxy);
    let sent: Vec<u8> =
        (0..8_u32 << 20).map(|index| (index.wrapping_mul(0x9e37) >> 8) as u8).collect();
    let mut received = vec![0; sent.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| (&client).write_all(&sent).unwrap());
        scope.spawn(|| {
            let arrived = proxy.wait_until(PATIENCE, |counts| 0 < counts.to_client.delivered);
            proxy.set_both(Fault::Stall);
            proxy.set_both(Fault::Delay { by: Duration::from_millis(1), jitter: Duration::ZERO });
            assert!(0 < arrived.to_server.arrived);
            proxy.heal();
        });
        // Nobody reads before the proxy has read all that it has room for.
        proxy.wait_until(PATIENCE, |counts| 1 << 20 <= counts.to_server.arrived);
        (&client).read_exact(&mut received).unwrap();
    });
    assert!(sent == received);
}

#[test]
fn a_dropped_proxy_is_gone_with_its_connections() {
    let (echo, proxy) = stage();
    let port = proxy.port();
    let client = connect(&proxy);
    echoes(&client, "hello");
    drop(proxy);
    assert_eq!(end_of(&client), Ok(()));
    echo.until(|seen: &Seen| seen.fins == 1);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[tokio::test]
async fn counts_can_be_awaited() {
    let (_echo, proxy) = stage();
    let client = connect(&proxy);
    send(&client, "hello");
    let counts = proxy.until(PATIENCE, |counts| counts.to_client.delivered == 5).await;
    assert_eq!(counts.accepted, 1);
}

#[tokio::test]
async fn a_proxy_goes_on_while_a_runtime_is_blocked() {
    let (_echo, proxy) = stage();
    // None of this gives the only thread of this runtime back.
    let client = connect(&proxy);
    echoes(&client, "hello");
    proxy.cut();
    assert_eq!(end_of(&client), Err(ErrorKind::ConnectionReset));
}

#[test]
fn traffic_is_waited_for() {
    let (_echo, proxy) = stage();
    let client = connect(&proxy);
    echoes(&client, "hello");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| proxy.wait_for_traffic(ToServer, 5, PATIENCE));
        while !waits.is_finished() {
            echoes(&client, "again");
        }
    });
}

#[test]
#[should_panic(expected = "not so within")]
fn nothing_is_waited_for_without_end() {
    let (_echo, proxy) = stage();
    proxy.wait_until(Duration::from_millis(1), |counts| counts.accepted == 1);
}

#[test]
fn after_a_storm_all_is_well() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let (_echo, proxy) = stage();
    let seed = tenure_testkit::seed::seed("a storm of the proxy");
    let over = AtomicBool::new(false);
    let gusts = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Whatever comes over a connection is a beginning of what was sent over it.
            while !over.load(Ordering::SeqCst) {
                let _ = talk(&proxy);
            }
        });
        let storm =
            Storm::new(seed, Duration::from_secs(2), 0.7).longest(Duration::from_millis(40));
        let gusts = storm.run_on(&proxy);
        over.store(true, Ordering::SeqCst);
        gusts
    });
    assert!(20 < gusts.len(), "{}", gusts.len());
    assert!(0 < proxy.counts().faults);
    echoes(&connect(&proxy), "calm");
}

fn talk(proxy: &FaultProxy) -> std::io::Result<()> {
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port()))?;
    client.set_read_timeout(Some(Duration::from_millis(100)))?;
    for number in 0..100_u32 {
        client.write_all(&number.to_be_bytes())?;
        let mut reply = [0; 4];
        client.read_exact(&mut reply)?;
        assert_eq!(u32::from_be_bytes(reply), number);
    }
    Ok(())
}
