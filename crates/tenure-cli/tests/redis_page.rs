//! What the guide tells to type about Redis is typed here, on a server of our own.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Done, Site, done};
use tenure_testkit::servers::redis::RedisServer;

/// A block of a page: how it is marked, and what is in it.
type Block = (String, String);

fn blocks(page: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide").join(page);
    let page = fs::read_to_string(path).unwrap();
    let parts: Vec<&str> = page.split("```").collect();
    let inside = parts.iter().skip(1).step_by(2);
    let block = |part: &&str| {
        let (mark, text) = part.split_once('\n').unwrap();
        (mark.to_owned(), text.to_owned())
    };
    inside.map(block).collect()
}

/// A shell on the page's server, with `tenure` and `redis-cli` in its path.
struct Shell {
    server: RedisServer,
    site: Site,
}

impl Shell {
    fn new() -> Self {
        let server = RedisServer::start();
        let site = Site::with(&server.url());
        let bin = site.path().join("bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tenure"), bin.join("tenure")).unwrap();
        let cli = "#!/bin/sh\nPATH=${PATH#*:} exec redis-cli -p ".to_owned();
        let cli = format!("{cli}{} \"$@\"\n", server.port());
        fs::write(bin.join("redis-cli"), cli).unwrap();
        fs::set_permissions(bin.join("redis-cli"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { server, site }
    }

    fn run(&self, text: &str) -> Done {
        let text = text.replace("localhost:6379", &format!("127.0.0.1:{}", self.server.port()));
        let script = self.site.path().join("script");
        fs::write(&script, text).unwrap();
        let mut command = self.site.command::<&str>([]);
        let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap();
        let path = format!("{}:{}", self.site.path().join("bin").display(), path.display());
        let mut shell = std::process::Command::new("sh");
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        command = shell;
        command.arg("-eu").arg(script).env("PATH", path);
        let done = done(command.current_dir(self.site.work()));
        assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
        done
    }
}

#[test]
fn what_the_page_tells_to_type_does_what_it_says() {
    let shell = Shell::new();
    let blocks = blocks("redis.md");
    let mut said = String::new();
    for (at, (mark, text)) in blocks.iter().enumerate() {
        if mark.starts_with("sh run") {
            let done = shell.run(text);
            if let Some((_, output)) = blocks.get(at + 1).filter(|(mark, _)| mark == "text") {
                assert_eq!(&done.stdout, output);
            }
            said += &done.stdout;
        }
    }
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
    let shell = Shell::new();
    let blocks = blocks("fencing.md");
    let block = |of: &str| &blocks.iter().find(|(mark, _)| mark == of).unwrap().1;
    fs::write(shell.site.work().join("write-if-newer.lua"), block("lua run")).unwrap();
    let done = shell.run(block("sh run"));
    let said: Vec<&str> = done.stdout.lines().filter(|line| !line.is_empty()).collect();
    assert!(said[1].starts_with("STALE ") && said[1].ends_with(" was here"), "{said:?}");
    assert_eq!((said.len(), said[0], said[2]), (3, "written", "final"), "{said:?}");
    // The same holder may write again, and a later one may; a longer number is a later one.
    let write = |fence: &str| {
        shell.server.cli(&["EVAL", block("lua run"), "1", "other", fence, "x"]).trim().to_owned()
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
    let shell = Shell::new();
    let blocks = blocks("coming-from.md");
    let (_, text) = blocks.iter().find(|(mark, _)| mark == "sh run").unwrap();
    assert_eq!(shell.run(text).stdout, "OK\nexit code 75\n");
}

#[test]
fn the_rights_of_the_page_are_enough_for_every_command() {
    let shell = Shell::new();
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
