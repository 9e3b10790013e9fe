//! Session advisory locks.
