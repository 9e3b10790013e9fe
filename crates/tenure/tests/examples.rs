//! The programs in `examples/` do what they show.
#![cfg(all(feature = "macros", feature = "file"))]
#![allow(clippy::unwrap_used, reason = "a program that fails says why")]

/// The programs by their names and files, each run as a test.
macro_rules! programs {
    ($($name:ident in $path:literal),* $(,)?) => {
        $(
            #[path = $path]
            mod $name;
        )*

        mod runs {
            $(#[test]
            fn $name() {
                crate::$name::main().unwrap();
            })*
        }

        const PATHS: &[&str] = &[$($path),*];
    };
}

programs!(
    checkpoint in "../examples/checkpoint.rs",
    compaction in "../examples/compaction.rs",
    deadlock in "../examples/deadlock.rs",
    fenced_file in "../examples/fenced_file.rs",
    issue_workers in "../examples/issue_workers.rs",
    leader in "../examples/leader.rs",
    once in "../examples/once.rs",
    path_locks in "../examples/path_locks.rs",
    read_write in "../examples/read_write.rs",
    search_index in "../examples/search_index.rs",
    semaphore in "../examples/semaphore.rs",
    several_locks in "../examples/several_locks.rs",
    stream_processor in "../examples/stream_processor.rs",
    tasks in "../examples/tasks.rs",
    vector_index in "../examples/vector_index.rs",
);

#[test]
fn no_program_is_left_out() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|file| file.ends_with(".rs"))
        .map(|file| format!("../examples/{file}"))
        .collect();
    files.sort();
    assert_eq!(files, PATHS);
}
