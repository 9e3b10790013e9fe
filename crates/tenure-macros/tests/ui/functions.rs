use tenure::{LockManager, locked};

#[locked(key = "x")]
fn blocking(_locks: &LockManager) -> tenure::Result<()> {
    Ok(())
}

#[locked(key = "x")]
async fn returns_nothing(_locks: &LockManager) {}

#[locked(key = "x")]
async fn opaque(_locks: &LockManager) -> tenure::Result<impl Sized> {
    Ok(())
}

fn main() {}
