//! A Redlock with a fence, renewal and quarantine beside one without: redsync's algorithm as it is in
//! `rslock`, on the same three servers. And what one dead or black-holed server of the three adds.
//!
//! All cases take turns in one run, so that whatever else the machine does is in all of them.

use std::time::Duration;

use tenure::LockManager;
use tenure_bench::{Times, now};
use tenure_testkit::proxy::{Fault, FaultProxy};
use tenure_testkit::servers::redis::RedisServer;

const TTL: Duration = Duration::from_secs(10);
/// How many cycles of one case come one after the other, and how many of them do not count.
const TURN: (u32, u32) = (60, 10);
/// How often it is the turn of each: before anything counts, and then.
const TURNS: (u32, u32) = (10, 80);

fn main() {
    let servers: Vec<RedisServer> = (0..4).map(|_| RedisServer::start()).collect();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let ports: Vec<u16> = servers.iter().map(RedisServer::port).collect();
        servers.iter().for_each(introduce);
        let plain = ports[..3].iter().map(|port| format!("redis://127.0.0.1:{port}/")).collect();
        let peer = rslock::LockManager::new(plain);
        let proxy = FaultProxy::start(ports[0]);
        let healthy = Case::new("redlock, healthy", &ports[..3]).await;
        let through = [proxy.port(), ports[1], ports[2]];
        let hole = Case::new("redlock, one of three a black hole", &through).await;
        let dead = Case::new("redlock, one of three dead", &[ports[3], ports[1], ports[2]]).await;
        proxy.set_both(Fault::Swallow);
        servers[3].kill();

        let mut floor = Times::new("rslock, no fence");
        let mut cases = [healthy, dead, hole];
        for turn in 0..TURNS.0 + TURNS.1 {
            let counts = |cycle| TURNS.0 <= turn && TURN.1 <= cycle;
            for cycle in 0..TURN.0 {
                let before = now();
                let lock = peer.lock("floor".as_bytes(), TTL).await.expect("free");
                peer.unlock(&lock).await;
                if counts(cycle) {
                    floor.add(before.elapsed());
                }
            }
            for case in &mut cases {
                for cycle in 0..TURN.0 {
                    let took = case.cycle().await;
                    if counts(cycle) {
                        case.times.add(took);
                    }
                }
            }
        }
        let [healthy, dead, hole] = cases.map(|case| case.times);
        println!("{floor}\n{}", healthy.beside(&floor));
        println!("{}\n{}", dead.beside(&healthy), hole.beside(&healthy));
    });
}

/// A server that has been voting for long.
fn introduce(server: &RedisServer) {
    let info = server.cli(&["INFO", "server"]);
    let id = info.lines().find_map(|line| line.strip_prefix("run_id:")).expect("an id").trim();
    server.cli(&["HSET", "tenure:run", "id", id, "since", "1", "longest", "60000000"]);
}

struct Case {
    locks: LockManager,
    times: Times,
    name: String,
}

impl Case {
    async fn new(label: &str, ports: &[u16]) -> Self {
        let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let url = format!("redlock://{}", hosts.join(","));
        let locks = tenure::connect(&url).await.expect("a store");
        // Sets that share servers share no locks.
        let this = Self { locks, times: Times::new(label), name: label.replace(", ", "-") };
        this.cycle().await;
        this
    }

    async fn cycle(&self) -> Duration {
        let before = now();
        let guard = self.locks.acquire(&*self.name, TTL).await.expect("free");
        guard.release().await.expect("held");
        before.elapsed()
    }
}
