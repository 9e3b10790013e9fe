//! Values of which each thread has one mostly to itself, so that threads do not meet at a mutex
//! or a cache line on the way that every acquire and release takes.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many stripes there are; more threads than that share them.
const STRIPES: usize = 16;

/// One `T` for each of [`STRIPES`] groups of threads, a cache line apart.
#[derive(Debug, Default)]
pub(crate) struct Stripes<T>([Stripe<T>; STRIPES]);

/// Two lines of 64 bytes: they are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe<T>(T);

impl<T> Stripes<T> {
    pub(crate) fn new(mut make: impl FnMut() -> T) -> Self {
        Self(std::array::from_fn(|_| Stripe(make())))
    }

    /// The stripe of the thread that asks.
    pub(crate) fn mine(&self) -> &T {
        self.at(mine())
    }

    /// A stripe by its number, of which only the last digits count.
    pub(crate) fn at(&self, stripe: u8) -> &T {
        &self.0[usize::from(stripe) % STRIPES].0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|stripe| &stripe.0)
    }

    /// All stripes with their numbers.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u8, &T)> {
        (0..).zip(self.iter())
    }
}

/// The number of the stripe of the thread that asks.
pub(crate) fn mine() -> u8 {
    thread_local! {
        static MINE: u8 = {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let next = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
            u8::try_from(next).expect("16 stripes")
        };
    }
    // During a thread's end its number may be gone; any stripe will do.
    MINE.try_with(|mine| *mine).unwrap_or(0)
}
