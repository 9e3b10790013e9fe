//! Files that somebody put where ours should be: refused with a typed error, and nothing outside
//! is read, written or removed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_lite::future::block_on;
use rustix::fs::{CWD, Mode};
use support::*;
use tempfile::TempDir;
use tenure_backend_file::{FileBackend, FileConfig, FileRegister};
use tenure_core::backend::Backend;
use tenure_core::clock::SystemClock;
use tenure_core::register::{Register, Swap};
use tenure_core::{Error, ErrorKind, LockName};

const NOBODY: u32 = 65_534;

/// A lock that is held, and a file outside that must stay as it is.
struct Scene {
    root: TempDir,
    outside: TempDir,
    x: LockName,
    dir: PathBuf,
}

const SECRET: &[u8] = b"not yours";

impl Scene {
    fn new() -> Self {
        let (root, outside) = (room(), room());
        std::fs::write(outside.path().join("file"), SECRET).unwrap();
        let x = name("x");
        let machine = machine(&root);
        granted(&machine, &claim(&x));
        let dir = directory(machine.register(), &x);
        Self { root, outside, x, dir }
    }

    fn file(&self) -> PathBuf {
        self.outside.path().join("file")
    }

    /// What a claim is answered after `file` was replaced by something else.
    fn refusal(&self, kind: ErrorKind) -> Error {
        let error = acquire(&machine(&self.root), &claim(&self.x)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains("lock"), "it names the path: {error}");
        assert_eq!(std::fs::read(self.file()).unwrap(), SECRET);
        assert_eq!(names_in(self.outside.path()), ["file"]);
        error
    }

    fn replace(&self, prefix: &str) -> PathBuf {
        let path = only(&self.dir, prefix);
        std::fs::remove_file(&path).unwrap();
        path
    }
}

fn fifo(path: &Path) {
    rustix::fs::mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap();
}

#[test]
fn a_link_in_place_of_the_record_is_not_followed() {
    let scene = Scene::new();
    symlink(scene.file(), scene.replace("rec-")).unwrap();
    scene.refusal(ErrorKind::Corrupt);
}

#[test]
fn a_pipe_in_place_of_the_record_makes_nobody_wait() {
    let scene = Scene::new();
    fifo(&scene.replace("rec-"));
    scene.refusal(ErrorKind::Corrupt);
}

#[test]
fn a_directory_in_place_of_the_record_is_refused() {
    let scene = Scene::new();
    std::fs::create_dir(scene.replace("rec-")).unwrap();
    scene.refusal(ErrorKind::Corrupt);
}

#[test]
fn a_huge_record_is_not_read() {
    let scene = Scene::new();
    let file = std::fs::File::create(only(&scene.dir, "rec-")).unwrap();
    file.set_len(1 << 30).unwrap();
    scene.refusal(ErrorKind::Corrupt);
}

#[test]
fn a_damaged_or_empty_record_is_refused() {
    let scene = Scene::new();
    let record = only(&scene.dir, "rec-");
    let mut bytes = std::fs::read(&record).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&record, &bytes).unwrap();
    let refusal = || acquire(&machine(&scene.root), &claim(&scene.x)).unwrap_err().kind();
    assert_eq!(refusal(), ErrorKind::Corrupt);
    // Empty, but of this boot: no loss of power explains it.
    std::fs::write(&record, b"").unwrap();
    assert_eq!(refusal(), ErrorKind::Corrupt);
}

#[test]
fn the_record_of_another_lock_is_refused() {
    let scene = Scene::new();
    let machine = machine(&scene.root);
    granted(&machine, &claim(&name("other")));
    let other = only(&directory(machine.register(), &name("other")), "rec-");
    std::fs::copy(other, only(&scene.dir, "rec-")).unwrap();
    let error = acquire(&machine, &claim(&scene.x)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn a_generation_at_the_end_of_numbers_is_refused() {
    for far in ["18446744073709551615", "09223372036854775807", "99999999999999999999"] {
        let scene = Scene::new();
        std::fs::write(scene.dir.join(format!("cur-{far}-00000000000000aa")), b"").unwrap();
        scene.refusal(ErrorKind::Corrupt);
    }
}

#[test]
fn the_last_generation_is_not_stepped_over() {
    let scene = Scene::new();
    let (cur, rec) = (only(&scene.dir, "cur-"), only(&scene.dir, "rec-"));
    let at = "00000000000000aa";
    std::fs::rename(cur, scene.dir.join(format!("cur-09223372036854775806-{at}"))).unwrap();
    let line = format!("09223372036854775806 {at} 0000000000000000 ");
    let line = format!("{line}{:08x}\n", crc32c::crc32c(line.as_bytes()));
    std::fs::write(&rec, line).unwrap();
    std::fs::rename(rec, scene.dir.join(format!("rec-09223372036854775805-{at}"))).unwrap();
    let register = open(&scene.root);
    let at = load(&register, &scene.x);
    let swapped = swap(&register, &scene.x, &at.version, b"");
    assert!(matches!(swapped, Swap::Failed(e) if e.kind() == ErrorKind::Corrupt));
}

#[test]
fn a_lock_without_its_current_step_is_never_made_anew() {
    let scene = Scene::new();
    scene.replace("cur-");
    let before = names_in(&scene.dir);
    scene.refusal(ErrorKind::Corrupt);
    assert_eq!(names_in(&scene.dir), before);
}

#[test]
fn a_lock_whose_record_is_gone_is_never_made_anew() {
    let scene = Scene::new();
    scene.replace("rec-");
    scene.refusal(ErrorKind::Corrupt);
}

#[test]
fn a_directory_of_a_later_version_is_left_alone() {
    let scene = Scene::new();
    scene.replace("cur-");
    std::fs::write(scene.dir.join("FORMAT"), b"tenure-file/2 relay\n").unwrap();
    let error = acquire(&machine(&scene.root), &claim(&scene.x)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn something_else_in_place_of_the_directory_is_refused() {
    let scene = Scene::new();
    std::fs::remove_dir_all(&scene.dir).unwrap();
    symlink(scene.outside.path(), &scene.dir).unwrap();
    scene.refusal(ErrorKind::Corrupt);
    std::fs::remove_file(&scene.dir).unwrap();
    std::fs::write(&scene.dir, b"").unwrap();
    scene.refusal(ErrorKind::Corrupt);
    std::fs::remove_file(&scene.dir).unwrap();
    fifo(&scene.dir);
    scene.refusal(ErrorKind::Corrupt);
}

#[test]
fn a_link_in_place_of_a_sign_of_life_is_neither_read_nor_written() {
    let scene = Scene::new();
    let register = open(&scene.root);
    let m = member(&scene.x);
    block_on(register.admit(&m)).unwrap();
    let file = scene.dir.join(format!("hb-{}", &format!("{}", m.id)[..32]));
    std::fs::remove_file(&file).unwrap();
    symlink(scene.file(), &file).unwrap();
    let kind = |error: Error| assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    kind(block_on(register.beat(&m)).unwrap_err());
    kind(block_on(register.admit(&m)).unwrap_err());
    kind(block_on(register.signs(&scene.x, &[m.id])).unwrap_err());
    block_on(register.wake(&scene.x, &[m.id]));
    let outside = std::fs::metadata(scene.file()).unwrap().modified().unwrap();
    assert!(outside.elapsed().unwrap() < DEADLINE, "its time is as it was");
    block_on(register.dismiss(&scene.x, m.id));
    assert_eq!(std::fs::read(scene.file()).unwrap(), SECRET);
}

#[test]
fn a_pipe_in_place_of_a_sign_of_life_makes_nobody_wait() {
    let scene = Scene::new();
    let file = scene.replace("hb-");
    fifo(&file);
    scene.refusal(ErrorKind::Corrupt);
    let register = open(&scene.root);
    let m = member(&scene.x);
    std::fs::rename(&file, scene.dir.join(format!("hb-{}", &format!("{}", m.id)[..32]))).unwrap();
    let error = block_on(register.beat(&m)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn foreign_files_are_neither_minded_nor_touched() {
    let scene = Scene::new();
    for n in 0..2000 {
        std::fs::write(scene.root.path().join(format!("stray{n}.lock")), b"").unwrap();
        std::fs::write(scene.dir.join(format!("rec-stray{n}")), b"").unwrap();
    }
    let not_text = std::ffi::OsStr::from_bytes(b"caf\xe9");
    std::fs::write(scene.dir.join(not_text), b"").unwrap();
    let machine = machine(&scene.root);
    let other = claim(&name("y"));
    granted(&machine, &other);
    let waits = waiting_claim(&scene.x);
    acquire(&machine, &waits).unwrap();
    block_on(machine.withdraw(&waits)).unwrap();
    machine.register().prune(std::time::Duration::ZERO).unwrap();
    assert_eq!(std::fs::read_dir(scene.root.path()).unwrap().count(), 2000 + 3);
    // The holder's process is gone: beside them there are a step, its record, the one before and
    // the format.
    assert_eq!(std::fs::read_dir(&scene.dir).unwrap().count(), 2001 + 4);
}

#[test]
fn a_root_that_others_may_write_is_refused_unless_that_is_wanted() {
    let room = room();
    let root = room.path().join("open");
    std::fs::create_dir(&root).unwrap();
    let set = |mode| std::fs::set_permissions(&root, PermissionsExt::from_mode(mode)).unwrap();
    let open = |config: FileConfig| FileRegister::open(&config, Arc::new(SystemClock));
    for mode in [0o777, 0o770, 0o702] {
        set(mode);
        let error = open(FileConfig::new(&root)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.help().unwrap().contains("shared=true"));
    }
    set(0o1777);
    open(FileConfig::new(&root)).unwrap();
    set(0o770);
    open(FileConfig::new(&root).shared(true)).unwrap();
}

#[test]
fn what_is_shared_may_be_written_by_the_group_and_what_is_not_may_not() {
    let room = room();
    let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    for (shared, dirs, files) in [(true, 0o2770, 0o660), (false, 0o700, 0o600)] {
        let root = room.path().join(format!("shared-{shared}"));
        let register = open_as(&FileConfig::new(&root).shared(shared));
        let x = name("x");
        block_on(register.admit(&member(&x))).unwrap();
        put(&register, &x, b"");
        let dir = directory(&register, &x);
        assert_eq!(mode(&root), dirs);
        assert_eq!(mode(&dir), dirs);
        for file in names_in(&dir) {
            assert_eq!(mode(&dir.join(&file)), files, "{file}");
        }
        assert_eq!(mode(&only(&root.join("procs"), "proc-")), files);
    }
}

#[test]
fn a_file_system_that_is_not_known_to_be_fit_is_refused() {
    let error = FileRegister::open(&FileConfig::new("/proc"), Arc::new(SystemClock)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.help().unwrap().contains("unverified_fs=true"));
}

#[test]
fn a_root_that_is_a_file_is_refused() {
    let room = room();
    let file = room.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let open = |path: &Path| FileBackend::open(&FileConfig::new(path), Arc::new(SystemClock));
    assert_eq!(open(&file).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(open(&file.join("below")).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Runs as the user nobody, if this user may.
fn as_nobody(run: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let nobody = rustix::fs::Uid::from_raw(NOBODY);
            if rustix::process::geteuid().is_root() {
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            run();
        });
        thread.join().unwrap();
    });
}

#[test]
fn what_may_not_be_read_or_written_is_denied() {
    let room = room();
    std::fs::set_permissions(room.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    as_nobody(|| {
        let root = room.path().join("locks");
        let machine = machine(&root);
        let x = name("x");
        granted(&machine, &claim(&x));
        let dir = directory(machine.register(), &x);
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        let kind = || acquire(&machine, &claim(&x)).unwrap_err().kind();
        let record = only(&dir, "rec-");
        set(&record, 0o000);
        assert_eq!(kind(), ErrorKind::Denied);
        set(&record, 0o600);
        set(&dir, 0o000);
        assert_eq!(kind(), ErrorKind::Denied);
        set(&dir, 0o500);
        let waits = acquire(&machine, &waiting_claim(&x)).unwrap_err();
        assert_eq!(waits.kind(), ErrorKind::Denied);
        set(&dir, 0o700);
        set(&root, 0o500);
        assert_eq!(acquire(&machine, &claim(&name("y"))).unwrap_err().kind(), ErrorKind::Denied);
        set(&root, 0o700);
    });
}

#[test]
fn what_another_user_put_there_is_denied_unless_the_directory_is_shared() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give files away, so that nobody else can be shown this.
        return;
    }
    let scene = Scene::new();
    for path in [only(&scene.dir, "rec-"), scene.dir.clone()] {
        std::os::unix::fs::chown(&path, Some(NOBODY), None).unwrap();
        let error = scene.refusal(ErrorKind::Denied);
        assert!(error.help().unwrap().contains("shared=true"));
        let config = FileConfig::new(scene.root.path()).shared(true);
        load(&open_as(&config), &scene.x);
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    }
    std::os::unix::fs::chown(only(&scene.dir, "hb-"), Some(NOBODY), None).unwrap();
    scene.refusal(ErrorKind::Denied);
    std::os::unix::fs::chown(scene.root.path(), Some(NOBODY), None).unwrap();
    let config = FileConfig::new(scene.root.path());
    let error = FileRegister::open(&config, Arc::new(SystemClock)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}
