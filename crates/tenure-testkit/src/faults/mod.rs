//! The fault suite: what is done to every store that is a server which judges leases by its own clock.
//!
//! Each fault is a plain function over a [`Ground`]: a server that the test owns, and a proxy before it.
//! [`fault_suite!`](crate::fault_suite) makes a test of every one of them, so that no store can leave
//! one out; what only one kind of server can suffer stands beside it, in the store's own tests.
//!
//! - [`takeover`]: holders and waiters that are killed and stopped;
//! - [`network`]: cuts, lost requests and replies, delays;
//! - [`server`]: a server that dies, comes back and stands still;
//! - [`clock`]: a server whose clock jumps, or is fast or slow;
//! - [`runtime`]: futures dropped half-way, runtimes that end or stand still, panics;
//! - [`chaos`]: everything at random.

pub mod takeover;
pub mod network;
pub mod server;
pub mod clock;
pub mod runtime;
pub mod chaos;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tenure_core::LockManager;
use tenure_core::backend::{Claim, DynBackend};

use crate::history::{Promise, Rules};
use crate::lock_taker::{Fleet, Job};
use crate::proxy::FaultProxy;
use crate::servers::Server;
use crate::stage::{X, fleet_in};

/// A ttl that no test waits for.
pub const LONG: Duration = Duration::from_secs(30);
/// A ttl that is waited for.
pub const SHORT: Duration = Duration::from_millis(800);
/// What may take a few messages and no more, on a machine that has other things to do.
pub const AT_ONCE: Duration = Duration::from_secs(1);
/// A free lock goes to a live waiter within this, on such a machine.
pub const RECOVERY: Duration = Duration::from_millis(2500);

/// How a server is to be set up.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// For what the proxy leaves to chance.
    pub seed: u64,
    /// Whether it keeps its data over a kill.
    pub keeps: bool,
    /// Its environment.
    pub env: Vec<(String, String)>,
}

/// A server, a proxy before it, and a place for histories; gone with the test.
pub trait Ground: Sized {
    /// The ttl of leases when everything happens at random.
    const TTL: Duration;
    /// How late a busy machine may run the thread that tells of a loss.
    const SLACK: Duration;
    /// A word that every request to acquire contains, and no other; likewise one to renew and one to
    /// release. May be the same.
    const WORDS: [&'static [u8]; 3];
    /// What may take a few messages over a connection that may have to be made anew.
    const AT_ONCE: Duration = AT_ONCE;
    /// With how many bytes every 2 ms a request is still answered within its time.
    const DRIP: usize = 16;
    /// What a few seconds with a clock at a wrong rate are long enough to try.
    const DRIFT_TRIES: &'static [Promise] = &Promise::ALL;

    /// Starts everything.
    fn start(setup: &Setup) -> Self;

    /// The server.
    fn server(&self) -> &dyn Server;

    /// What stands before it.
    fn proxy(&self) -> &FaultProxy;

    /// The address past the proxy.
    fn near(&self) -> String;

    /// The address by way of the proxy.
    fn far(&self) -> String;

    /// Opens an address.
    fn open(address: &str) -> Arc<dyn DynBackend>;

    /// Addresses past the proxy, with ttls that they can be held to: of other stores on this server,
    /// too.
    fn rooms(&self) -> Vec<(String, Duration)> {
        vec![(self.near(), SHORT)]
    }

    /// Where histories go.
    fn histories(&self) -> &Path;

    /// What the server's clock says, in ms.
    fn clock_ms(&self) -> i64;

    /// What there is on the server when nobody uses it any more and a ttl has passed, besides what has
    /// to be.
    fn left(&self, ttl: Duration) -> Vec<String>;

    /// With a server that need not keep anything.
    fn new() -> Self {
        Self::start(&Setup::default())
    }

    /// A manager that comes past the proxy.
    fn bystander(&self) -> LockManager {
        manager::<Self>(&self.near())
    }

    /// A manager that comes through the proxy.
    fn manager(&self) -> LockManager {
        manager::<Self>(&self.far())
    }

    /// A fleet with a history of its own.
    fn fleet(&self, seed: u64) -> Fleet {
        fleet_in(self.histories(), seed)
    }

    /// A user of the lock that comes past the proxy.
    fn direct(&self, ttl: Duration) -> Job {
        Job { ttl, ..Job::new(&self.near(), X) }
    }

    /// A user of the lock that comes through the proxy.
    fn job(&self, ttl: Duration) -> Job {
        Job { ttl, ..Job::new(&self.far(), X) }
    }

    /// By what runs are judged.
    fn rules(ttl: Duration) -> Rules {
        Rules { lost_slack: Self::SLACK, place: Claim::WAIT_TTL, ..Rules::new(ttl, RECOVERY) }
    }
}

/// A manager of its own at some address.
fn manager<G: Ground>(address: &str) -> LockManager {
    LockManager::new(G::open(address)).unwrap()
}

/// Makes a test of every fault of the suite for a [`Ground`](crate::faults::Ground).
#[macro_export]
macro_rules! fault_suite {
    ($ground:ident) => {
        $crate::fault_suite! { $ground:
            takeover {
                a_killed_holder_is_taken_over_when_its_lease_is_over_and_not_before
                waiters_that_are_killed_in_the_queue_are_passed_over_at_once
                a_holder_that_is_stopped_for_half_its_ttl_keeps_its_lock
                a_holder_that_is_stopped_for_longer_than_its_ttl_is_taken_over_and_finds_itself_lost
                a_holder_that_is_stopped_for_five_ttls_is_taken_over_and_finds_itself_lost
            }
            network {
                a_holder_that_is_cut_off_for_less_than_its_ttl_keeps_its_lock
                a_holder_that_is_cut_off_for_longer_is_told_its_loss_before_anybody_else_gets_in
                connections_that_stall_break_off_and_lose_bytes_at_random_break_no_promise
                words_that_come_up_to_three_ttls_late_break_no_promise
                an_acquire_whose_answer_is_lost_leaves_nothing_behind
                a_renewal_whose_answer_is_lost_is_sent_again
                a_release_whose_answer_is_lost_frees_the_lock_and_tells_the_truth
                a_hand_over_whose_message_is_lost_is_found_out_by_whoever_it_was_for
                a_guard_that_is_dropped_while_the_way_is_cut_is_released_when_it_is_whole_again
            }
            server {
                a_lease_and_a_place_outlive_a_server_that_is_killed_and_comes_back
                a_server_that_is_killed_and_restarted_with_its_data_breaks_no_promise
                a_server_that_is_stopped_and_goes_on_breaks_no_promise
            }
            clock {
                a_server_whose_clock_is_five_percent_fast_or_slow_breaks_no_promise
                a_clock_that_is_set_forward_by_less_than_what_is_left_of_a_lease_costs_nobody_a_lock
                after_a_clock_was_set_back_by_an_hour_a_dead_holders_lock_is_free_within_two_ttls
                fences_rise_over_a_clock_that_is_set_back
                a_clock_that_jumps_by_hours_may_break_exclusion_and_nothing_else
            }
            runtime {
                futures_that_are_dropped_at_any_point_leave_nothing_at_the_server
                a_runtime_that_ends_takes_its_waiters_along_and_a_guard_dropped_after_it_is_released
                a_lock_is_kept_while_the_only_thread_of_its_users_runtime_is_blocked_for_five_ttls
                a_panic_under_a_lock_releases_it
            }
            chaos {
                processes_that_are_killed_at_random_break_no_promise
                processes_that_are_stopped_at_random_break_no_promise
                processes_that_are_killed_and_stopped_at_random_break_no_promise
            }
        }
    };
    ($ground:ident: $($kind:ident { $($fault:ident)* })*) => {
        $(
            mod $kind {
                use super::$ground;
                $(
                    #[test]
                    fn $fault() {
                        $crate::faults::$kind::$fault::<$ground>();
                    }
                )*
            }
        )*
    };
}
