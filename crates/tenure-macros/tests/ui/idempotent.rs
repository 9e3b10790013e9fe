use tenure::recipes::once::OnceError;
use tenure::{LockManager, idempotent};

#[idempotent(scope = "x")]
async fn no_key(_locks: &LockManager) -> Result<(), OnceError<String>> {
    Ok(())
}

#[idempotent(key = "x")]
async fn no_scope(_locks: &LockManager) -> Result<(), OnceError<String>> {
    Ok(())
}

#[idempotent(key = "x", scope = "x", config = config)]
async fn two_scopes(_locks: &LockManager) -> Result<(), OnceError<String>> {
    Ok(())
}

#[idempotent(key = "x", scope = "x", executions = "exactly_once")]
async fn no_such_policy(_locks: &LockManager) -> Result<(), OnceError<String>> {
    Ok(())
}

fn main() {}
