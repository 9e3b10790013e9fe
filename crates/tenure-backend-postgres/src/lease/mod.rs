//! Leases in a table.
