//! Poolers that hand sessions around are refused; those that do not are no harm.

use futures_lite::future::block_on;
use tenure_core::ErrorKind;
use tenure_testkit::servers::postgres::PgBouncer;

use crate::stage::{LONG, Stage, X, acquire};

#[test]
fn a_pool_by_transaction_is_refused_by_name_and_nothing_stays_behind() {
    let stage = Stage::new();
    for settings in [
        &[("pool_mode", "transaction")][..],
        &[("pool_mode", "transaction"), ("default_pool_size", "1"), ("query_wait_timeout", "1")],
        &[("pool_mode", "transaction"), ("server_round_robin", "1")],
        // Every lock would be gone with the transaction that took it.
        &[("pool_mode", "transaction"), ("server_reset_query_always", "1")],
        &[("pool_mode", "statement")],
    ] {
        let pooler = PgBouncer::start(&stage.server, settings);
        let locks = stage.manager_at(pooler.port());
        let refused = block_on(locks.try_acquire(X, LONG)).expect_err("sessions are not ours");
        assert!(stage.holding().is_empty(), "{settings:?}");
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{settings:?}: {refused:?}");
        let said = refused.to_string();
        assert!(said.contains("pooler") && said.contains("PgBouncer"), "{said}");
        assert!(refused.help().unwrap().contains("postgres://"));
    }
}

#[test]
fn a_pool_by_session_holds_locks() {
    let stage = Stage::new();
    let pooler = PgBouncer::start(&stage.server, &[("pool_mode", "session")]);
    let (a, b) = (stage.manager_at(pooler.port()), stage.manager());
    let guard = acquire(&a, X, LONG);
    assert!(crate::stage::attempt(&b, X).is_none());
    block_on(guard.release()).unwrap();
    drop(crate::stage::attempt(&b, X).unwrap());
}
