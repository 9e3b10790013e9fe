//! The register on real directories: one record per name, replaced by one at a time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use futures_lite::future::block_on;
use support::*;
use tenure_backend_file::FileConfig;
use tenure_core::backend::Member;
use tenure_core::clock::{Clock, Moment, SystemClock};
use tenure_core::register::{Observation, Register, Swap, Version};
use tenure_core::{ErrorKind, Fence, Token};

#[test]
fn a_name_that_was_never_used_is_loaded_without_making_anything() {
    let room = room();
    let register = open(&room);
    let loaded = load(&register, &name("x"));
    assert_eq!(loaded.bytes, None);
    assert!(Fence::new(1 << 52) < loaded.floor, "it begins at the wall clock");
    assert!(names_in(room.path()).is_empty());
}

#[test]
fn a_record_is_replaced_only_at_its_version() {
    let room = room();
    let (a, b) = (open(&room), open(&room));
    let x = name("x");
    let first = load(&a, &x);
    assert!(matches!(swap(&a, &x, &first.version, b"one"), Swap::Won));
    assert!(matches!(swap(&b, &x, &first.version, b"two"), Swap::Lost));
    let second = load(&b, &x);
    assert_eq!(second.bytes.as_deref(), Some(&b"one"[..]));
    assert!(first.floor < second.floor);
    assert!(matches!(swap(&b, &x, &second.version, b"two"), Swap::Won));
    assert!(matches!(swap(&a, &x, &second.version, b"three"), Swap::Lost));
    assert_eq!(load(&a, &x).bytes.as_deref(), Some(&b"two"[..]));
    let files = names_in(&directory(&a, &x));
    assert_eq!(files.len(), 4, "FORMAT, the step, its record, the one before: {files:?}");
}

#[test]
fn a_version_that_this_store_never_gave_is_refused() {
    let room = room();
    let register = open(&room);
    let swapped = swap(&register, &name("x"), &Version("7".into()), b"");
    assert!(matches!(swapped, Swap::Failed(e) if e.kind() == ErrorKind::Invalid));
}

#[test]
fn a_committer_that_pauses_loses_however_long_it_pauses() {
    let room = room();
    let register = open(&room);
    let x = name("x");
    put(&register, &x, b"0");
    let stale = load(&register, &x);
    for n in 1..4_u8 {
        put(&register, &x, &[n]);
        assert!(matches!(swap(&register, &x, &stale.version, b"stale"), Swap::Lost));
    }
    assert_eq!(load(&register, &x).bytes.as_deref(), Some(&[3][..]));
    let files = names_in(&directory(&register, &x));
    assert_eq!(files.len(), 4, "the loser leaves nothing: {files:?}");
}

#[test]
fn of_many_who_make_the_same_directory_one_wins() {
    const THREADS: usize = 4;
    let room = room();
    let barrier = Barrier::new(THREADS);
    let wins: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let register = open(&room);
                    let race = |n| {
                        let x = name(&format!("x{n}"));
                        let at = load(&register, &x).version;
                        barrier.wait();
                        matches!(swap(&register, &x, &at, b""), Swap::Won)
                    };
                    (0..50).filter(|n| race(*n)).count()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(wins, 50);
    let litter = names_in(room.path()).into_iter().filter(|n| n.starts_with("tmp-")).count();
    assert_eq!(litter, 0);
}

#[test]
fn threads_that_count_in_a_record_lose_nothing() {
    const THREADS: u64 = 8;
    const STEPS: u64 = 200;
    let room = room();
    let x = name("counter");
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let register = open(&room);
                for _ in 0..STEPS {
                    for attempt in 0.. {
                        let at = load(&register, &x);
                        let count = at.bytes.map_or(0, number);
                        let next = (count + 1).to_string();
                        match swap(&register, &x, &at.version, next.as_bytes()) {
                            Swap::Won => break,
                            Swap::Lost => block_on(register.pause(attempt)),
                            other => panic!("{other:?}"),
                        }
                    }
                }
            });
        }
    });
    let register = open(&room);
    assert_eq!(load(&register, &x).bytes.map_or(0, number), THREADS * STEPS);
    let files = names_in(&directory(&register, &x));
    assert_eq!(files.len(), 4, "step, record, the one before, format: {files:?}");
}

fn number(bytes: Vec<u8>) -> u64 {
    String::from_utf8(bytes).unwrap().parse().unwrap()
}

#[test]
fn records_that_nobody_can_need_any_more_are_swept() {
    let room = room();
    let register = open(&room);
    let x = name("x");
    put(&register, &x, b"0");
    let dir = directory(&register, &x);
    // Left by a committer that was killed between writing its record and moving the step.
    let stray = only(&dir, "rec-").with_file_name("rec-00000000000000000001-00000000000000aa");
    std::fs::write(&stray, b"stray").unwrap();
    assert_eq!(load(&register, &x).bytes.as_deref(), Some(&b"0"[..]));
    assert!(!stray.exists());
    // One that belongs to the present step may still be committed.
    let current = only(&dir, "cur-").file_name().unwrap().to_str().unwrap()[4..24].to_owned();
    let pending = dir.join(format!("rec-{current}-00000000000000aa"));
    std::fs::write(&pending, b"pending").unwrap();
    load(&register, &x);
    assert!(pending.exists());
}

/// The files of the records in a directory.
fn inodes(dir: &Path) -> Vec<u64> {
    use std::os::unix::fs::MetadataExt;
    let records = names_in(dir).into_iter().filter(|name| name.starts_with("rec-"));
    let mut all: Vec<_> = records.map(|n| dir.join(n).metadata().unwrap().ino()).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_record_is_written_into_the_file_of_the_one_before_the_last() {
    let room = room();
    let (register, other) = (open(&room), open(&room));
    let x = name("x");
    put(&register, &x, b"0");
    put(&register, &x, b"a long record");
    let dir = directory(&register, &x);
    let first = inodes(&dir);
    assert_eq!(first.len(), 2);
    for (n, register) in [&other, &register, &register, &other].into_iter().enumerate() {
        let record = n.to_string().into_bytes();
        put(register, &x, &record);
        assert_eq!(inodes(&dir), first);
        assert_eq!(load(register, &x).bytes, Some(record), "shorter than what was there");
    }
}

#[test]
fn a_file_whose_author_may_sleep_is_not_written_into() {
    use std::io::Write as _;
    let room = room();
    let register = open(&room);
    let x = name("x");
    put(&register, &x, b"0");
    put(&register, &x, b"1");
    let dir = directory(&register, &x);
    // It has made its file, and stops before it writes.
    let at = &only(&dir, "cur-").file_name().unwrap().to_str().unwrap()[4..24].to_owned();
    let path = dir.join(format!("rec-{at}-00000000000000aa"));
    let mut sleeper = std::fs::File::create_new(path).unwrap();
    for n in 0..8_u8 {
        put(&register, &x, &[n; 100]);
    }
    sleeper.write_all(&[b'x'; 1000]).unwrap();
    assert_eq!(load(&register, &x).bytes, Some(vec![7; 100]));
    assert_eq!(inodes(&dir).len(), 2, "what it left is gone");
}

#[test]
fn files_that_others_may_have_put_there_or_that_have_to_be_safe_first_are_not_written_into() {
    for config in [|c: FileConfig| c.shared(true), |c: FileConfig| c.durable(true)] {
        let room = room();
        let register = open_as(&config(FileConfig::new(room.path().join("locks"))));
        let x = name("x");
        for n in 0..4_u8 {
            put(&register, &x, &[n]);
            assert_eq!(inodes(&directory(&register, &x)).len(), 1);
        }
    }
}

#[test]
fn whoever_reads_a_record_that_is_written_over_looks_again() {
    let room = room();
    let x = name("x");
    let register = open(&room);
    put(&register, &x, b"0");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let register = open(&room);
            for n in 0..2000_u32 {
                put(&register, &x, n.to_string().repeat(500).as_bytes());
            }
            over.store(true, std::sync::atomic::Ordering::Release);
        });
        let mut last = 0;
        while !over.load(std::sync::atomic::Ordering::Acquire) {
            let bytes = load(&register, &x).bytes.unwrap();
            let text = String::from_utf8(bytes).unwrap();
            let n: u32 = text[..text.len().div_ceil(500)].parse().unwrap();
            assert!(last <= n && (text == "0" || text == n.to_string().repeat(500)), "{text}");
            last = n;
        }
    });
}

#[test]
fn a_process_that_comes_back_gives_its_sign_in_the_file_of_its_last() {
    use std::os::unix::fs::MetadataExt;
    let room = room();
    let x = name("x");
    let kept = |dir: &Path| names_in(dir).iter().filter(|n| n.starts_with("tmp-")).count();
    let dir = {
        let machine = machine(&room);
        let round = || {
            let claim = claim(&x);
            let fence = granted(&machine, &claim);
            let dir = directory(machine.register(), &x);
            let sign = only(&dir, "hb-").metadata().unwrap().ino();
            (claim, fence, dir, sign)
        };
        let (first, fence, dir, _) = round();
        release(&machine, &first, fence);
        assert_eq!(kept(&dir), 0, "it may not come back");
        let (second, fence, _, sign) = round();
        release(&machine, &second, fence);
        assert_eq!(kept(&dir), 1);
        let (third, fence, _, again) = round();
        assert_eq!((again, kept(&dir)), (sign, 0));
        // Whoever renewed may be about to renew.
        let mut member = Member::new(x.clone(), third.token.clone(), TTL, Some(fence));
        member.fence = Some(fence);
        block_on(machine.register().beat(&member)).unwrap();
        release(&machine, &third, fence);
        assert_eq!(kept(&dir), 0);
        let (fourth, fence, _, _) = round();
        release(&machine, &fourth, fence);
        assert_eq!(kept(&dir), 1);
        dir
    };
    assert_eq!(kept(&dir), 0, "the process has ended");
}

#[test]
fn of_two_current_steps_the_higher_counts() {
    let room = room();
    let register = open(&room);
    let x = name("x");
    put(&register, &x, b"0");
    let dir = directory(&register, &x);
    // As a listing shows it that is made while the name moves.
    std::fs::write(dir.join("cur-00000000000000000001-00000000000000aa"), b"").unwrap();
    assert_eq!(load(&register, &x).bytes.as_deref(), Some(&b"0"[..]));
}

#[test]
fn a_member_lives_from_before_the_swap_that_lists_it() {
    let room = room();
    let register = open(&room);
    let x = name("x");
    let early = member(&x);
    let at = load(&register, &x).version;
    block_on(register.admit(&early)).unwrap();
    assert!(names_in(room.path()).iter().all(|n| n == "procs"), "no half-made lock is seen");
    assert!(matches!(swap(&register, &x, &at, b""), Swap::Won));
    assert_ne!(sign(&register, &x, early.id).nonce, 0);
}

#[test]
fn a_member_lives_also_if_somebody_else_made_the_directory() {
    let room = room();
    let (a, b) = (open(&room), open(&room));
    let x = name("x");
    let early = member(&x);
    let at = load(&a, &x).version;
    block_on(a.admit(&early)).unwrap();
    put(&b, &x, b"b");
    assert!(matches!(swap(&a, &x, &at, b"a"), Swap::Lost));
    put(&a, &x, b"a");
    assert_ne!(sign(&b, &x, early.id).nonce, 0);
}

#[test]
fn a_sign_of_life_changes_with_every_beat_and_says_the_fence() {
    let room = room();
    let register = open(&room);
    let x = name("x");
    put(&register, &x, b"");
    let waits = member(&x);
    block_on(register.admit(&waits)).unwrap();
    let first = sign(&register, &x, waits.id);
    assert_eq!(first.fence, Fence::ZERO);
    assert!(first.at.is_some() && !first.dead);
    assert_eq!(sign(&register, &x, waits.id).nonce, first.nonce);
    let holds = Member::new(x.clone(), waits.token.clone(), TTL, Some(Fence::new(42)));
    block_on(register.beat(&holds)).unwrap();
    let second = sign(&register, &x, waits.id);
    assert_eq!(second.fence, Fence::new(42));
    assert_ne!(second.nonce, first.nonce);
    // The same claim sent again.
    block_on(register.admit(&waits)).unwrap();
    assert_ne!(sign(&register, &x, waits.id).nonce, second.nonce);
}

#[test]
fn a_beat_never_makes_a_sign_of_life() {
    let room = room();
    let register = open(&room);
    let x = name("x");
    let m = member(&x);
    assert_eq!(block_on(register.beat(&m)).unwrap_err().kind(), ErrorKind::NotHeld);
    put(&register, &x, b"");
    assert_eq!(block_on(register.beat(&m)).unwrap_err().kind(), ErrorKind::NotHeld);
    block_on(register.admit(&m)).unwrap();
    block_on(register.beat(&m)).unwrap();
    block_on(register.dismiss(&x, m.id));
    assert_eq!(block_on(register.beat(&m)).unwrap_err().kind(), ErrorKind::NotHeld);
    assert_eq!(sign(&register, &x, m.id).nonce, 0);
    // Nor does a swap bring back who left.
    put(&register, &x, b"");
    assert_eq!(sign(&register, &x, m.id).nonce, 0);
}

#[test]
fn a_damaged_sign_of_life_is_silent_but_not_dead() {
    let room = room();
    let register = open(&room);
    let x = name("x");
    put(&register, &x, b"");
    let m = member(&x);
    block_on(register.admit(&m)).unwrap();
    let file = only(&directory(&register, &x), "hb-");
    for damage in [&b""[..], b"half", &[0; 128], &[7; 4096]] {
        std::fs::write(&file, damage).unwrap();
        let torn = sign(&register, &x, m.id);
        assert!(torn.nonce != 0 && !torn.dead);
        assert_eq!(sign(&register, &x, m.id).nonce, torn.nonce);
    }
}

#[test]
fn a_sign_of_life_copied_from_another_member_is_not_believed() {
    let room = room();
    let register = open(&room);
    let x = name("x");
    put(&register, &x, b"");
    let (m, other) = (member(&x), member(&x));
    block_on(register.admit(&m)).unwrap();
    let file = only(&directory(&register, &x), "hb-");
    block_on(register.admit(&other)).unwrap();
    let copy: String = format!("{}", other.id)[..32].to_owned();
    std::fs::copy(&file, file.with_file_name(format!("hb-{copy}"))).unwrap();
    assert_eq!(sign(&register, &x, other.id).at, None);
}

#[test]
fn observations_are_kept_until_there_is_something_new() {
    let room = room();
    let (a, b) = (open(&room), open(&room));
    let x = name("x");
    put(&a, &x, b"");
    let (m, other) = (Token::random().member(), Token::random().member());
    let seen = |member, nonce, since| Observation {
        member,
        nonce,
        fence: Fence::new(7),
        since: Moment::from_nanos(since),
    };
    let recall = || block_on(b.recall(&x, &[m, other]));
    assert!(recall().is_empty());
    block_on(a.remember(&x, &[seen(m, 1, 100)]));
    assert_eq!(recall(), [seen(m, 1, 100)]);
    block_on(a.remember(&x, &[seen(m, 1, 200)]));
    assert_eq!(recall(), [seen(m, 1, 100)], "silence counts from the first time it was seen");
    block_on(a.remember(&x, &[seen(m, 2, 300), seen(other, 1, 300)]));
    assert_eq!(recall(), [seen(m, 2, 300), seen(other, 1, 300)]);
    block_on(a.remember(&x, &[seen(other, 1, 300)]));
    assert_eq!(recall(), [seen(other, 1, 300)], "those who are not observed are dropped");
}

#[test]
fn observations_of_an_earlier_boot_are_not_recalled_and_go() {
    let room = room();
    let register = open(&room);
    let x = name("x");
    put(&register, &x, b"");
    let m = Token::random().member();
    let seen =
        Observation { member: m, nonce: 1, fence: Fence::ZERO, since: Moment::from_nanos(1) };
    block_on(register.remember(&x, &[seen]));
    let file = only(&directory(&register, &x), "obs-");
    let text = file.file_name().unwrap().to_str().unwrap();
    let earlier = file.with_file_name(format!("obs-{:016x}-{}", 1, &text[21..]));
    std::fs::rename(&file, &earlier).unwrap();
    assert!(block_on(register.recall(&x, &[m])).is_empty());
    block_on(register.remember(&x, &[seen]));
    assert!(!earlier.exists() && file.exists());
}

#[test]
fn names_are_listed_in_order_by_how_they_begin() {
    let room = room();
    let machine = machine(&room);
    for text in ["b", "a/2", "a/1", "A/1", "é", "a_1"] {
        granted(&machine, &claim(&name(text)));
    }
    let list = |prefix: &str, limit| -> Vec<String> {
        let names = block_on(machine.register().names(prefix, limit)).unwrap();
        names.iter().map(|n| n.as_str().to_owned()).collect()
    };
    assert_eq!(list("", 100), ["A/1", "a/1", "a/2", "a_1", "b", "é"]);
    assert_eq!(list("a", 100), ["a/1", "a/2", "a_1"]);
    assert_eq!(list("a/", 1), ["a/1"]);
    assert_eq!(list("é", 100), ["é"]);
    assert!(list("c", 100).is_empty());
    assert!(list(&"a".repeat(100), 100).is_empty());
}

#[test]
fn a_directory_that_cannot_be_read_does_not_hide_the_others() {
    let room = room();
    let machine = machine(&room);
    granted(&machine, &claim(&name("a")));
    granted(&machine, &claim(&name("b")));
    let record = only(&directory(machine.register(), &name("a")), "rec-");
    std::fs::write(record, b"damaged").unwrap();
    let names = block_on(machine.register().names("", 100)).unwrap();
    assert_eq!(names, [name("b")]);
}

#[test]
fn many_leases_keep_no_files_open() {
    let room = room();
    let machine = machine(&room);
    granted(&machine, &claim(&name("first")));
    let before = descriptors_in(room.path());
    for n in 0..300 {
        granted(&machine, &claim(&name(&format!("x{n}"))));
    }
    assert_eq!(descriptors_in(room.path()), before);
}

/// How many descriptors of this process lead into a directory.
fn descriptors_in(path: &std::path::Path) -> usize {
    let path = path.canonicalize().unwrap();
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .filter(|target| target.starts_with(&path))
        .count()
}

#[test]
fn durable_locks_work_the_same() {
    let room = room();
    let register = open_as(&FileConfig::new(room.path()).durable(true));
    let x = name("x");
    let m = member(&x);
    block_on(register.admit(&m)).unwrap();
    put(&register, &x, b"1");
    put(&register, &x, b"2");
    block_on(register.beat(&m)).unwrap();
    assert_eq!(load(&register, &x).bytes.as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_root_that_is_removed_is_said_to_be_gone() {
    let room = room();
    let root = room.path().join("locks");
    let register = open(&root);
    put(&register, &name("x"), b"");
    block_on(register.ping()).unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!(block_on(register.ping()).unwrap_err().kind(), ErrorKind::Unreachable);
    let at = load(&register, &name("x"));
    assert_eq!(at.bytes, None);
    let swapped = swap(&register, &name("x"), &at.version, b"");
    assert!(matches!(swapped, Swap::Failed(e) if e.kind() == ErrorKind::Unreachable));
}

#[test]
fn the_address_and_the_keys_are_paths() {
    let room = room();
    let register = open(&room);
    let root = room.path().canonicalize().unwrap();
    assert_eq!(*register.address(), *format!("file://{}", root.display()));
    let (what, key) = &register.keys(&name("Orders/42"))[0];
    assert_eq!(*what, "directory");
    let prefix = format!("{}/orders_42-", root.display());
    assert!(key.starts_with(&prefix) && key.ends_with(".lock"), "{key}");
}

#[test]
fn a_pause_is_short() {
    let room = room();
    let register = open(&room);
    let start = SystemClock.now();
    block_on(register.pause(100));
    assert!(SystemClock.now().since(start) < Duration::from_secs(1));
}
