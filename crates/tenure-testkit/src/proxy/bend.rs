//! Bytes that are not what was sent.

use rand::Rng;

use super::fault::Mutation;

/// Mutates one byte in so many, and answers whether any was.
pub(super) fn bend(bytes: &mut Vec<u8>, how: Mutation, one_in: u32, rng: &mut impl Rng) -> bool {
    let mut bent = Vec::with_capacity(bytes.len());
    let mut any = false;
    for &byte in bytes.iter() {
        if rng.random_range(0..one_in.max(1)) != 0 {
            bent.push(byte);
            continue;
        }
        any = true;
        match how {
            Mutation::Flip => bent.push(byte ^ (1 << rng.random_range(0..u8::BITS))),
            Mutation::Insert => bent.extend([rng.random(), byte]),
            Mutation::Delete => {}
        }
    }
    *bytes = bent;
    any
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn bent(how: Mutation, one_in: u32, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; 1000];
        bend(&mut bytes, how, one_in, &mut StdRng::seed_from_u64(seed));
        bytes
    }

    #[test]
    fn about_one_byte_in_so_many_is_mutated() {
        let flipped = bent(Mutation::Flip, 10, 1).iter().filter(|&&byte| byte != 0).count();
        assert!((50..200).contains(&flipped), "{flipped}");
        let inserted = bent(Mutation::Insert, 10, 1).len() - 1000;
        assert!((50..200).contains(&inserted), "{inserted}");
        let deleted = 1000 - bent(Mutation::Delete, 10, 1).len();
        assert!((50..200).contains(&deleted), "{deleted}");
    }

    #[test]
    fn a_flipped_byte_differs_in_one_bit() {
        assert!(bent(Mutation::Flip, 1, 1).iter().all(|byte| byte.count_ones() == 1));
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(bent(Mutation::Insert, 10, 1), bent(Mutation::Insert, 10, 1));
        assert_ne!(bent(Mutation::Insert, 10, 1), bent(Mutation::Insert, 10, 2));
    }
}
