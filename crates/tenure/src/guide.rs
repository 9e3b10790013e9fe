//! The examples of the README and the guide, as tests: every page of `docs/guide` with Rust in it.
//!
//! They are here for `cargo test --doc` alone; nothing of this is in the built crate.

#[cfg(all(feature = "memory", feature = "file", feature = "recipes"))]
mod memory_and_file {
    #[doc = include_str!("../../../docs/guide/coming-from.md")]
    mod coming_from {}
    #[doc = include_str!("../../../docs/guide/configuration.md")]
    mod configuration {}
    #[doc = include_str!("../../../docs/guide/fencing.md")]
    mod fencing {}
}

#[cfg(feature = "memory")]
mod memory {
    #[doc = include_str!("../../../docs/guide/choosing-a-store.md")]
    mod choosing_a_store {}
    #[doc = include_str!("../../../docs/guide/deadlocks.md")]
    mod deadlocks {}
    #[doc = include_str!("../../../docs/guide/troubleshooting.md")]
    mod troubleshooting {}
}

#[cfg(feature = "macros")]
mod macros {
    #[doc = include_str!("../../../docs/guide/attributes.md")]
    mod attributes {}
    #[doc = include_str!("../../../docs/guide/once.md")]
    mod once {}
}

#[cfg(feature = "redis")]
mod redis {
    #[doc = include_str!("../../../docs/guide/redis.md")]
    mod redis_page {}
    #[doc = include_str!("../../../docs/guide/redlock.md")]
    mod redlock_page {}
}

#[cfg(feature = "postgres")]
mod postgres {
    #[doc = include_str!("../../../docs/guide/postgres.md")]
    mod postgres_page {}
}

#[cfg(feature = "file")]
mod file {
    #[doc = include_str!("../../../README.md")]
    mod front_page {}
    #[doc = include_str!("../../../docs/guide/README.md")]
    mod readme {}
}

#[cfg(all(feature = "memory", feature = "recipes"))]
mod recipes {
    #[doc = include_str!("../../../docs/guide/recipes.md")]
    mod recipes_page {}
}

#[cfg(all(feature = "memory", feature = "file", feature = "recipes"))]
mod memory_file_and_recipes {
    #[doc = include_str!("../../../docs/guide/best-practices.md")]
    mod best_practices {}
}
