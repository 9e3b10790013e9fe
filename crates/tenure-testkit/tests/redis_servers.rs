//! Real Redis servers start, answer, and can be hurt.

use std::time::Duration;

use tenure_testkit::proxy::FaultProxy;
use tenure_testkit::servers::patience::until;
use tenure_testkit::servers::process::installed;
use tenure_testkit::servers::redis::{RedisCluster, RedisSentinel, RedisServer, RedisSetup};

/// How long servers may take to find something out.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_server_answers_and_is_gone_when_it_is_dropped() {
    let server = RedisServer::start();
    let port = server.port();
    assert_eq!(server.url(), format!("redis://127.0.0.1:{port}/"));
    assert_eq!(server.cli(&["SET", "name", "value"]), "OK");
    assert_eq!(server.cli(&["GET", "name"]), "value");
    let folder = server.folder().to_owned();
    drop(server);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(!folder.exists());
}

#[test]
fn an_error_of_the_server_is_an_answer() {
    let server = RedisServer::start();
    let answer = server.cli(&["SET", "name"]);
    assert!(answer.contains("wrong number of arguments"), "{answer}");
}

#[test]
fn a_server_is_dropped_when_its_test_panics() {
    let port = std::panic::catch_unwind(|| {
        let server = RedisServer::start();
        std::panic::panic_any(server.port());
    });
    let port = *port.unwrap_err().downcast::<u16>().unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// Tells a test process of ours that it shall start a server, say where, and never end.
const NEVER_END: &str = "TENURE_TEST_NEVER_END";

#[test]
fn a_server_is_gone_when_its_process_is_killed() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    if std::env::var_os(NEVER_END).is_some() {
        let server = RedisServer::start();
        println!("\nport {} folder {}", server.port(), server.folder().display());
        loop {
            std::thread::park();
        }
    }
    let mut killed = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_is_gone_when_its_process_is_killed", "--nocapture"])
        .env(NEVER_END, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(killed.stdout.take().unwrap());
    let place = said.lines().map(Result::unwrap).find(|line| line.starts_with("port ")).unwrap();
    let mut words = place.split(' ');
    let port: u16 = words.nth(1).unwrap().parse().unwrap();
    let folder = std::path::PathBuf::from(words.nth(1).unwrap());
    assert!(folder.exists());
    killed.kill().unwrap();
    killed.wait().unwrap();
    until(Duration::from_secs(10), "the server and its folder are gone", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err() && !folder.exists()
    });
}

#[test]
fn arguments_are_handed_on() {
    let server = RedisServer::with(&["--maxmemory", "3mb"]).start();
    assert_eq!(server.cli(&["CONFIG", "GET", "maxmemory"]), "maxmemory\n3145728");
}

#[test]
#[should_panic(expected = "no-such-option")]
fn a_server_that_does_not_start_says_why() {
    let _ = RedisServer::with(&["--no-such-option", "1"]).start();
}

#[test]
#[should_panic(expected = "no-such-server is not installed: apt-get install no-such-package")]
fn a_missing_program_is_named_with_its_package() {
    let _ = installed("no-such-server", "no-such-package");
}

#[test]
fn a_server_has_a_password_and_users() {
    let server =
        RedisSetup::new().password("secret").user("alice", "on >wonder ~lock:* +@all").start();
    let port = server.port();
    assert_eq!(server.url(), format!("redis://:secret@127.0.0.1:{port}/"));
    assert_eq!(server.cli(&["PING"]), "PONG");
    let as_alice = ["--user", "alice", "--pass", "wonder", "--no-auth-warning"];
    let set = |key| server.cli(&[&as_alice[..], &["SET", key, "1"]].concat());
    assert_eq!(set("lock:a"), "OK");
    assert!(set("other").starts_with("NOPERM"));
}

#[test]
fn a_killed_server_is_restarted_at_its_port_without_what_it_did_not_keep() {
    let server = RedisServer::start();
    server.cli(&["SET", "name", "value"]);
    server.kill();
    assert!(!server.is_alive());
    assert!(server.try_cli(&["PING"]).is_err());
    server.restart();
    assert!(server.is_alive());
    assert_eq!(server.cli(&["EXISTS", "name"]), "0");
}

#[test]
fn a_restarted_server_has_its_data_if_it_kept_them_and_unless_they_are_removed() {
    let server = RedisSetup::new().append_only().start();
    server.cli(&["SET", "name", "value"]);
    server.restart();
    assert_eq!(server.cli(&["GET", "name"]), "value");
    server.restart_empty();
    assert_eq!(server.cli(&["EXISTS", "name"]), "0");
}

#[test]
fn a_stopped_server_answers_when_it_goes_on() {
    use std::io::{Read, Write};

    let server = RedisServer::start();
    let mut client = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    server.stop();
    client.write_all(b"PING\r\n").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut answer = [0; 7];
    client.read_exact(&mut answer).unwrap_err();
    server.cont();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn a_stopped_server_can_be_killed_and_restarted() {
    let server = RedisServer::start();
    server.stop();
    server.kill();
    server.restart();
    assert_eq!(server.cli(&["PING"]), "PONG");
}

/// What a node answers to a client that knows nothing of clusters.
fn get(node: &RedisServer, key: &str) -> String {
    node.cli(&["GET", key])
}

#[test]
fn a_cluster_shares_the_slots() {
    let cluster = RedisCluster::start(3);
    assert_eq!([0, 5460, 5461, 10922, 16383].map(|slot| cluster.owner(slot)), [0, 0, 1, 2, 2]);
    // 12182 is the slot of "foo".
    let slot = cluster.slot_of("foo");
    assert_eq!((slot, cluster.owner(slot)), (12182, 2));
    assert_eq!(cluster.node(2).cli(&["SET", "foo", "bar"]), "OK");
    let moved = format!("MOVED 12182 127.0.0.1:{}", cluster.node(2).port());
    assert_eq!(get(cluster.node(0), "foo"), moved);
}

#[test]
fn a_slot_moves_with_its_keys() {
    let cluster = RedisCluster::start_as(3, &RedisSetup::new().password("secret"));
    let slot = cluster.slot_of("foo");
    for number in 0..250 {
        cluster.node(2).cli(&["SET", &format!("{{foo}}{number}"), &number.to_string()]);
    }
    cluster.begin_move(slot, 0);
    assert_eq!(cluster.move_keys(slot, 0, 10), 10);
    let answers: Vec<String> =
        (0..250).map(|number| get(cluster.node(2), &format!("{{foo}}{number}"))).collect();
    let ask = format!("ASK {slot} 127.0.0.1:{}", cluster.node(0).port());
    assert_eq!(answers.iter().filter(|&answer| *answer == ask).count(), 10);
    assert_eq!(cluster.owner(slot), 2);
    cluster.finish_move(slot, 0);
    assert_eq!(cluster.owner(slot), 0);
    cluster.wait_until_ok();
    assert_eq!(cluster.node(0).cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]), "250");
    assert_eq!(get(cluster.node(0), "{foo}249"), "249");
    let moved = format!("MOVED {slot} 127.0.0.1:{}", cluster.node(0).port());
    assert_eq!(get(cluster.node(1), "{foo}249"), moved);
    cluster.move_slot(slot, 1);
    assert_eq!(get(cluster.node(1), "{foo}249"), "249");
}

#[test]
fn a_move_is_taken_back() {
    let cluster = RedisCluster::start(2);
    let slot = cluster.slot_of("foo");
    let (from, to) = (cluster.owner(slot), 1 - cluster.owner(slot));
    cluster.begin_move(slot, to);
    assert!(get(cluster.node(from), "foo").starts_with("ASK"));
    cluster.abort_move(slot);
    assert_eq!(get(cluster.node(from), "foo"), "");
}

#[test]
fn clients_of_a_cluster_are_led_to_a_proxy() {
    let cluster = RedisCluster::start(2);
    let proxy = FaultProxy::start(cluster.node(1).port());
    cluster.announce(1, proxy.port());
    let slot = cluster.slot_of("foo");
    assert_eq!(cluster.owner(slot), 1);
    assert_eq!(get(cluster.node(0), "foo"), format!("MOVED {slot} 127.0.0.1:{}", proxy.port()));
    assert_eq!(cluster.node(0).cli(&["-c", "SET", "foo", "bar"]), "OK");
    assert_eq!(proxy.accepted(), 1);
}

#[test]
fn a_cluster_is_down_without_a_node_and_well_again_with_it() {
    let cluster = RedisCluster::start_as(3, &RedisSetup::new().append_only());
    let slot = cluster.slot_of("foo");
    let owner = cluster.owner(slot);
    cluster.node(owner).cli(&["SET", "foo", "bar"]);
    cluster.node(owner).kill();
    let other = cluster.node((owner + 1) % 3);
    until(PATIENCE, "the others miss it", || get(other, "foo").starts_with("CLUSTERDOWN"));
    cluster.node(owner).restart();
    cluster.wait_until_ok();
    assert_eq!(get(cluster.node(owner), "foo"), "bar");
}

#[test]
fn sentinels_fail_over_when_they_are_told() {
    let group = RedisSentinel::start_as(2, &RedisSetup::new().password("secret"));
    let old = group.primary();
    assert_eq!(old.port(), group.servers()[0].port());
    assert_eq!(old.cli(&["SET", "name", "value"]), "OK");
    assert_eq!(old.cli(&["WAIT", "2", "5000"]), "2");
    let new = group.failover();
    assert_ne!(new.port(), old.port());
    assert_eq!(new.cli(&["GET", "name"]), "value");
    is_made_a_replica(old);
}

fn is_made_a_replica(old: &RedisServer) {
    // Sentinels cut its clients off when they do that.
    let is_replica = || old.try_cli(&["ROLE"]).is_ok_and(|role| role.starts_with("slave"));
    until(PATIENCE, "the old primary is a replica", is_replica);
}

#[test]
fn sentinels_find_a_new_primary_when_the_old_one_is_killed() {
    let group = RedisSentinel::start();
    let old = group.kill_primary();
    let new = group.primary_after(old);
    assert_eq!(group.replicas_of(new).len(), 1);
    assert_eq!(new.cli(&["SET", "name", "value"]), "OK");
    old.restart();
    is_made_a_replica(old);
    until(PATIENCE, "it has what the new one has", || {
        old.try_cli(&["GET", "name"]).is_ok_and(|value| value == "value")
    });
    new.restart();
    assert!(!new.cli(&["ROLE"]).starts_with("slave"), "it was made a primary for good");
}
