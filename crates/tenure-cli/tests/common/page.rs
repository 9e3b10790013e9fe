//! What pages of the guide tell to type, taken from them and typed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Done, Site, done};

/// A block of a page: how it is marked, and what is in it.
pub(crate) type Block = (String, String);

pub(crate) fn blocks(page: &str) -> Vec<Block> {
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

/// A shell on a server of the page's own, with `tenure` and the server's own client in its path.
pub(crate) struct Shell {
    pub(crate) site: Site,
    /// Where the page has the server, and where it is.
    addresses: Vec<(String, String)>,
}

impl Shell {
    /// `client` is the program that the page calls, and `command` how it is to be called here.
    pub(crate) fn new(url: &str, addresses: &[(&str, &str)], client: &str, command: &str) -> Self {
        let site = Site::with(url);
        let bin = site.path().join("bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tenure"), bin.join("tenure")).unwrap();
        let script = format!("#!/bin/sh\nPATH=${{PATH#*:}} exec {command} \"$@\"\n");
        fs::write(bin.join(client), script).unwrap();
        fs::set_permissions(bin.join(client), fs::Permissions::from_mode(0o755)).unwrap();
        let owned = |(page, here): &(&str, &str)| ((*page).to_owned(), (*here).to_owned());
        Self { site, addresses: addresses.iter().map(owned).collect() }
    }

    pub(crate) fn run(&self, text: &str) -> Done {
        let mut text = text.to_owned();
        for (page, here) in &self.addresses {
            text = text.replace(page, here);
        }
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

    /// Types everything that a page marks to be run, in its order, and answers what was said.
    pub(crate) fn types(&self, page: &str) -> String {
        let blocks = blocks(page);
        let mut said = String::new();
        for (at, (mark, text)) in blocks.iter().enumerate() {
            if mark.starts_with("sh run") {
                let done = self.run(text);
                if let Some((_, output)) = blocks.get(at + 1).filter(|(mark, _)| mark == "text") {
                    assert_eq!(&done.stdout, output);
                }
                said += &done.stdout;
            }
        }
        said
    }
}
