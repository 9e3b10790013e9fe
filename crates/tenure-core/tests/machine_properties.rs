//! The machine under random commands: bigger configurations and more extreme numbers than a model
//! can go through, with every rule of a lock checked after every step. `TENURE_MODELS=full` runs
//! two hundred times as many.

#![allow(clippy::unwrap_used, reason = "all of this is a test, its helpers included")]

#[path = "machine_properties/commands.rs"]
mod commands;
#[path = "machine_properties/edits.rs"]
mod edits;
#[path = "machine_properties/holds.rs"]
mod holds;
#[path = "machine_properties/regressions.rs"]
mod regressions;
#[path = "machine_properties/world.rs"]
mod world;

use commands::{Command, command, start};
use edits::edit;
use holds::safety_holds;
use proptest::prelude::*;
use serde_json::json;
use tenure_core::Fence;
use tenure_core::machine::{Cell, Now, Turn};
use world::World;

fn cases(small: u32) -> ProptestConfig {
    let full = std::env::var("TENURE_MODELS").is_ok_and(|size| size == "full");
    let cases = if full { small * 200 } else { small };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn every_rule_holds_after_every_command(
        start in start(),
        commands in prop::collection::vec(command(), 1..80),
    ) {
        let mut world = World::new(start);
        for command in &commands {
            world.run(command);
        }
    }

    #[test]
    fn bytes_that_are_no_record_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Cell::decode(&bytes).is_err());
        let mut like_a_record = format!("tenure-record 1 {:08x}\n", crc32c::crc32c(&bytes)).into_bytes();
        like_a_record.extend_from_slice(&bytes);
        like_a_record.push(b'\n');
        prop_assert!(Cell::decode(&like_a_record).is_err());
    }

    #[test]
    fn a_damaged_record_is_refused_or_the_same(
        start in start(),
        commands in prop::collection::vec(command(), 1..30),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut world = World::new(start);
        commands.iter().for_each(|command| world.run(command));
        let Ok(mut record) = world.cell.encode(&world.name) else { return Ok(()) };
        for (at, byte) in damage {
            let at = at.index(record.len());
            record[at] = byte;
        }
        if let Ok((name, cell)) = Cell::decode(&record) {
            prop_assert_eq!((name, cell), (world.name, world.cell));
        }
    }

    #[test]
    fn a_record_that_somebody_changed_is_refused_or_keeps_the_rules(
        start in start(),
        commands in prop::collection::vec(command(), 1..30),
        edits in prop::collection::vec(edit(), 1..4),
        more in prop::collection::vec(command(), 0..10),
    ) {
        let mut world = World::new(start);
        commands.iter().for_each(|command| world.run(command));
        let mut json = serde_json::to_value(&world.cell).unwrap();
        edits.iter().for_each(|edit| edit.apply(&mut json));
        let body = json!({ "name": "properties", "cell": json }).to_string();
        let sum = crc32c::crc32c(body.as_bytes());
        let record = format!("tenure-record 1 {sum:08x}\n{body}\n");
        let Ok((_, cell)) = Cell::decode(record.as_bytes()) else { return Ok(()) };
        safety_holds(&cell);
        // Whatever it is, it can be worked with.
        let _ = cell.view(world.name.clone(), world.now);
        let mut cell = cell;
        for command in more {
            let who = &world.clients[0].claim;
            let now = Now::Store(world.now);
            let mut turn = Turn::begin(&mut cell, now, Fence::ZERO);
            match command {
                Command::Release { who, .. } => {
                    turn.release(world.clients[who].claim.member, None);
                }
                Command::Renew { who } => {
                    let _ = turn.renew(world.clients[who].claim.member, None);
                }
                _ => {
                    turn.acquire(who);
                }
            }
            turn.end();
            safety_holds(&cell);
        }
    }
}
