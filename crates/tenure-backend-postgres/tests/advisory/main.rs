//! Session advisory locks on a real server.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod conformance;
