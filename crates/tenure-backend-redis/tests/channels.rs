//! Whoever waits hears of it where it asked last.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kit;

use std::sync::Arc;

use kit::{IN_THE_END, LONG, backend, until};
use tenure_core::backend::{Claim, LeaseRef, Release, Verdict};
use tenure_core::{Details, LockName, Owner, Token};
use tenure_testkit::servers::redis::RedisServer;

fn claim() -> Claim {
    let details = Arc::new(Details::of(Owner::this_process()));
    let mut claim = Claim::new(LockName::new("x").unwrap(), Token::random(), LONG, details);
    claim.wait = true;
    claim
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_that_asks_again_over_another_connection_is_granted_what_is_free() {
    let server = RedisServer::start();
    let (holder, gone, back) =
        (backend(&server.url()), backend(&server.url()), backend(&server.url()));
    let (held, waits) = (claim(), claim());
    let Verdict::Granted(grant) = holder.acquire(&held).await.unwrap() else {
        panic!("it is free");
    };
    assert!(matches!(gone.acquire(&waits).await.unwrap(), Verdict::Queued(_)));
    drop(gone);
    let listening = || server.cli(&["--raw", "PUBSUB", "CHANNELS", "tenure:*"]);
    until(IN_THE_END, "nobody hears it", async || listening().lines().count() == 1).await;
    let lease = LeaseRef::new(held.name.clone(), held.token.clone(), grant.fence);
    assert!(matches!(holder.release(&lease, None).await.unwrap(), Release::Released));
    let verdict = back.acquire(&waits).await.unwrap();
    assert!(matches!(verdict, Verdict::Granted(_)), "{verdict:?}");
}
