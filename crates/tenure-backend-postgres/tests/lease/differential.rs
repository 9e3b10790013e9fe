//! The functions on the server and the pure machine answer the same random commands alike.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tenure_backend_postgres::LeaseBackend;
use tenure_core::backend::DynBackend;
use tenure_testkit::differential::{Pass, Subject, run};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::postgres::PostgresServer;

use crate::stage::Psql;

/// The functions tell the time by a table, which a test sets.
const CLOCK: &str = "
    CREATE TABLE tenure.test_clock (micros bigint);
    INSERT INTO tenure.test_clock VALUES (1800000000000000);
    CREATE OR REPLACE FUNCTION tenure.clock_micros() RETURNS bigint LANGUAGE sql VOLATILE
      AS 'SELECT micros FROM tenure.test_clock';";

/// Has every turn take the way of turns that share a statement.
const TOGETHER: &str = "
    DO $$ DECLARE call record; BEGIN
      FOR call IN SELECT oid FROM pg_proc WHERE proname IN ('claim_many', 'renew_many', 'release_many')
      LOOP
        EXECUTE replace(pg_get_functiondef(call.oid), 'cardinality(names) > 1', 'cardinality(names) > 0');
      END LOOP;
    END $$;";

fn cases() -> u32 {
    std::env::var("TENURE_CASES").map_or(120, |cases| cases.parse().unwrap())
}

fn passing(psql: &Arc<Mutex<Psql>>) -> Option<Pass> {
    let psql = psql.clone();
    Some(Box::new(move |time: Duration| {
        let micros = time.as_micros();
        let sql = format!("UPDATE tenure.test_clock SET micros = micros + {micros};");
        psql.lock().unwrap().run(&sql);
        Box::pin(async {})
    }))
}

fn compare(but: &str) {
    let server = PostgresServer::start();
    server.psql(&tenure_backend_postgres::install_sql("tenure"));
    server.psql(CLOCK);
    server.psql(but);
    let psql = Arc::new(Mutex::new(Psql::start(&server)));
    let mut processes: Vec<Arc<dyn DynBackend>> = Vec::new();
    for _ in 0..3 {
        processes.push(Arc::new(LeaseBackend::open(&server.url()).unwrap()));
    }
    run(seed("postgres"), cases(), async || Subject {
        backends: processes.clone(),
        pass: passing(&psql),
        remembers_released: true,
        looking_ends: false,
        faulty: false,
    });
}

#[test]
fn the_functions_do_as_the_machine() {
    compare("");
}

#[test]
fn the_functions_do_as_the_machine_when_turns_share_a_statement() {
    compare(TOGETHER);
}
