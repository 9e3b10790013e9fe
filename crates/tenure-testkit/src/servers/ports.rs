//! Ports of the loopback interface that nobody listens at.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use rand::Rng;

/// Where ports are looked for: below those that the kernel gives to outgoing connections, so that
/// no client of another test takes the port of a server that is being restarted.
const RANGE: Range<u16> = 10_000..22_000;
/// How many ports are tried.
const ATTEMPTS: u32 = 1000;

/// A port that nobody listens at, for now: somebody may be faster, then try another one.
///
/// # Panics
/// If there seems to be none.
#[must_use]
pub fn free_port() -> u16 {
    free_port_with(0)
}

/// A port that is free together with the one that is so much higher.
///
/// # Panics
/// If there seems to be none.
#[must_use]
pub fn free_port_with(offset: u16) -> u16 {
    let mut rng = rand::rng();
    (0..ATTEMPTS)
        .map(|_| rng.random_range(RANGE))
        .find(|&port| is_free(port) && is_free(port + offset))
        .unwrap_or_else(|| panic!("none of {ATTEMPTS} ports in {RANGE:?} is free"))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
