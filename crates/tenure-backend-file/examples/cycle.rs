//! Measures an uncontended acquire and release: the bare register, the machine on top of it, and
//! the backend with its hop to another thread.
//!
//! `cargo run --release -p tenure-backend-file --example cycle -- DIRECTORY [COUNT] [?durable=true]`

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_backend_file::{FileBackend, FileConfig, FileRegister};
use tenure_core::backend::{Backend, Claim, LeaseRef, Member, Verdict};
use tenure_core::clock::{Clock, SystemClock};
use tenure_core::register::{Register, RegisterBackend, Swap};
use tenure_core::{Details, LockName, Owner, Result, Token};

const TTL: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().map_or("/tmp/tenure-cycle", String::as_str);
    let count = arguments.get(1).and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let query = arguments.get(2).map_or("", String::as_str);
    let config = FileConfig::from_url(&format!("file:{path}{query}"))?;
    let name = LockName::new("orders/42")?;
    let clock = Arc::new(SystemClock);

    let register = FileRegister::open(&config, clock.clone())?;
    let record = vec![b'x'; 400];
    measure("register", count, || {
        block_on(async {
            let token = Token::random();
            let at = register.load(&name).await?;
            let member = Member::new(name.clone(), token, TTL, None);
            register.admit(&member).await?;
            assert!(matches!(register.swap(&name, &at.version, &record, &[]).await, Swap::Won));
            let at = register.load(&name).await?;
            assert!(matches!(register.swap(&name, &at.version, &record, &[]).await, Swap::Won));
            register.dismiss(&name, member.id).await;
            Ok(())
        })
    })?;

    let name = LockName::new("orders/43")?;
    let machine = RegisterBackend::new(register, clock.clone());
    measure("machine", count, || block_on(cycle(&machine, &name)))?;

    let backend = FileBackend::open(&config, clock)?;
    measure("backend", count, || block_on(cycle(&backend, &name)))
}

async fn cycle(backend: &impl Backend, name: &LockName) -> Result<()> {
    let details = Arc::new(Details::of(Owner::this_process()));
    let claim = Claim::new(name.clone(), Token::random(), TTL, details);
    let Verdict::Granted(grant) = backend.acquire(&claim).await? else {
        panic!("somebody else uses {name}");
    };
    let lease = LeaseRef::new(name.clone(), claim.token.clone(), grant.fence);
    backend.release(&lease, None).await?;
    Ok(())
}

fn measure(what: &str, count: u32, mut cycle: impl FnMut() -> Result<()>) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..count {
        let start = SystemClock.now();
        cycle()?;
        times.push(SystemClock.now().since(start));
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what:9} p50 {:?}  p90 {:?}  p99 {:?}", at(50), at(90), at(99));
    Ok(())
}
