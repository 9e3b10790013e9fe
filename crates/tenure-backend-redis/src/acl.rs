//! What a Redis user has to be allowed, as rules of its ACL.
//!
//! A user for locks under the prefix `locks:` is made with
//! `ACL SETUSER name on >password ~locks:* ` + [`KEYS`] + [`COMMANDS`] + what the place needs.

/// The keys and channels beside the locks' own keys, which `~prefix*` allows.
pub const KEYS: &str = "~tenure:{* &tenure:wake:*";

/// The commands that every store needs, those inside of the scripts included.
pub const COMMANDS: &str = "+ping +subscribe +publish +evalsha +eval +time +get +set +del \
                            +pttl +hmget +hget +hset +hdel +pexpireat";

/// To list locks.
pub const LIST: &str = "+scan";

/// Behind Sentinel, on the servers: Sentinels have users of their own.
pub const SENTINEL: &str = "+role";

/// On the nodes of a cluster.
pub const CLUSTER: &str = "+cluster|info +cluster|slots +cluster|nodes +asking";

/// For `min_replicas`.
pub const MIN_REPLICAS: &str = "+exists +wait";
