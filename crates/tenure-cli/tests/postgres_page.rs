//! What the guide tells to type about PostgreSQL is typed here, on a server of our own.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use common::page::Shell;
use tenure_testkit::servers::postgres::PostgresServer;

#[test]
fn what_the_page_tells_to_type_does_what_it_says() {
    let server = PostgresServer::start();
    let port = server.port().to_string();
    let addresses = [
        ("localhost:5432", format!("127.0.0.1:{port}")),
        ("localhost PGPORT=5432", format!("127.0.0.1 PGPORT={port}")),
        ("localhost port=5432", format!("127.0.0.1 port={port}")),
        // A server of a test does not wait for its disk, which is said to be bad.
        ("tenure doctor  ", "tenure doctor || true".to_owned()),
    ];
    let addresses: Vec<_> = addresses.iter().map(|(page, here)| (*page, here.as_str())).collect();
    let psql = server.psql_command("postgres", "postgres");
    let words = [psql.get_program()].into_iter().chain(psql.get_args());
    let psql: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let shell = Shell::new(&server.url(), &addresses, "psql", &psql.join(" "));
    let said = shell.types("postgres.md");
    for words in [
        "I hold it\n",
        "by the environment\n",
        "by keys and values\n",
        "app may\n",
        "granted\nexit code 75\nnow it does\n",
        "\nf\n",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}
