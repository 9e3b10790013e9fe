//! A server that speaks TLS is who it has to be, or it is not spoken to.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use tenure_core::{Error, ErrorKind, LockManager, Result};
use tenure_testkit::servers::postgres::{PostgresServer, PostgresSetup};

const TTL: Duration = Duration::from_secs(30);

fn lock(server: &PostgresServer, host: &str, tls: &str) -> Result<()> {
    let address = format!(
        "host={host} hostaddr=127.0.0.1 port={} user=postgres password=secret dbname=postgres \
         room=advisory {tls}",
        server.port()
    );
    let locks = LockManager::new(tenure_backend_postgres::open(&address)?)?;
    futures_lite::future::block_on(async {
        let guard = locks.acquire("x", TTL).await?;
        guard.release().await.map_err(Error::from)
    })
}

#[test]
fn the_modes_of_tls_mean_what_libpq_means_by_them() {
    let server = PostgresSetup::new().tls().password("secret").start();
    let own = server.certificate().display().to_string();
    let stranger = PostgresSetup::new().tls().start();
    let other = stranger.certificate().display().to_string();
    for (host, tls) in [
        ("localhost", String::new()),
        ("localhost", "sslmode=prefer".into()),
        ("elsewhere", "sslmode=require".into()),
        ("elsewhere", format!("sslmode=verify-ca sslrootcert={own}")),
        ("localhost", format!("sslmode=verify-full sslrootcert={own}")),
    ] {
        lock(&server, host, &tls).unwrap_or_else(|error| panic!("{host} {tls}: {error:?}"));
    }
    for (host, tls) in [
        ("localhost", format!("sslmode=verify-ca sslrootcert={other}")),
        ("localhost", format!("sslmode=require sslrootcert={other}")),
        ("localhost", "sslmode=verify-full".into()),
        ("elsewhere", format!("sslmode=verify-full sslrootcert={own}")),
        ("localhost", "sslmode=disable".into()),
    ] {
        let error = lock(&server, host, &tls).expect_err(&tls);
        assert_eq!(error.kind(), ErrorKind::Denied, "{host} {tls}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
    let error = lock(&server, "localhost", "sslmode=verify-full sslrootcert=/no/such/file");
    assert_eq!(error.expect_err("it is not there").kind(), ErrorKind::Invalid);
}

#[test]
fn a_server_without_tls_is_refused_where_it_is_required() {
    let server = PostgresServer::start();
    lock(&server, "localhost", "sslmode=prefer").unwrap();
    let error = lock(&server, "localhost", "sslmode=require").expect_err("it speaks none");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
}
