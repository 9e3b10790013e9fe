//! What goes wrong, and when.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A call that can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    /// Reading a record.
    Load,
    /// Replacing a record.
    Swap,
    /// The first sign of life.
    Admit,
    /// A further sign of life.
    Beat,
    /// Reading signs of life.
    Signs,
    /// Waking somebody; a fault loses the wake-up.
    Wake,
}

/// How a call goes wrong. A call that cannot go wrong in this way fails as if unreachable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It does not arrive, and its caller knows that.
    Unreachable,
    /// It does not arrive, and nobody knows.
    LostRequest,
    /// It takes effect, and nobody knows.
    LostReply,
    /// Nobody knows, and it may take effect at any later moment.
    Late,
    /// Somebody else was first.
    Conflict,
    /// It reads what was there before.
    Stale,
    /// It takes so long, and goes well.
    Slow(Duration),
}

/// The faults of one store: first what the script says, then what the storm brings.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<(Call, Fault)>,
    always: Vec<(Call, Fault)>,
    storm: Option<(Storm, StdRng)>,
    happened: u64,
}

/// How often what goes wrong in a storm: the chance of each fault of each call, in percent.
#[derive(Clone, Debug)]
pub struct Storm {
    /// The seed it comes from.
    pub seed: u64,
    /// Call, fault, and its chance.
    pub chances: Vec<(Call, Fault, u32)>,
}

impl Storm {
    /// A bit of everything that a store does whose word can still be relied on. Wake-ups arrive:
    /// one that is lost costs a waiter up to a third of its place's life, as it is meant to.
    pub fn of_everything(seed: u64) -> Self {
        use Call::{Beat, Load, Swap};
        let slow = Fault::Slow(Duration::from_millis(2));
        let chances = vec![
            (Swap, Fault::LostReply, 8),
            (Swap, Fault::LostRequest, 8),
            (Swap, Fault::Late, 5),
            (Swap, Fault::Conflict, 8),
            (Swap, slow, 5),
            (Load, slow, 3),
            (Beat, Fault::Unreachable, 8),
            (Beat, Fault::LostReply, 5),
        ];
        Self { seed, chances }
    }
}

impl Faults {
    /// Lets the next call of this kind go wrong, after those that were scripted before.
    pub fn once(&self, call: Call, fault: Fault) {
        self.state.lock().script.push_back((call, fault));
    }

    /// Lets every call of this kind go wrong until [`Faults::heal`].
    pub fn always(&self, call: Call, fault: Fault) {
        self.state.lock().always.push((call, fault));
    }

    /// Begins a storm.
    pub fn storm(&self, storm: Storm) {
        let rng = StdRng::seed_from_u64(storm.seed);
        self.state.lock().storm = Some((storm, rng));
    }

    /// Ends script and storm.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        let happened = state.happened;
        *state = State { happened, ..State::default() };
    }

    /// How many faults there were.
    pub fn happened(&self) -> u64 {
        self.state.lock().happened
    }

    pub(super) fn next(&self, call: Call) -> Option<Fault> {
        let mut state = self.state.lock();
        let fault = state.draw(call);
        state.happened += u64::from(fault.is_some());
        fault
    }

    /// A coin that falls as the seed says; without a storm always the same way.
    pub(super) fn coin(&self) -> bool {
        let mut state = self.state.lock();
        state.storm.as_mut().is_none_or(|(_, rng)| rng.random())
    }
}

impl State {
    fn draw(&mut self, call: Call) -> Option<Fault> {
        if let Some(at) = self.script.iter().position(|(c, _)| *c == call) {
            return self.script.remove(at).map(|(_, fault)| fault);
        }
        if let Some((_, fault)) = self.always.iter().find(|(c, _)| *c == call) {
            return Some(*fault);
        }
        let (storm, rng) = self.storm.as_mut()?;
        let mut drawn = rng.random_range(0..100_u32);
        for (_, fault, chance) in storm.chances.iter().filter(|(c, _, _)| *c == call) {
            match drawn.checked_sub(*chance) {
                None => return Some(*fault),
                Some(rest) => drawn = rest,
            }
        }
        None
    }
}
