//! The scripts of a voter and its pure rules answer the same random commands alike, on a real server.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tenure_backend_quorum::Said;
use tenure_backend_quorum::urn::{Answer, Urn};
use tenure_backend_redis::{RedisConfig, RedisVoter};
use tenure_core::backend::{Departure, Reason};
use tenure_core::voter::{Ballot, Keep, Leave, Ouster, Sign, Vote, Voter};
use tenure_core::{Details, Fence, LockName, MemberId, Owner, Token};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::redis::RedisServer;

use crate::stage::introduce;

const TTL: Duration = Duration::from_secs(60);
/// How many commands a lock takes before it is another one's turn.
const COMMANDS: usize = 40;

#[derive(Clone, Copy, Debug)]
enum Command {
    Vote { who: usize, round: u64, repair: bool },
    Raise { who: usize, by: u64 },
    Keep { who: usize },
    Leave { who: usize, how: Leave },
    Oust { who: usize, by: u64 },
    Look,
    Expire,
}

fn command(random: &mut StdRng) -> Command {
    let who = random.random_range(0..3);
    let round = random.random_range(1..4);
    match random.random_range(0..12) {
        0..4 => Command::Vote { who, round, repair: random.random_bool(0.2) },
        4..6 => Command::Raise { who, by: random.random_range(0..3) },
        6 => Command::Keep { who },
        7 => Command::Leave { who, how: Leave::Release },
        8 => {
            let late = random.random_bool(0.5);
            Command::Leave { who, how: Leave::Abandon { round, late } }
        }
        9 if random.random_bool(0.3) => Command::Leave { who, how: Leave::Withdraw },
        9 => Command::Oust { who, by: random.random_range(0..3) },
        10 => Command::Expire,
        _ => Command::Look,
    }
}

/// What is comparable of an answer: holders by their ids, no times.
fn plain(vote: &Vote, urn: &Urn<MemberId>) -> Answer<MemberId> {
    match vote {
        Vote::Given { fence, floor, own } => {
            assert!(fence <= floor);
            let (fence, own) = (fence.get(), *own);
            Answer::Said(Said::Given { fence, floor: urn.fence, own })
        }
        Vote::Taken { by, .. } => Answer::Taken(by.member),
        Vote::Gone(how) => Answer::Gone(how.clone()),
        Vote::Late => Answer::Late,
        other => panic!("{other:?}"),
    }
}

struct Pair<'a> {
    voter: &'a RedisVoter,
    server: &'a RedisServer,
    name: LockName,
    members: [MemberId; 3],
    urn: Urn<MemberId>,
}

impl Pair<'_> {
    async fn run(&mut self, command: Command) -> (String, String) {
        let (name, members) = (self.name.clone(), self.members);
        let evicted =
            || Departure::Evicted(Reason { by: "somebody".into(), why: "it hangs".into() });
        // Fences are above all times, so that both have the same.
        let fence = |urn: &Urn<MemberId>, by: u64| urn.fence.max(1 << 52) + by;
        match command {
            Command::Vote { who, round, repair } => {
                let details = Arc::new(Details::of(Owner::this_process()));
                let mut ballot = Ballot::new(name, members[who], TTL, details);
                (ballot.round, ballot.repair, ballot.longest) = (round, repair, TTL);
                let said = self.voter.vote(&ballot).await.unwrap();
                let said = plain(&said, &self.urn);
                let expected = self.urn.vote(members[who], round, repair, 0);
                (format!("{said:?}"), format!("{expected:?}"))
            }
            Command::Raise { who, by } => {
                let to = fence(&self.urn, by);
                let said = self.voter.raise(&name, members[who], Fence::new(to)).await.unwrap();
                (format!("{said:?}"), format!("{:?}", self.urn.raise(members[who], to)))
            }
            Command::Keep { who } => {
                let signs = [Sign::new(name, members[who], None)];
                let said = self.voter.renew(&signs).await.remove(0).unwrap();
                let word = |keep: Keep| match keep {
                    Keep::Kept { .. } => "kept".to_owned(),
                    other => format!("{other:?}"),
                };
                (word(said), word(self.urn.keep(members[who])))
            }
            Command::Leave { who, how } => {
                let said = self.voter.leave(&name, members[who], how).await.unwrap();
                (format!("{said:?}"), format!("{:?}", self.urn.leave(members[who], how)))
            }
            Command::Oust { who, by } => {
                let to = fence(&self.urn, by);
                let ouster = Ouster::new(name, members[who], evicted(), Fence::new(to));
                let said = self.voter.oust(&ouster).await.unwrap();
                (format!("{said:?}"), format!("{:?}", self.urn.oust(members[who], evicted(), to)))
            }
            Command::Look => {
                let seen = self.voter.look(&name, TTL).await.unwrap();
                let said = (seen.fence.get(), seen.holder.map(|holder| holder.member));
                (format!("{said:?}"), format!("{:?}", (self.urn.fence, self.urn.key)))
            }
            Command::Expire => {
                self.server.cli(&["DEL", name.as_str()]);
                self.urn.expire();
                (String::new(), String::new())
            }
        }
    }
}

#[tokio::test]
async fn the_scripts_of_a_voter_do_as_its_rules() {
    let server = RedisServer::start();
    introduce(&server, "60s");
    let voter = RedisVoter::new(RedisConfig::from_url(&server.url()).unwrap()).unwrap();
    let seed = seed("voter");
    let mut random = StdRng::seed_from_u64(seed);
    let cases = std::env::var("TENURE_CASES").map_or(40, |cases| cases.parse().unwrap());
    for case in 0..cases {
        let name = LockName::new(format!("case {case}")).unwrap();
        let members = [0; 3].map(|_| Token::random().member());
        let mut pair = Pair { voter: &voter, server: &server, name, members, urn: Urn::default() };
        let mut done = Vec::new();
        for _ in 0..COMMANDS {
            let command = command(&mut random);
            done.push(command);
            let (said, expected) = pair.run(command).await;
            assert_eq!(said, expected, "seed {seed}: {done:#?}");
        }
    }
}

#[tokio::test]
async fn who_asks_again_and_again_makes_a_server_forget_nobody_else() {
    let server = RedisServer::start();
    introduce(&server, "60s");
    let voter = RedisVoter::new(RedisConfig::from_url(&server.url()).unwrap()).unwrap();
    let name = LockName::new("x").unwrap();
    let [gone, slow] = [0; 2].map(|_| Token::random().member());
    let details = Arc::new(Details::of(Owner::this_process()));
    let ballot = Ballot::new(name.clone(), gone, TTL, details);
    assert!(matches!(voter.vote(&ballot).await.unwrap(), Vote::Given { .. }));
    voter.leave(&name, gone, Leave::Release).await.unwrap();
    // More often than a server remembers members.
    for round in 0..200 {
        voter.leave(&name, slow, Leave::Abandon { round, late: true }).await.unwrap();
    }
    assert_eq!(voter.vote(&ballot).await.unwrap(), Vote::Gone(Departure::Released));
}
