//! TLS: who is trusted and who is not, with certificates that are made here.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kit;

use std::path::Path;
use std::sync::Arc;

use kit::{LONG, SOON, manager, within};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use tenure_backend_redis::RedisBackend;
use tenure_core::{Error, ErrorKind};
use tenure_testkit::servers::ports::free_port;
use tenure_testkit::servers::redis::{RedisCluster, RedisServer, RedisSetup};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A CA with files for a server of this name, and for a client: `ca.pem`, `server.pem`,
/// `server.key`, `client.pem`, `client.key`.
fn certificates(folder: &Path, server: &str) {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = |who: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, who);
        params
    };
    let mut ca = params("ca", &[]);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", ca.self_signed(&key).unwrap().pem());
    let ca = Issuer::new(ca, key);
    for (who, name) in [("server", server), ("client", "client")] {
        let key = KeyPair::generate().unwrap();
        write(&format!("{who}.pem"), params(who, &[name]).signed_by(&key, &ca).unwrap().pem());
        write(&format!("{who}.key"), key.serialize_pem());
    }
}

/// A server with TLS at a port of its own, and that port.
fn server(folder: &Path, asks_clients: &str) -> (RedisServer, u16) {
    let port = free_port();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let server = RedisSetup::new().with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &file("server.pem"),
        "--tls-key-file",
        &file("server.key"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
        "--tls-auth-clients",
        asks_clients,
    ]);
    (server.start(), port)
}

async fn refused(url: &str) -> Error {
    within(SOON, "an answer", manager(url).acquire("lock", LONG)).await.unwrap_err()
}

async fn takes(url: &str) {
    let guard = within(SOON, "a lock", manager(url).acquire("lock", LONG)).await.unwrap();
    guard.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_server_that_the_ca_signed_under_its_name_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), "localhost");
    let (server, port) = server(folder.path(), "no");
    let ca = folder.path().join("ca.pem").display().to_string();
    takes(&format!("rediss://localhost:{port}?ca={ca}")).await;

    let error = refused(&format!("rediss://127.0.0.1:{port}?ca={ca}")).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "another name: {error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
    let error = refused(&format!("rediss://localhost:{port}")).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "nobody whom the web trusts: {error:?}");
    let others = tempfile::tempdir().unwrap();
    certificates(others.path(), "localhost");
    let other = others.path().join("ca.pem").display().to_string();
    let error = refused(&format!("rediss://localhost:{port}?ca={other}")).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "another CA: {error:?}");
    // A server without TLS is not talked to without it.
    let error = refused(&format!("rediss://localhost:{}?ca={ca}", server.port())).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "no TLS: {error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_a_certificate_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), "localhost");
    let (_server, port) = server(folder.path(), "yes");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let url = format!("rediss://localhost:{port}?ca={}", file("ca.pem"));
    takes(&format!("{url}&cert={}&key={}", file("client.pem"), file("client.key"))).await;
    let error = refused(&url).await;
    assert!(error.kind().is_transient(), "{error:?}");
}

/// Speaks TLS in front of a server that does not, and answers at which port.
#[allow(clippy::disallowed_methods, reason = "a test owns its tasks")]
async fn front(folder: &Path, behind: u16) -> u16 {
    let chain = CertificateDer::pem_file_iter(folder.join("server.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(("127.0.0.1", behind)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_of_a_cluster_are_reached_over_tls_and_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    // So do the nodes call each other.
    certificates(folder.path(), "127.0.0.1");
    let cluster = RedisCluster::start(3);
    let mut ports = Vec::new();
    for index in 0..3 {
        ports.push(front(folder.path(), cluster.node(index).port()).await);
        cluster.announce(index, ports[index]);
    }
    let ca = folder.path().join("ca.pem").display().to_string();
    let locks = manager(&format!("rediss+cluster://127.0.0.1:{}?ca={ca}", ports[0]));
    for n in 0..30 {
        let guard = locks.acquire(format!("lock-{n}"), LONG).await.unwrap();
        guard.release().await.unwrap();
    }
    let has_some = |index| cluster.node(index).cli(&["DBSIZE"]) != "0";
    assert!((0..3).all(has_some), "the locks are on all nodes");
    let error = refused(&format!("rediss+cluster://127.0.0.1:{}", ports[0])).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "nobody whom the web trusts: {error:?}");
}

#[test]
fn files_that_are_none_are_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), "localhost");
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(folder.path().join("empty.pem"), "").unwrap();
    for bad in [
        format!("rediss://localhost?ca={}", file("missing.pem")),
        format!("rediss://localhost?ca={}", file("empty.pem")),
        format!("rediss://localhost?cert={}", file("client.pem")),
        format!("rediss://localhost?key={}", file("client.key")),
        format!("rediss://localhost?cert={}&key={}", file("client.pem"), file("ca.pem")),
    ] {
        let error = RedisBackend::open(&bad).map(drop).expect_err(&bad);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}: {error:?}");
    }
}
