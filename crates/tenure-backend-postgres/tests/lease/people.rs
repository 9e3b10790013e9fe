//! Locks taken, inspected and given back with SQL, among those of programs.

use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::ErrorKind;
use tenure_testkit::servers::postgres::PostgresServer;

use crate::stage::{AT_ONCE, LONG, Psql, acquire, manager, manager_at, now, pass, until_waiting};

/// The columns of the only row.
fn row(psql: &mut Psql, sql: &str) -> Vec<String> {
    let rows = psql.run(sql);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].split('|').map(str::to_owned).collect()
}

#[test]
fn a_lock_taken_with_sql_and_one_taken_by_a_program_exclude_each_other() {
    let server = PostgresServer::start();
    let (manager, mut psql) = (manager(&server), Psql::start(&server));
    let guard = acquire(&manager, "name", LONG);
    let busy = "SELECT state, says FROM tenure.acquire('name', owner => 'psql', ttl => '30s');";
    let says = format!("held by {}", manager.owner());
    assert_eq!(row(&mut psql, busy), ["busy".to_owned(), says]);
    let first = guard.fencing_token().get();
    block_on(guard.release()).unwrap();

    let take =
        "SELECT state, fence, token FROM tenure.acquire('name', owner => 'psql', ttl => '30s');";
    let got = row(&mut psql, take);
    assert_eq!(got[0], "granted");
    assert!(first < got[1].parse().unwrap(), "{first} {got:?}");
    assert!(block_on(manager.try_acquire("name", LONG)).unwrap().is_none());
    let holder = block_on(manager.get_lock_info("name")).unwrap().unwrap();
    assert_eq!((&*holder.details.owner.label, holder.fence.to_string()), ("psql", got[1].clone()));
    assert!(holder.detached);
    assert_eq!(row(&mut psql, &format!("SELECT tenure.release('name', '{}');", got[2])), ["t"]);
    let guard = block_on(manager.try_acquire("name", LONG)).unwrap().expect("it is free");
    block_on(guard.release()).unwrap();
}

#[test]
fn a_release_with_sql_hands_over_to_a_program_and_the_other_way_round() {
    let server = PostgresServer::start();
    let (manager, mut psql) = (manager(&server), Psql::start(&server));
    block_on(acquire(&manager, "other", LONG).release()).unwrap();
    let token = row(&mut psql, "SELECT token FROM tenure.acquire('name');").remove(0);
    let guard = thread::scope(|scope| {
        let waits = scope.spawn(|| acquire(&manager, "name", LONG));
        until_waiting(&manager, "name", 1);
        let queued = "SELECT state, ahead, token FROM tenure.acquire('name', wait => true);";
        let queued = row(&mut psql, queued);
        assert_eq!(queued[..2], ["queued", "1"]);
        let since = now();
        psql.run(&format!("SELECT tenure.release('name', '{token}');"));
        let guard = waits.join().unwrap();
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
        block_on(guard.release()).unwrap();
        let again = format!("SELECT state FROM tenure.acquire('name', token => '{}');", queued[2]);
        assert_eq!(row(&mut psql, &again), ["granted"]);
        queued[2].clone()
    });
    assert!(block_on(manager.is_locked("name")).unwrap());
    psql.run(&format!("SELECT tenure.release('name', '{guard}');"));
    assert!(!block_on(manager.is_locked("name")).unwrap());
}

#[test]
fn what_is_taken_with_sql_ends_with_its_ttl_unless_it_is_renewed() {
    let server = PostgresServer::start();
    let (manager, mut psql) = (manager(&server), Psql::start(&server));
    block_on(acquire(&manager, "name", LONG).release()).unwrap();
    let token = row(&mut psql, "SELECT token FROM tenure.acquire('name', ttl => '1s');").remove(0);
    let renew = format!("SELECT state FROM tenure.renew('name', '{token}');");
    for _ in 0..3 {
        pass(Duration::from_millis(400));
        assert_eq!(row(&mut psql, &renew), ["granted"]);
    }
    let guard = acquire(&manager, "name", LONG);
    let renew = format!("SELECT state, says FROM tenure.renew('name', '{token}');");
    assert_eq!(row(&mut psql, &renew), ["gone", "expired"]);
    let release = format!("SELECT tenure.release('name', '{token}');");
    assert_eq!(row(&mut psql, &release), ["f"]);
    guard.check().unwrap();
    block_on(guard.release()).unwrap();
}

#[test]
fn seats_are_counted_over_sql_and_programs() {
    let server = PostgresServer::start();
    let (manager, mut psql) = (manager(&server), Psql::start(&server));
    let guard = block_on(manager.lock("pool").permits(2, 3).ttl(LONG).acquire()).unwrap();
    let one = "SELECT state FROM tenure.acquire('pool', take => 1, out_of => 3);";
    assert_eq!(row(&mut psql, one), ["granted"]);
    assert_eq!(row(&mut psql, one), ["busy"]);
    let other = "SELECT state, says FROM tenure.acquire('pool', take => 1, out_of => 4);";
    assert_eq!(row(&mut psql, other), ["refused", "the lock has 3 seats"]);
    let seats = psql.run("SELECT role, seats FROM tenure.inspect('po%') ORDER BY seats;");
    assert_eq!(seats, ["holder|1 of 3", "holder|2 of 3"]);
    block_on(guard.release()).unwrap();
    assert_eq!(row(&mut psql, one), ["granted"]);
}

#[test]
fn a_user_with_usage_of_the_schema_can_use_locks_and_not_their_table() {
    let server = PostgresServer::start();
    server.psql(&tenure_backend_postgres::install_sql("tenure"));
    server.psql("CREATE USER app; GRANT USAGE ON SCHEMA tenure TO app; CREATE USER stranger;");
    let as_user = |user: &str, sql: &str| {
        let mut command = server.psql_command(user, "postgres");
        let output = command.args(["-c", sql]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).trim_end().to_owned()
    };
    assert_eq!(as_user("app", "SELECT state FROM tenure.acquire('x', owner => 'app')"), "granted");
    assert_eq!(as_user("app", "SELECT owner FROM tenure.inspect('x')"), "app");
    assert!(as_user("app", "SELECT * FROM tenure.cell").contains("permission denied"));
    assert!(as_user("stranger", "SELECT tenure.inspect()").contains("permission denied"));
    // A program of that user, whose own search path has nothing to do with it.
    as_user("app", "ALTER USER app SET search_path = nowhere");
    let app = manager_at(&server.url().replace("postgres@", "app@"));
    let guard = acquire(&app, "y", LONG);
    block_on(guard.release()).unwrap();
    let stranger = manager_at(&server.url().replace("postgres@", "stranger@"));
    let error = block_on(stranger.try_acquire("y", LONG)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.help().is_some_and(|help| help.contains("grant")), "{error:?}");
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    let server = PostgresServer::start();
    server.psql(&tenure_backend_postgres::install_sql("tenure"));
    for (sql, says) in [
        ("SELECT tenure.acquire('')", "a lock name is 1 to 512 bytes"),
        ("SELECT tenure.acquire(E'a\\nb')", "a lock name is 1 to 512 bytes"),
        ("SELECT tenure.acquire('x', owner => '')", "an owner label is"),
        ("SELECT tenure.acquire('x', ttl => '1 microsecond')", "a ttl lies between"),
        ("SELECT tenure.acquire('x', ttl => '31 days')", "a ttl lies between"),
        ("SELECT tenure.acquire('x', take => 0, out_of => 1)", "a claim takes at least 1"),
        ("SELECT tenure.acquire('x', take => 1)", "a claim takes at least 1"),
        ("SELECT tenure.release('x', 'secret')", "a token is 32 hex digits"),
    ] {
        let error = server.try_psql(sql).unwrap_err().to_string();
        assert!(error.contains(says), "{sql}: {error}");
    }
    assert_eq!(server.psql("SELECT count(*) FROM tenure.inspect()"), "0");
}

#[test]
fn a_program_can_evict_who_took_the_lock_with_sql() {
    let server = PostgresServer::start();
    let (manager, mut psql) = (manager(&server), Psql::start(&server));
    block_on(acquire(&manager, "name", LONG).release()).unwrap();
    let token = row(&mut psql, "SELECT token FROM tenure.acquire('name');").remove(0);
    block_on(manager.force_release("name", None, "it was forgotten")).unwrap();
    let renew = format!("SELECT state, says FROM tenure.renew('name', '{token}');");
    assert_eq!(row(&mut psql, &renew), ["gone", "evicted"]);
}
