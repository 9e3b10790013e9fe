//! The programs in `examples/` do what they show.
#![cfg(all(feature = "macros", feature = "file"))]
#![allow(clippy::unwrap_used, reason = "a program that fails says why")]

/// The programs by their names, each run as a test.
macro_rules! programs {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            include!(concat!("../examples/", stringify!($name), ".rs"));

            #[test]
            fn it_runs() {
                main().unwrap();
            }
        })*

        #[test]
        fn no_program_is_left_out() {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
            let mut files: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .filter(|file| file.ends_with(".rs"))
                .collect();
            files.sort();
            assert_eq!(files, [$(concat!(stringify!($name), ".rs")),*]);
        }
    };
}

programs!(
    checkpoint,
    compaction,
    issue_workers,
    leader,
    path_locks,
    read_write,
    search_index,
    semaphore,
    several_locks,
    stream_processor,
    tasks,
    vector_index,
);
