//! Whom servers run as that refuse to run as root.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Accounts that there may be, the fitting one first.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// An account without rights, for when this process is root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// Whom to run as; `None` if we are not root, and servers run as we do.
    ///
    /// # Panics
    /// If we are root and nobody else is known.
    pub(super) fn for_servers() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let known = std::fs::read_to_string("/etc/passwd").expect("root can read /etc/passwd");
        let account = NAMES.iter().find_map(|name| find(&known, name));
        Some(account.expect("there is an account that is not root: postgres or nobody"))
    }

    pub(super) fn runs(self, command: &mut Command) {
        command.uid(self.user).gid(self.group);
    }

    /// Gives it a folder, and lets it in.
    pub(super) fn owns(self, folder: &Path) -> io::Result<()> {
        if let Some(parent) = folder.parent() {
            let mut mode = parent.metadata()?.permissions();
            mode.set_mode(mode.mode() | 0o111);
            std::fs::set_permissions(parent, mode)?;
        }
        chown(folder, Some(self.user), Some(self.group))
    }
}

fn find(known: &str, name: &str) -> Option<Account> {
    let mut words = known
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut words| (words.next() == Some(name)).then_some(words))?;
    let user = words.nth(1)?.parse().ok()?;
    let group = words.next()?.parse().ok()?;
    Some(Account { user, group })
}
