//! Whoever cleans up behind a test that was killed.
//!
//! Values are not dropped when a process is killed, nor if they are statics. So every process that
//! starts servers starts a shell as well, which does nothing but read a pipe. It is told of each
//! server; when the pipe closes, because its writer has ended in whatever way, it kills those
//! that are left, and removes the folder that all of them are in.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use parking_lot::Mutex;

/// Keeps the list of servers in `$alive`, between blanks. A server that ended is off the list
/// before its process id can be given to somebody else.
const SCRIPT: &str = r#"
alive=' '
while read -r word pid; do
    case $word in
        born) alive="$alive$pid " ;;
        dead)
            case $alive in
                *" $pid "*) alive="${alive%% $pid *} ${alive#* $pid }" ;;
            esac
            ;;
    esac
done
for pid in $alive; do kill -9 "$pid"; done
rm -rf -- "$1"
"#;

#[derive(Debug)]
pub(super) struct Warden {
    folder: PathBuf,
    told: Mutex<ChildStdin>,
}

impl Warden {
    /// That of this process.
    pub(super) fn get() -> &'static Self {
        static WARDEN: OnceLock<Warden> = OnceLock::new();
        WARDEN.get_or_init(Self::new)
    }

    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("tenure-servers-").tempdir();
        let folder = folder.expect("temporary folders can be made").keep();
        // In a group of its own, so that Ctrl-C does not end it before its work is done.
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "warden"])
            .arg(&folder)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let told = shell.expect("there is a shell").stdin.take().expect("its input is a pipe");
        Self { folder, told: Mutex::new(told) }
    }

    /// The folder that is removed in the end.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// There is a server.
    pub(super) fn born(&self, pid: u32) {
        self.tell("born", pid);
    }

    /// It is gone, or about to be, or was so before.
    pub(super) fn dead(&self, pid: u32) {
        self.tell("dead", pid);
    }

    fn tell(&self, word: &str, pid: u32) {
        // Without a warden, dropping still cleans up.
        let _ = self.told.lock().write_all(format!("{word} {pid}\n").as_bytes());
    }
}
