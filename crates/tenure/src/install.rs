//! From a store's URL to what has to be installed for it.

use tenure_core::Result;

/// What was installed, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Installed {
    /// Where: a schema.
    pub place: String,
    /// The version that is there now.
    pub version: i32,
    /// The version that was there before, if there was one.
    pub before: Option<i32>,
}

/// Installs what the store at `url` needs, or brings it up to date, and lets `roles` use it; `None` if
/// it needs nothing. Stores that need something install it when they are first used, by whoever may:
/// this is for those who may not. Needs a tokio runtime with time and I/O.
///
/// # Errors
/// As [`open`](crate::open); `Denied` if this user may not install it, `Unsupported` if what is there
/// is newer, and what the store fails with.
pub async fn install(url: &str, roles: &[String]) -> Result<Option<Installed>> {
    #[cfg(feature = "postgres")]
    if is_postgres(url) {
        let done = tenure_backend_postgres::install(url, roles).await?;
        let tenure_backend_postgres::Installed { schema, version, before, .. } = done;
        return Ok(Some(Installed { place: schema, version, before }));
    }
    let _ = (url, roles);
    Ok(None)
}

/// What [`install`] does, in the store's own language; `None` if it needs nothing.
///
/// # Errors
/// `Invalid` if the URL is not understood.
pub fn install_script(url: &str, roles: &[String]) -> Result<Option<String>> {
    #[cfg(feature = "postgres")]
    if is_postgres(url) {
        return tenure_backend_postgres::install_sql_for(url, roles).map(Some);
    }
    let _ = (url, roles);
    Ok(None)
}

#[cfg(feature = "postgres")]
fn is_postgres(url: &str) -> bool {
    tenure_backend_postgres::is_connection_string(url)
        || matches!(
            url.split(':').next(),
            Some("postgres" | "postgresql" | "postgres+advisory" | "postgresql+advisory")
        )
}
