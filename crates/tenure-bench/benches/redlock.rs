//! A Redlock with a fence, renewal and quarantine beside one without: `rslock`, on the same three servers.
//! And what one dead or black-holed server of the three adds.

use std::time::Duration;

use tenure::LockManager;
use tenure_bench::{Times, now};
use tenure_testkit::proxy::{Direction, Fault, FaultProxy};
use tenure_testkit::servers::redis::RedisServer;

const TTL: Duration = Duration::from_secs(10);

fn main() {
    let servers: Vec<RedisServer> = (0..3).map(|_| RedisServer::start()).collect();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let ports: Vec<u16> = servers.iter().map(RedisServer::port).collect();
        let plain: Vec<String> =
            ports.iter().map(|port| format!("redis://127.0.0.1:{port}/")).collect();
        for server in &servers {
            introduce(server);
        }
        let peer = rslock::LockManager::new(plain);
        let ours = manager(&ports).await;
        let (mut floor, mut mine) =
            (Times::new("rslock, no fence"), Times::new("redlock, healthy"));
        for n in 0..4_400 {
            let before = now();
            let lock = peer.lock("floor".as_bytes(), TTL).await.expect("free");
            peer.unlock(&lock).await;
            if 400 <= n {
                floor.add(before.elapsed());
            }
            let took = cycle(&ours).await;
            if 400 <= n {
                mine.add(took);
            }
        }
        println!("{floor}\n{}", mine.beside(&floor));

        let proxy = FaultProxy::start(ports[0]);
        let hole = manager(&[proxy.port(), ports[1], ports[2]]).await;
        proxy.set(Direction::ToClient, Fault::Swallow);
        proxy.set(Direction::ToServer, Fault::Swallow);
        println!("{}", times("redlock, one of three a black hole", &hole).await.beside(&mine));
        servers[0].kill();
        println!("{}", times("redlock, one of three dead", &ours).await.beside(&mine));
    });
}

/// A server that has been voting for long.
fn introduce(server: &RedisServer) {
    let info = server.cli(&["INFO", "server"]);
    let id = info.lines().find_map(|line| line.strip_prefix("run_id:")).expect("an id").trim();
    server.cli(&["HSET", "tenure:run", "id", id, "since", "1", "longest", "60000000"]);
}

async fn manager(ports: &[u16]) -> LockManager {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let locks = tenure::connect(&format!("redlock://{}", hosts.join(","))).await.expect("a store");
    cycle(&locks).await;
    locks
}

async fn cycle(locks: &LockManager) -> Duration {
    let before = now();
    let guard = locks.acquire("cycle", TTL).await.expect("free");
    guard.release().await.expect("held");
    before.elapsed()
}

async fn times(label: &str, locks: &LockManager) -> Times {
    let mut times = Times::new(label);
    for n in 0..3_300 {
        let took = cycle(locks).await;
        if 300 <= n {
            times.add(took);
        }
    }
    times
}
