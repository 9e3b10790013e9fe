//! The manager of the whole program, for those who have no place of their own for it.

use std::sync::OnceLock;

use tenure_core::{Error, ErrorKind, LockManager, Result};

static GLOBAL: OnceLock<LockManager> = OnceLock::new();

/// Makes a manager the one of the whole program; once.
///
/// For programs that have one store and use attributes on functions without a manager at hand.
/// Libraries take a manager as an argument instead.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> tenure::Result<()> {
/// tenure::set_global(tenure::connect("memory:").await?)?;
/// let guard = tenure::global()?.acquire("orders/42", std::time::Duration::from_secs(30)).await?;
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `Invalid` if there is one already; it stays.
pub fn set_global(locks: LockManager) -> Result<()> {
    GLOBAL.set(locks).map_err(|_| {
        Error::new(ErrorKind::Invalid, "the program has a global manager already")
            .with_help("call `set_global` once, where the program begins")
    })
}

/// The manager of the whole program.
///
/// # Errors
/// `Invalid` if [`set_global`] was not called yet.
pub fn global() -> Result<&'static LockManager> {
    GLOBAL.get().ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "no global manager is set").with_help(
            "call `tenure::set_global` where the program begins, or name a manager: `manager = …`",
        )
    })
}
