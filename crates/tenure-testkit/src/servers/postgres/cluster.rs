//! A folder with an empty database cluster: made once in a process, and copied from then on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use super::server::SUPERUSER;
use crate::servers::account::Account;
use crate::servers::process::{bounded, server_folder};

/// How long it may take to make one, or to copy it.
const DONE_WITHIN: Duration = Duration::from_secs(60);
/// Where Debian keeps the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The path of a program of the newest version that is installed.
///
/// # Panics
/// If there is none.
pub(super) fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
        .map(|(version, folder)| (version, folder.join("bin").join(name)))
        .filter(|(_, file)| file.is_file())
        .max();
    match newest {
        Some((_, file)) => file,
        None => crate::servers::process::installed(name, "postgresql"),
    }
}

/// Puts an empty cluster into a folder that is not there yet.
///
/// # Panics
/// If that does not work.
pub(super) fn make(data: &Path, account: Option<Account>) {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let folder = server_folder();
        if let Some(account) = account {
            account.owns(folder.path()).expect("root can give folders away");
        }
        let mut initdb = Command::new(program("initdb"));
        initdb.args(["--no-sync", "--no-instructions", "--auth=trust", "--encoding=UTF8"]);
        initdb.args(["--locale=C.UTF-8", "--username", SUPERUSER, "-D"]);
        initdb.arg(folder.path().join("data"));
        run(initdb, folder.path(), account);
        folder
    });
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto"]).arg(template.path().join("data")).arg(data);
    run(copy, template.path(), account);
}

/// Runs a command to its end in a folder.
pub(super) fn run(mut command: Command, folder: &Path, account: Option<Account>) {
    command.current_dir(folder);
    if let Some(account) = account {
        account.runs(&mut command);
    }
    let said = format!("{command:?}");
    let output = bounded(command, DONE_WITHIN).unwrap_or_else(|error| panic!("{said}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}: {errors}");
}
