//! Voters, clients, and what is on its way between them.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use tenure_core::backend::Departure;
use tenure_core::voter::{Leave, Raise};

use crate::election::{Election, Next, Rules, Said, majority};
use crate::standing::{Standing, standing};
use crate::urn::{Answer, Urn};

pub(super) const VOTERS: usize = 3;

/// Which variant is on trial, and how much may happen.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub(super) clients: usize,
    /// How often each asks.
    pub(super) asks: u8,
    /// How many answers are late for good.
    pub(super) silences: u8,
    /// How many keys end, whoever counts on them.
    pub(super) expiries: u8,
    /// How many keys end after a renewal has seen to it that all voters are bound.
    pub(super) lapses: u8,
    pub(super) renewals: u8,
    /// How many voters forget everything.
    pub(super) amnesias: u8,
    /// How often a voter forgets how a member's time ended, or that a round was given up: it
    /// remembers so many.
    pub(super) lapses_of_memory: u8,
    /// Answers are on their way as long as requests are.
    pub(super) slow: bool,
    pub(super) rules: Rules,
    pub(super) broken: Broken,
}

/// What voters or holders do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Nothing,
    /// Voters confirm a fence to whoever asks, an equal one as well.
    NoTokenCheck,
    /// Voters confirm an equal fence to anybody.
    NotStrict,
    /// Voters that have forgotten vote at once.
    NoQuarantine,
    /// Holders do not ask those again that have lost them.
    NoRepair,
}

impl Trial {
    /// Whether nothing happens that may break exclusion.
    pub(super) fn excludes(&self) -> bool {
        self.expiries == 0
    }
}

pub(super) type Who = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Idle,
    Electing,
    Holding,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub(super) phase: Phase,
    /// A new one after each release.
    member: u8,
    round: u64,
    election: Option<Election>,
    fence: u64,
    /// The highest fence that anybody was told before this one asked.
    above: u64,
    asks: u8,
    renewals: u8,
    /// Every voter was found bound to it, or was asked again, since the last key ended.
    is_whole: bool,
    /// It began before a voter forgot.
    is_old: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Mail {
    Vote { who: Who, member: u8, round: u64, repair: bool },
    Raise { who: Who, member: u8, round: u64, to: u64 },
    Leave { member: u8, how: Leave },
    Said { who: Who, member: u8, round: u64, repair: bool, said: Said },
    Raised { who: Who, member: u8, round: u64, to: u64, answer: Raise },
}

impl Mail {
    fn member(&self) -> u8 {
        match self {
            Mail::Vote { member, .. }
            | Mail::Raise { member, .. }
            | Mail::Leave { member, .. }
            | Mail::Said { member, .. }
            | Mail::Raised { member, .. } => *member,
        }
    }

    fn is_reply(&self) -> bool {
        matches!(self, Mail::Said { .. } | Mail::Raised { .. })
    }

    /// The same of somebody else.
    fn of(mut self, who_is: impl Fn(Who) -> Who, member_is: impl Fn(u8) -> u8) -> Self {
        match &mut self {
            Mail::Vote { who, member, .. }
            | Mail::Raise { who, member, .. }
            | Mail::Said { who, member, .. }
            | Mail::Raised { who, member, .. } => {
                (*who, *member) = (who_is(*who), member_is(*member));
            }
            Mail::Leave { member, .. } => *member = member_is(*member),
        }
        self
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    urns: [Urn<u8>; VOTERS],
    quarantined: [bool; VOTERS],
    /// What their clocks say.
    times: [u64; VOTERS],
    pub(super) clients: Vec<Client>,
    mail: BTreeSet<(usize, Mail)>,
    /// The fences that were granted.
    pub(super) told: BTreeSet<u64>,
    silences: u8,
    expiries: u8,
    lapses: u8,
    amnesias: u8,
    lapses_of_memory: u8,
    /// A promise was broken on the way here.
    pub(super) broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Begin(Who),
    /// A request or an answer arrives.
    Arrive(usize, Mail),
    /// A request arrives, and the answer never does.
    ArriveUnheard(usize, Mail),
    /// A voter has not answered in time.
    Silent(Who, usize),
    Release(Who),
    /// Its deadline comes.
    Lose(Who),
    /// A sign of life to all voters but one.
    Renew(Who, Option<usize>),
    Expire(usize),
    Lapse(usize),
    Forget(usize),
    /// A voter forgets one member.
    ForgetOne(usize, u8),
    EndQuarantine(usize),
}

impl World {
    pub(super) fn new(trial: &Trial) -> Self {
        let client = |member| Client {
            phase: Phase::Idle,
            member,
            round: 0,
            election: None,
            fence: 0,
            above: 0,
            asks: 0,
            renewals: 0,
            is_whole: false,
            is_old: false,
        };
        let members = u8::try_from(trial.clients).expect("a few");
        Self {
            urns: std::array::from_fn(|_| Urn::default()),
            quarantined: [false; VOTERS],
            times: [0; VOTERS],
            clients: (0..members).map(client).collect(),
            mail: BTreeSet::new(),
            told: BTreeSet::new(),
            silences: 0,
            expiries: 0,
            lapses: 0,
            amnesias: 0,
            lapses_of_memory: 0,
            broken: None,
        }
    }

    pub(super) fn steps(&self, trial: &Trial, steps: &mut Vec<Step>) {
        let may_be_silent = self.silences < trial.silences;
        for (who, client) in self.clients.iter().enumerate() {
            match client.phase {
                Phase::Idle if client.asks < trial.asks => steps.push(Step::Begin(who)),
                Phase::Idle => {}
                Phase::Electing => {
                    let election = client.election.as_ref().expect("it is electing");
                    let awaited = (0..VOTERS).filter(|voter| election.awaits(*voter));
                    if may_be_silent {
                        steps.extend(awaited.map(|voter| Step::Silent(who, voter)));
                    }
                }
                Phase::Holding => {
                    steps.push(Step::Release(who));
                    if client.renewals < trial.renewals {
                        steps.push(Step::Renew(who, None));
                        if may_be_silent {
                            steps.extend((0..VOTERS).map(|v| Step::Renew(who, Some(v))));
                        }
                    }
                    if !self.is_sound(client) && 0 < trial.amnesias {
                        steps.push(Step::Lose(who));
                    }
                }
            }
        }
        for (voter, mail) in &self.mail {
            steps.push(Step::Arrive(*voter, *mail));
            let is_answered = matches!(mail, Mail::Vote { .. } | Mail::Raise { .. });
            if is_answered && may_be_silent && !trial.slow {
                steps.push(Step::ArriveUnheard(*voter, *mail));
            }
        }
        let settled = self.mail.is_empty()
            && self.clients.iter().all(|c| match c.phase {
                Phase::Idle => true,
                Phase::Electing => false,
                Phase::Holding => c.is_whole,
            });
        for voter in 0..VOTERS {
            let has_key = self.urns[voter].key.is_some();
            if has_key && self.expiries < trial.expiries {
                steps.push(Step::Expire(voter));
            }
            if has_key && settled && self.lapses < trial.lapses {
                steps.push(Step::Lapse(voter));
            }
            if self.amnesias < trial.amnesias && self.urns[voter] != Urn::default() {
                steps.push(Step::Forget(voter));
            }
            if self.lapses_of_memory < trial.lapses_of_memory {
                let (urn, mut marked) = (&self.urns[voter], BTreeSet::new());
                marked.extend(urn.gone.keys().chain(urn.late.keys()));
                steps.extend(marked.into_iter().map(|m| Step::ForgetOne(voter, m)));
            }
            if self.quarantined[voter] && self.leases_are_over() {
                steps.push(Step::EndQuarantine(voter));
            }
        }
    }

    /// What nobody will ever ask about is as if it had never been.
    fn tidy(&mut self) {
        let mut live: BTreeSet<u8> = self.clients.iter().map(|client| client.member).collect();
        live.extend(self.mail.iter().map(|(_, mail)| mail.member()));
        for urn in &mut self.urns {
            urn.gone.retain(|member, _| live.contains(member));
            urn.late.retain(|member, _| live.contains(member));
            urn.record = urn.record.filter(|(m, _)| live.contains(m) || urn.key == Some(*m));
            urn.raiser = urn.raiser.filter(|m| live.contains(m) && urn.key == Some(*m));
        }
    }

    /// The same world with its clients, members and voters in one certain order: which is which makes no
    /// difference. Where two look alike from here, either may come first.
    pub(super) fn in_order(&self) -> World {
        self.with_clients_in_order().with_voters_in_order()
    }

    fn with_clients_in_order(&self) -> World {
        let looks = |who: &Who| {
            let (client, mut hasher) = (&self.clients[*who], DefaultHasher::new());
            (client.phase, client.round, client.fence, client.above).hash(&mut hasher);
            (client.asks, client.renewals, client.is_whole, client.is_old).hash(&mut hasher);
            let mut at: Vec<u64> = (0..VOTERS).map(|v| self.looks_of(client, v)).collect();
            at.sort_unstable();
            at.hash(&mut hasher);
            hasher.finish()
        };
        let mut order: Vec<Who> = (0..self.clients.len()).collect();
        order.sort_by_key(looks);
        let mut members: Vec<u8> = order.iter().map(|who| self.clients[*who].member).collect();
        let mut others: Vec<u8> = self.urns.iter().flat_map(members_of).collect();
        others.extend(self.mail.iter().map(|(_, mail)| mail.member()));
        others.sort_unstable();
        for other in others {
            if !members.contains(&other) {
                members.push(other);
            }
        }
        let who_is = |old: Who| order.iter().position(|o| *o == old).expect("each is there");
        let member_is = |old: u8| {
            let at = members.iter().position(|o| *o == old).expect("each is there");
            u8::try_from(at).expect("a few")
        };
        let mut world = self.clone();
        world.clients = order.iter().map(|who| self.clients[*who].clone()).collect();
        world.clients.iter_mut().for_each(|client| client.member = member_is(client.member));
        for urn in &mut world.urns {
            urn.key = urn.key.map(member_is);
            urn.record = urn.record.map(|(member, round)| (member_is(member), round));
            urn.raiser = urn.raiser.map(member_is);
            urn.gone = urn.gone.iter().map(|(m, how)| (member_is(*m), how.clone())).collect();
            urn.late = urn.late.iter().map(|(m, round)| (member_is(*m), *round)).collect();
        }
        let mail = self.mail.iter().map(|(at, mail)| (*at, mail.of(who_is, member_is)));
        world.mail = mail.collect();
        world
    }

    /// How a voter, and what is on its way to or from it, looks to a client.
    fn looks_of(&self, client: &Client, voter: usize) -> u64 {
        let (urn, member, mut hasher) = (&self.urns[voter], client.member, DefaultHasher::new());
        client.election.as_ref().map(|e| e.stand(voter)).hash(&mut hasher);
        (urn.key == Some(member), urn.raiser == Some(member), urn.fence).hash(&mut hasher);
        urn.record.filter(|(m, _)| *m == member).map(|(_, round)| round).hash(&mut hasher);
        (urn.gone.get(&member), urn.late.get(&member)).hash(&mut hasher);
        for (_, mail) in self.mail.iter().filter(|(v, m)| *v == voter && m.member() == member) {
            mail.of(|_| 0, |_| 0).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn with_voters_in_order(&self) -> World {
        let looks = |voter: usize| {
            let mut hasher = DefaultHasher::new();
            (&self.urns[voter], self.quarantined[voter], self.times[voter]).hash(&mut hasher);
            for client in &self.clients {
                client.election.as_ref().map(|e| e.stand(voter)).hash(&mut hasher);
            }
            for (_, mail) in self.mail.iter().filter(|(at, _)| *at == voter) {
                mail.hash(&mut hasher);
            }
            hasher.finish()
        };
        let mut order: Vec<usize> = (0..VOTERS).collect();
        order.sort_by_key(|voter| looks(*voter));
        let mut world = self.clone();
        for (new, old) in order.iter().copied().enumerate() {
            world.urns[new] = self.urns[old].clone();
            (world.quarantined[new], world.times[new]) = (self.quarantined[old], self.times[old]);
        }
        for election in world.clients.iter_mut().filter_map(|client| client.election.as_mut()) {
            *election = election.in_order(&order);
        }
        let new_of = |old: usize| order.iter().position(|o| *o == old).expect("each is there");
        world.mail = self.mail.iter().map(|(at, mail)| (new_of(*at), *mail)).collect();
        world
    }

    /// Whether those who forgot nothing are a majority for it.
    fn is_sound(&self, client: &Client) -> bool {
        let is_bound =
            |v: &usize| !self.quarantined[*v] && self.urns[*v].key == Some(client.member);
        majority(VOTERS) <= (0..VOTERS).filter(is_bound).count()
    }

    /// Whether the time has passed that any lease from before a voter forgot could live without
    /// having been renewed.
    fn leases_are_over(&self) -> bool {
        self.clients.iter().all(|client| match client.phase {
            Phase::Idle => true,
            Phase::Electing => !client.is_old,
            Phase::Holding => self.is_sound(client),
        })
    }

    pub(super) fn take(&mut self, trial: &Trial, step: Step) {
        self.step(trial, step);
        self.tidy();
    }

    fn step(&mut self, trial: &Trial, step: Step) {
        match step {
            Step::Begin(who) => self.begin(trial, who),
            Step::Arrive(voter, mail) => {
                self.mail.remove(&(voter, mail));
                if mail.is_reply() {
                    self.hear(trial, voter, mail);
                } else if let Some(reply) = self.serve(trial, voter, mail) {
                    if trial.slow {
                        self.mail.insert((voter, reply));
                    } else {
                        self.hear(trial, voter, reply);
                    }
                }
            }
            Step::ArriveUnheard(voter, mail) => {
                self.mail.remove(&(voter, mail));
                self.silences += 1;
                self.serve(trial, voter, mail);
                if let Mail::Vote { who, round, .. } | Mail::Raise { who, round, .. } = mail {
                    self.silent(trial, who, voter, round);
                }
            }
            Step::Silent(who, voter) => {
                self.silences += 1;
                let round = self.clients[who].round;
                self.silent(trial, who, voter, round);
            }
            Step::Release(who) => {
                let member = self.clients[who].member;
                self.send_all(Mail::Leave { member, how: Leave::Release });
                self.anew(who);
            }
            Step::Lose(who) => self.anew(who),
            Step::Renew(who, silent) => self.renew(trial, who, silent),
            Step::Expire(voter) => {
                self.expiries += 1;
                self.urns[voter].expire();
            }
            Step::Lapse(voter) => {
                self.lapses += 1;
                self.urns[voter].expire();
                self.clients.iter_mut().for_each(|client| client.is_whole = false);
            }
            Step::Forget(voter) => {
                self.amnesias += 1;
                self.urns[voter] = Urn::default();
                self.quarantined[voter] = trial.broken != Broken::NoQuarantine;
                self.clients.iter_mut().for_each(|client| client.is_old = true);
            }
            Step::ForgetOne(voter, member) => {
                self.lapses_of_memory += 1;
                self.urns[voter].gone.remove(&member);
                self.urns[voter].late.remove(&member);
            }
            Step::EndQuarantine(voter) => {
                self.quarantined[voter] = false;
                // Time has passed, and fences begin as times.
                let fences = self.urns.iter().map(|urn| urn.fence);
                self.times[voter] = fences.chain(self.told.iter().copied()).max().unwrap_or(0);
            }
        }
    }

    /// The next lock of this client is another member's.
    fn anew(&mut self, who: Who) {
        let is_used = |m: &u8| {
            self.clients.iter().any(|client| client.member == *m)
                || self.urns.iter().any(|urn| urn.knows(*m))
                || self.mail.iter().any(|(_, mail)| mail.member() == *m)
        };
        self.clients[who].member =
            (0..u8::MAX).find(|m| !is_used(m)).expect("there are more than a few");
        let client = &mut self.clients[who];
        (client.phase, client.round, client.election) = (Phase::Idle, 0, None);
        (client.fence, client.is_whole) = (0, false);
    }

    fn begin(&mut self, trial: &Trial, who: Who) {
        let above = self.told.last().copied().unwrap_or(0);
        let client = &mut self.clients[who];
        client.asks += 1;
        client.round += 1;
        client.phase = Phase::Electing;
        client.is_old = false;
        client.above = client.above.max(above);
        client.election = Some(Election::with(VOTERS, trial.rules));
        let (member, round) = (client.member, client.round);
        self.send_all(Mail::Vote { who, member, round, repair: false });
    }

    fn send_all(&mut self, mail: Mail) {
        self.mail.extend((0..VOTERS).map(|voter| (voter, mail)));
    }

    /// A voter takes a request, and answers.
    fn serve(&mut self, trial: &Trial, voter: usize, mail: Mail) -> Option<Mail> {
        let (time, quarantined) = (self.times[voter], self.quarantined[voter]);
        let urn = &mut self.urns[voter];
        match mail {
            Mail::Vote { who, member, round, repair } => {
                let said = match () {
                    () if quarantined => Said::Refused,
                    () => match urn.vote(member, round, repair, time) {
                        Answer::Said(said) => said,
                        _ => Said::Refused,
                    },
                };
                Some(Mail::Said { who, member, round, repair, said })
            }
            Mail::Raise { who, member, round, to } => {
                let answer = match trial.broken {
                    Broken::NoTokenCheck if urn.fence <= to => {
                        (urn.fence, urn.raiser) = (to, Some(member));
                        Raise::Done
                    }
                    Broken::NotStrict if urn.key == Some(member) && urn.fence <= to => {
                        (urn.fence, urn.raiser) = (to, Some(member));
                        Raise::Done
                    }
                    _ => urn.raise(member, to),
                };
                Some(Mail::Raised { who, member, round, to, answer })
            }
            Mail::Leave { member, how } => {
                urn.leave(member, how);
                None
            }
            Mail::Said { .. } | Mail::Raised { .. } => None,
        }
    }

    /// A client takes an answer.
    fn hear(&mut self, trial: &Trial, voter: usize, reply: Mail) {
        match reply {
            Mail::Said { who, member, round, repair, said } => {
                let client = &mut self.clients[who];
                if client.member != member {
                    return;
                }
                let is_late = client.phase == Phase::Holding && (repair || client.round == round);
                if is_late && matches!(said, Said::Given { .. }) {
                    // A late vote, or one that was lost and is there again.
                    let to = client.fence;
                    self.mail.insert((voter, Mail::Raise { who, member, round, to }));
                } else if client.phase == Phase::Electing && client.round == round {
                    client.election.as_mut().expect("electing").said(voter, said);
                    self.go_on(trial, who);
                }
            }
            Mail::Raised { who, member, round, to, answer } => {
                let client = &mut self.clients[who];
                let is_mine = client.member == member && client.round == round;
                if is_mine && client.phase == Phase::Electing {
                    client.election.as_mut().expect("electing").raised(voter, to, answer);
                    self.go_on(trial, who);
                }
            }
            _ => {}
        }
    }

    fn silent(&mut self, trial: &Trial, who: Who, voter: usize, round: u64) {
        let client = &mut self.clients[who];
        if client.phase == Phase::Electing && client.round == round {
            client.election.as_mut().expect("electing").silent(voter);
            self.go_on(trial, who);
        }
    }

    fn go_on(&mut self, _trial: &Trial, who: Who) {
        let client = &mut self.clients[who];
        let (member, round) = (client.member, client.round);
        let election = client.election.as_mut().expect("electing");
        match election.step() {
            Next::Wait => {}
            Next::Raise { fence, at } => {
                let raise = Mail::Raise { who, member, round, to: fence };
                self.mail.extend(at.into_iter().map(|voter| (voter, raise)));
            }
            Next::Won(fence) => {
                client.phase = Phase::Holding;
                client.fence = fence;
                client.election = None;
                if fence <= client.above || !self.told.insert(fence) {
                    self.broken = Some("a fence");
                }
            }
            Next::Lost => {
                let election = client.election.take().expect("electing");
                client.phase = Phase::Idle;
                for voter in 0..VOTERS {
                    let late = election.is_open(voter);
                    if late || election.has_vote_of(voter) {
                        let how = Leave::Abandon { round, late };
                        self.mail.insert((voter, Mail::Leave { member, how }));
                    }
                }
            }
        }
    }

    fn renew(&mut self, trial: &Trial, who: Who, silent: Option<usize>) {
        self.silences += u8::from(silent.is_some());
        let (member, round) = (self.clients[who].member, self.clients[who].round);
        self.clients[who].renewals += 1;
        let answer = |voter| (silent != Some(voter)).then(|| self.urns[voter].keep(member));
        let answers: Vec<_> = (0..VOTERS).map(answer).collect();
        let repair = Mail::Vote { who, member, round, repair: true };
        match standing(&answers) {
            Standing::Kept { absent } => {
                let later = self.told.last().copied().unwrap_or(0);
                if trial.excludes() && self.clients[who].fence < later {
                    self.broken = Some("revived");
                }
                let is_whole =
                    |a: &Option<_>| !matches!(a, None | Some(tenure_core::voter::Keep::Taken));
                self.clients[who].is_whole = answers.iter().all(is_whole);
                if trial.broken != Broken::NoRepair {
                    self.mail.extend(absent.into_iter().map(|voter| (voter, repair)));
                }
            }
            Standing::Gone(how) => {
                let was_there = matches!(how, Departure::Released | Departure::Withdrawn);
                debug_assert!(!was_there, "nobody else has its token");
                self.anew(who);
            }
            Standing::Unknown => {}
        }
    }
}

/// All that a voter has something of.
fn members_of(urn: &Urn<u8>) -> Vec<u8> {
    let mut members: Vec<u8> = urn.gone.keys().chain(urn.late.keys()).copied().collect();
    members.extend(urn.key.into_iter().chain(urn.raiser).chain(urn.record.map(|(m, _)| m)));
    members
}
