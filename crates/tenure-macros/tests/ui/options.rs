use tenure::{LockManager, locked};

#[locked]
async fn no_key(_locks: &LockManager) -> tenure::Result<()> {
    Ok(())
}

#[locked(key = "x", timeout = "3s")]
async fn unknown_option(_locks: &LockManager) -> tenure::Result<()> {
    Ok(())
}

#[locked(key = "x", ttl = "3s", ttl = "4s")]
async fn said_twice(_locks: &LockManager) -> tenure::Result<()> {
    Ok(())
}

#[locked(key = "x", shared = true)]
async fn a_flag_with_a_value(_locks: &LockManager) -> tenure::Result<()> {
    Ok(())
}

#[locked(key = "x", ttl)]
async fn no_value(_locks: &LockManager) -> tenure::Result<()> {
    Ok(())
}

#[locked(key = "x", ttl = "a minute")]
async fn no_time(_locks: &LockManager) -> tenure::Result<()> {
    Ok(())
}

#[locked(key = "x", wait = 30)]
async fn no_unit(_locks: &LockManager) -> tenure::Result<()> {
    Ok(())
}

#[locked(key = "x", watch = "lock")]
async fn no_name(_locks: &LockManager) -> tenure::Result<()> {
    Ok(())
}

fn main() {}
