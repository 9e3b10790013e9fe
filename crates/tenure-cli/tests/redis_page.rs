//! What the guide tells to type about Redis is typed here, on a server of our own.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use std::fs;

use common::page::{Shell, blocks};
use tenure_testkit::servers::redis::RedisServer;

fn shell() -> (RedisServer, Shell) {
    let server = RedisServer::start();
    let here = format!("127.0.0.1:{}", server.port());
    let cli = format!("redis-cli -p {}", server.port());
    let shell = Shell::new(&server.url(), &[("localhost:6379", &here)], "redis-cli", &cli);
    (server, shell)
}

#[test]
fn what_the_page_tells_to_type_does_what_it_says() {
    let (_server, shell) = shell();
    let said = shell.types("redis.md");
    for words in [
        "I hold it\n",
        "in database 3\n",
        "OK\nexit code 75\n1\nnow it does\n",
        "\n0\n",
        "ACL SETUSER locker +pexpireat",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}

#[test]
fn a_script_that_compares_fencing_tokens_refuses_who_is_late() {
    let (server, shell) = shell();
    let blocks = blocks("fencing.md");
    let block = |of: &str| &blocks.iter().find(|(mark, _)| mark == of).unwrap().1;
    fs::write(shell.site.work().join("write-if-newer.lua"), block("lua run")).unwrap();
    let done = shell.run(block("sh run"));
    let said: Vec<&str> = done.stdout.lines().filter(|line| !line.is_empty()).collect();
    assert!(said[1].starts_with("STALE ") && said[1].ends_with(" was here"), "{said:?}");
    assert_eq!((said.len(), said[0], said[2]), (3, "written", "final"), "{said:?}");
    // The same holder may write again, and a later one may; a longer number is a later one.
    let write = |fence: &str| {
        server.cli(&["EVAL", block("lua run"), "1", "other", fence, "x"]).trim().to_owned()
    };
    for (fence, said) in
        [("9", "written"), ("9", "written"), ("10", "written"), ("9", "STALE 10 was here")]
    {
        assert_eq!(write(fence), said, "{fence}");
    }
    assert_eq!(write("18446744073709551615"), "written");
    assert_eq!(write("18446744073709551614"), "STALE 18446744073709551615 was here");
}

#[test]
fn a_program_that_is_replaced_and_its_successor_exclude_each_other() {
    let (_server, shell) = shell();
    let blocks = blocks("coming-from.md");
    let (_, text) = blocks.iter().find(|(mark, _)| mark == "sh run").unwrap();
    assert_eq!(shell.run(text).stdout, "OK\nexit code 75\n");
}

#[test]
fn the_rights_of_the_page_are_enough_for_every_command() {
    let (_server, shell) = shell();
    let (_, rights) =
        blocks("redis.md").into_iter().find(|(mark, _)| mark == "sh run acl").unwrap();
    shell.run(&rights);
    for (keys, prefix) in [("'~*'", ""), ("resetkeys '~locks:*' '~tenure:{*'", "?prefix=locks:")] {
        shell.run(&format!("redis-cli ACL SETUSER locker {keys}"));
        let store = format!("redis://locker:change-me@localhost:6379/2{prefix}");
        shell.run(&format!(
            "export TENURE_STORE='{store}'\n\
             tenure run x -- true\n\
             tenure run -s x -- tenure run -s x -- true\n\
             tenure acquire y --ttl 1m --token-file token\n\
             tenure renew y --token-file token\n\
             tenure release y --token-file token\n\
             rm token\n\
             tenure acquire y > /dev/null\n\
             tenure list | grep y\n\
             tenure force-release y --yes --reason test\n\
             tenure doctor > said || {{ cat said; exit 1; }}\n\
             grep 'the user locker may do all' said\n"
        ));
    }
}
