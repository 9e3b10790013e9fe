//! What is sent: turns of locks, many of one kind in one statement.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tenure_core::backend::{Claim, Member};
use tenure_core::{Error, LockName, MemberId, Result, Seats};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::reply::Answer;
use crate::error::{no_answer, strange};

/// One turn of one lock.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) name: LockName,
    pub(crate) what: What,
}

/// What is asked of it.
#[derive(Debug)]
pub(crate) enum What {
    Claim(Asked),
    Renew {
        member: MemberId,
        change: bool,
        ttl: i64,
        detached: bool,
    },
    /// Without a value.
    Release {
        member: MemberId,
    },
    Other {
        verb: &'static str,
        member: Option<MemberId>,
        args: String,
        bytes: Option<Arc<[u8]>>,
    },
}

/// A claim as it is sent.
#[derive(Debug)]
pub(crate) struct Asked {
    member: MemberId,
    claim: String,
    take: i64,
    out_of: i64,
    ttl: i64,
    details: String,
    plain: bool,
    wants: String,
    channel: Arc<str>,
}

/// Turns of one kind share statements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Claim,
    Renew,
    Release,
    Other,
}

/// What to do about a row that another transaction has locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IfLocked {
    /// Leave it.
    Skip,
    /// Wait so long for it.
    Wait(Duration),
}

impl Asked {
    pub(crate) fn new(claim: &Claim, channel: Arc<str>) -> Self {
        let (take, out_of) = seats(claim.seats);
        let (force, by) = match &claim.force {
            Some(why) => (&**why, &*claim.details.owner.label),
            None => ("", ""),
        };
        let wants = json!([
            claim.wait,
            micros(claim.wait_ttl),
            micros(claim.pick_up),
            claim.or_value,
            claim.upgrade,
            force,
            by,
            claim.priority.get(),
            claim.detached,
        ]);
        let plain = claim.seats.is_all()
            && !claim.upgrade
            && !claim.or_value
            && !claim.detached
            && claim.force.is_none();
        Self {
            member: claim.member,
            claim: claim.id.to_string(),
            take,
            out_of,
            ttl: micros(claim.ttl),
            details: serde_json::to_string(&*claim.details).expect("details are JSON"),
            plain,
            wants: wants.to_string(),
            channel,
        }
    }
}

impl Turn {
    pub(crate) fn renew(member: &Member) -> Self {
        let what = What::Renew {
            member: member.id,
            change: member.change,
            ttl: micros(member.ttl),
            detached: member.detached,
        };
        Self { name: member.name.clone(), what }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.what {
            What::Claim(_) => Kind::Claim,
            What::Renew { .. } => Kind::Renew,
            What::Release { .. } => Kind::Release,
            What::Other { .. } => Kind::Other,
        }
    }
}

impl Kind {
    /// The most turns in one statement.
    pub(crate) fn batch(self) -> usize {
        match self {
            Kind::Claim | Kind::Release => 256,
            Kind::Renew => 10_240,
            Kind::Other => 1,
        }
    }
}

/// The statements, which name the schema.
#[derive(Debug)]
pub(crate) struct Statements {
    claim: String,
    renew: String,
    release: String,
    other: String,
    pub(crate) look: String,
    pub(crate) look_around: String,
    pub(crate) version: String,
    pub(crate) prune: String,
}

impl Statements {
    pub(crate) fn of(schema: &str) -> Self {
        let many = |call: &str, last: usize| {
            let places: Vec<_> = (2..=last + 1).map(|n| format!("${n}")).collect();
            let places = places.join(", ");
            format!("SELECT nr, fence, at, answer, $1 AS question FROM {schema}.{call}({places})")
        };
        Self {
            claim: many("claim_many", 11),
            renew: many("renew_many", 6),
            release: many("release_many", 3),
            other: format!("SELECT {schema}.take_turn($2, $3, $4, $5, $6, $7), $1"),
            look: format!("SELECT {schema}.look($1)"),
            look_around: format!("SELECT name, answer FROM {schema}.look_around($1, $2)"),
            version: format!("SELECT {schema}.schema_version()"),
            prune: format!("SELECT {schema}.prune($1)"),
        }
    }

    /// Takes turns of one kind, and answers in their order.
    pub(crate) async fn take(
        &self,
        client: &Client,
        turns: &[&Turn],
        if_locked: IfLocked,
    ) -> Result<Result<Vec<Answer>>, tokio_postgres::Error> {
        let patience = match if_locked {
            IfLocked::Skip => 0,
            IfLocked::Wait(limit) => i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1),
        };
        // So that an answer to another question is known as that.
        let question = rand_i64();
        match turns.first().map(|t| t.kind()) {
            None => Ok(Ok(Vec::new())),
            Some(Kind::Claim) => self.take_claims(client, turns, patience, question).await,
            Some(Kind::Renew) => self.take_renewals(client, turns, patience, question).await,
            Some(Kind::Release) => self.take_releases(client, turns, patience, question).await,
            Some(Kind::Other) => self.take_other(client, turns, patience, question).await,
        }
    }

    async fn take_claims(
        &self,
        client: &Client,
        turns: &[&Turn],
        patience: i32,
        question: i64,
    ) -> Result<Result<Vec<Answer>>, tokio_postgres::Error> {
        let asked = || {
            turns.iter().filter_map(|t| match &t.what {
                What::Claim(asked) => Some(asked),
                _ => None,
            })
        };
        let members: Vec<_> = asked().map(|a| &a.member.as_bytes()[..]).collect();
        let claims: Vec<_> = asked().map(|a| &*a.claim).collect();
        let takes: Vec<_> = asked().map(|a| a.take).collect();
        let out_ofs: Vec<_> = asked().map(|a| a.out_of).collect();
        let ttls: Vec<_> = asked().map(|a| a.ttl).collect();
        let details: Vec<_> = asked().map(|a| &*a.details).collect();
        let plain: Vec<_> = asked().map(|a| a.plain).collect();
        let wants: Vec<_> = asked().map(|a| &*a.wants).collect();
        let channels: Vec<_> = asked().map(|a| &*a.channel).collect();
        let rows = client
            .query_typed(
                &self.claim,
                &[
                    (&question, Type::INT8),
                    (&names(turns), Type::TEXT_ARRAY),
                    (&members, Type::BYTEA_ARRAY),
                    (&claims, Type::TEXT_ARRAY),
                    (&takes, Type::INT8_ARRAY),
                    (&out_ofs, Type::INT8_ARRAY),
                    (&ttls, Type::INT8_ARRAY),
                    (&details, Type::TEXT_ARRAY),
                    (&plain, Type::BOOL_ARRAY),
                    (&wants, Type::TEXT_ARRAY),
                    (&channels, Type::TEXT_ARRAY),
                    (&patience, Type::INT4),
                ],
            )
            .await?;
        Ok(in_order(rows, turns.len(), question))
    }

    async fn take_renewals(
        &self,
        client: &Client,
        turns: &[&Turn],
        patience: i32,
        question: i64,
    ) -> Result<Result<Vec<Answer>>, tokio_postgres::Error> {
        let (mut members, mut changes) = (Vec::new(), Vec::new());
        let (mut ttls, mut detacheds) = (Vec::new(), Vec::new());
        for turn in turns {
            if let What::Renew { member, change, ttl, detached } = &turn.what {
                members.push(&member.as_bytes()[..]);
                changes.push(*change);
                ttls.push(*ttl);
                detacheds.push(*detached);
            }
        }
        let rows = client
            .query_typed(
                &self.renew,
                &[
                    (&question, Type::INT8),
                    (&names(turns), Type::TEXT_ARRAY),
                    (&members, Type::BYTEA_ARRAY),
                    (&changes, Type::BOOL_ARRAY),
                    (&ttls, Type::INT8_ARRAY),
                    (&detacheds, Type::BOOL_ARRAY),
                    (&patience, Type::INT4),
                ],
            )
            .await?;
        Ok(in_order(rows, turns.len(), question))
    }

    async fn take_releases(
        &self,
        client: &Client,
        turns: &[&Turn],
        patience: i32,
        question: i64,
    ) -> Result<Result<Vec<Answer>>, tokio_postgres::Error> {
        let mut members = Vec::new();
        for turn in turns {
            if let What::Release { member } = &turn.what {
                members.push(&member.as_bytes()[..]);
            }
        }
        let rows = client
            .query_typed(
                &self.release,
                &[
                    (&question, Type::INT8),
                    (&names(turns), Type::TEXT_ARRAY),
                    (&members, Type::BYTEA_ARRAY),
                    (&patience, Type::INT4),
                ],
            )
            .await?;
        Ok(in_order(rows, turns.len(), question))
    }

    async fn take_other(
        &self,
        client: &Client,
        turns: &[&Turn],
        patience: i32,
        question: i64,
    ) -> Result<Result<Vec<Answer>>, tokio_postgres::Error> {
        let mut answers = Vec::new();
        for turn in turns {
            let What::Other { verb, member, args, bytes } = &turn.what else { continue };
            let member = member.as_ref().map(|m| &m.as_bytes()[..]);
            let bytes = bytes.as_deref();
            let params: [(&(dyn ToSql + Sync), Type); 7] = [
                (&question, Type::INT8),
                (&turn.name.as_str(), Type::TEXT),
                (verb, Type::TEXT),
                (&member, Type::BYTEA),
                (args, Type::TEXT),
                (&bytes, Type::BYTEA),
                (&patience, Type::INT4),
            ];
            let rows = client.query_typed(&self.other, &params).await?;
            let Some(row) = rows.first() else { return Ok(Err(another_question())) };
            if row.try_get(1).ok() != Some(question) {
                return Ok(Err(another_question()));
            }
            match row.try_get(0) {
                Ok(said) => answers.push(Answer::Said(said)),
                Err(_) => return Ok(Err(strange("no answer to a turn"))),
            }
        }
        Ok(Ok(answers))
    }
}

fn names<'a>(turns: &[&'a Turn]) -> Vec<&'a str> {
    turns.iter().map(|t| t.name.as_str()).collect()
}

/// The answers to so many turns, which come in any order and each with its number.
fn in_order(rows: Vec<Row>, count: usize, question: i64) -> Result<Vec<Answer>> {
    let mut answers: Vec<Option<Answer>> = Vec::new();
    answers.resize_with(count, || None);
    for row in rows {
        if row.try_get(4).ok() != Some(question) {
            return Err(another_question());
        }
        let answer = Answer::of(&row)?;
        let nr: i32 = row.try_get(0).map_err(|_| strange("an answer without a number"))?;
        let place = usize::try_from(nr).ok().and_then(|nr| answers.get_mut(nr.checked_sub(1)?));
        *place.ok_or_else(|| strange("an answer to no turn"))? = Some(answer);
    }
    let all: Option<Vec<Answer>> = answers.into_iter().collect();
    all.ok_or_else(|| strange("a turn without an answer"))
}

/// What was done is not known: this was said to somebody else, or to an earlier question.
fn another_question() -> Error {
    no_answer("what came is the answer to another question; is a pooler in between?")
}

fn rand_i64() -> i64 {
    let bytes = *tenure_core::Token::random().expose();
    i64::from_le_bytes(bytes[..8].try_into().expect("8 of 16 bytes"))
}

/// `take` of `out_of`, as they are stored: 0 of 0 are all.
pub(crate) fn seats(seats: Seats) -> (i64, i64) {
    match seats {
        Seats::Some { take, of } => (take.into(), of.into()),
        _ => (0, 0),
    }
}

/// A duration as it is stored.
pub(crate) fn micros(duration: Duration) -> i64 {
    // 30 days are the most but for retentions; 285 years are as good as for ever.
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX).min(1 << 53)
}
