//! Holders that are ended by others, and those who have their sessions after them.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use futures_lite::future::block_on;
use serde_json::{Value, json};
use tenure_core::backend::{Event, Evicted, Eviction, Listener, Reason};
use tenure_core::{Details, LockName, MemberId, Owner};
use tokio_postgres::{AsyncMessage, NoTls};

use crate::stage::{LONG, Stage, X, until};

/// What the other process of these tests is called.
const OTHER: &str = "00000000000000aa";
const CHANNEL: &str = "tenure_advisory";

/// A process that has the lock 42, says whom it has it for, and lets it go when it is told to: somebody
/// else of it has it in the next moment, on the same session, before the first could say so.
async fn takes_it_again(url: &str, ready: tokio::sync::oneshot::Sender<i32>) {
    let connect = || tokio_postgres::connect(url, NoTls);
    let (holder, held_by) = connect().await.unwrap();
    let (asked, mut hears) = connect().await.unwrap();
    let driver = tokio::runtime::Handle::current();
    driver.spawn(held_by);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    driver.spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| hears.poll_message(cx)).await {
            if let AsyncMessage::Notification(said) = message {
                let _ = tell.send(said.payload().to_owned());
            }
        }
    });
    let name = format!("set application_name = 'tenure/{OTHER} other:1'");
    holder.batch_execute(&name).await.unwrap();
    holder.batch_execute("select pg_advisory_lock(42)").await.unwrap();
    let pid: i32 = holder.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    asked.batch_execute(&format!("listen {CHANNEL}")).await.unwrap();
    ready.send(pid).unwrap();
    let mut member = 1_u8;
    while let Some(note) = told.recv().await {
        let note: Value = serde_json::from_str(&note).unwrap();
        match note["what"].as_str().unwrap() {
            "evict" => member += 1,
            "who" => {
                let time = json!({"secs": 60, "nanos": 0});
                let seen = json!([{
                    "pid": pid, "member": MemberId::from_bytes([member; 32]), "holds": true,
                    "shared": false, "fence": member, "since": 1, "renewed": 1, "ttl": time,
                    "quiet": time, "details": Details::of(Owner::this_process()),
                }]);
                let answer = json!({
                    "from": OTHER, "ask": note["ask"], "what": "answer", "to": note["from"],
                    "part": 0, "of": 1, "text": seen.to_string(),
                });
                let answer = answer.to_string();
                asked.execute("select pg_notify($1, $2)", &[&CHANNEL, &answer]).await.unwrap();
            }
            _ => {}
        }
    }
}

#[test]
fn whoever_has_the_session_of_one_that_was_force_released_keeps_it() {
    let stage = Stage::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let url = stage.server.url();
    let other = runtime.spawn(async move { takes_it_again(&url, ready).await });
    let pid = runtime.block_on(is_ready).unwrap();
    let locks = stage.manager();
    let gone = block_on(locks.force_release("key:42", None, "it hangs")).unwrap();
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].member, MemberId::from_bytes([1; 32]));
    assert_eq!(stage.holding(), [pid.to_string()]);
    other.abort();
}

/// Its session was closed from here as it did not answer, and so it was taken for gone: the server had the lock still.
#[test]
fn whoever_was_force_released_is_not_gone_before_the_server_has_let_go_of_the_lock() {
    let stage = Stage::new();
    let (locks, other) = (stage.manager(), stage.manager());
    let ttl = std::time::Duration::from_secs(1);
    let guard = block_on(locks.lock(X).ttl(ttl).acquire()).unwrap();
    // Where its process is asked.
    block_on(locks.inspect(X)).unwrap();
    let pid = stage.holding()[0].clone();
    let signal = |name: &str| {
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    let released = block_on(locks.force_release(X, None, "it hangs"));
    let has_it = stage.holding().contains(&pid);
    signal("-CONT");
    assert!(has_it, "nothing is shown: the server was faster");
    assert!(released.is_err(), "{released:?}");
    until("its end comes", || stage.holding().is_empty());
    drop((guard, crate::stage::acquire(&other, X, LONG)));
}

/// Keeps the store from asking anything when somebody is gone.
struct NothingToAsk(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Listener for NothingToAsk {
    fn on_event(&self, event: Event) {
        let shut = self.0.lock().unwrap().take();
        if let (Event::Gone { .. }, Some(shut)) = (event, shut) {
            shut();
        }
    }
}

#[test]
fn an_eviction_that_was_done_is_no_error_if_nothing_can_be_asked_any_more() {
    let stage = Arc::new(Stage::new());
    let backend = stage.backend();
    let locks = tenure_core::LockManager::new(backend.clone()).unwrap();
    let mut other = stage.server.psql_command("postgres", "postgres");
    let mut other = other.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let take = "select pg_advisory_lock_shared(42);\n";
    std::io::Write::write_all(other.stdin.as_mut().unwrap(), take.as_bytes()).unwrap();
    until("psql has it", || stage.holding().len() == 1);
    let guard = block_on(locks.lock("key:42").shared().ttl(LONG).acquire()).unwrap();
    let shut = {
        let stage = stage.clone();
        move || {
            stage.server.psql(
                "begin; update pg_database set datallowconn = false \
                 where datname = current_database(); commit; select pg_terminate_backend(pid, 1000) from pg_stat_activity \
                 where application_name like 'tenure/%' \
                   and pid not in (select pid from pg_locks where locktype = 'advisory')",
            );
        }
    };
    let listener: Arc<dyn Listener> =
        Arc::new(NothingToAsk(Mutex::new(Some(Box::new(shut) as Box<dyn FnOnce() + Send>))));
    backend.subscribe(Arc::downgrade(&listener));
    let reason = Reason::new("a person".into(), "it is in the way").unwrap();
    let why = Eviction { only_if: None, stolen: false, reason };
    let name = LockName::new("key:42").unwrap();
    match block_on(backend.evict(&name, &why)).unwrap() {
        Evicted::Done(gone) => {
            let members: Vec<_> = gone.iter().map(|holder| holder.member.holder()).collect();
            assert_eq!(members, [guard.id()]);
        }
        other => panic!("{other:?}"),
    }
    assert!(!guard.is_valid());
    drop(other.stdin.take());
    other.wait().unwrap();
}
