//! Seeds of random tests: printed by every run, accepted from the environment.

/// The variable that repeats a run: a number, decimal or `0x` and hexadecimal.
pub const VARIABLE: &str = "TENURE_SEED";

/// The seed of this run: that of the environment, or a new one. Printed, so that a failure can be
/// repeated.
///
/// # Panics
/// If the variable is set and is not a number.
pub fn seed(of: &str) -> u64 {
    let seed = match std::env::var(VARIABLE) {
        Ok(text) => parse(&text).unwrap_or_else(|| panic!("{VARIABLE}={text:?} is not a number")),
        Err(_) => rand::random(),
    };
    println!("{of}: repeat it with {VARIABLE}={seed:#x}");
    seed
}

fn parse(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_as_it_was_printed() {
        assert_eq!(parse("0x1f"), Some(31));
        assert_eq!(parse("31"), Some(31));
        assert_eq!(parse("x"), None);
    }
}
