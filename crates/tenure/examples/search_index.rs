//! Several writers of one search index: one lock in the index's own directory, taken around each
//! write, or held for as long as the writer lives.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tenure::{LockManager, LockWatch};

/// Whatever writes the index; it knows nothing of locks.
struct DocumentIndexer {
    index: PathBuf,
}

impl DocumentIndexer {
    fn index_file(&mut self, file: &Path) -> std::io::Result<()> {
        let mut index = std::fs::read_to_string(&self.index).unwrap_or_default();
        index.push_str(&format!("{}\n", file.display()));
        std::fs::write(&self.index, index)
    }
}

/// The same, safe in many processes.
struct LockedIndexer {
    indexer: DocumentIndexer,
    locks: LockManager,
}

impl LockedIndexer {
    const LEASE: Duration = Duration::from_secs(30);

    async fn open(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let store = format!("file://{}", directory.join(".tenure").display());
        let locks = tenure::connect(&store).await?;
        let indexer = DocumentIndexer { index: directory.join("index") };
        Ok(Self { indexer, locks })
    }

    /// Waits its turn, in order. A writer that died is replaced within a second on the same host.
    async fn index_file(&mut self, file: &Path) -> Result<(), Box<dyn Error>> {
        let work = async |_held: LockWatch| self.indexer.index_file(file);
        Ok(self.locks.with_lock("index", Self::LEASE, work).await??)
    }
}

#[tokio::main]
#[allow(clippy::disallowed_methods, reason = "a program owns its tasks")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut writers = Vec::new();
    for n in 0..4 {
        let directory = dir.path().to_owned();
        writers.push(tokio::spawn(async move {
            // As in a process of its own: nothing but the directory is shared.
            let mut indexer =
                LockedIndexer::open(&directory).await.map_err(|error| error.to_string())?;
            for m in 0..5 {
                let file = PathBuf::from(format!("file-{n}-{m}"));
                indexer.index_file(&file).await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    let index = std::fs::read_to_string(dir.path().join("index"))?;
    assert_eq!(20, index.lines().count(), "no write was lost");
    println!("{index}");
    Ok(())
}
