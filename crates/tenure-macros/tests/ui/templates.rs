use tenure::{LockManager, locked};

#[locked(key = "")]
async fn empty(_locks: &LockManager) -> tenure::Result<()> {
    Ok(())
}

#[locked(key = "orders:{id")]
async fn not_closed(_locks: &LockManager, _id: u32) -> tenure::Result<()> {
    Ok(())
}

#[locked(key = "orders:{}")]
async fn nothing_in_braces(_locks: &LockManager, _id: u32) -> tenure::Result<()> {
    Ok(())
}

fn main() {}
