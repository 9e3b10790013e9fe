//! Senders, the driver and the network, in every order: nothing that is to be done is left undone while
//! everybody sleeps.
//!
//! A step is what one of them does to something that others see. Whoever looks at the socket or the
//! queue of the connection leaves the bell there in the same step: that no wake-up is lost between these two
//! is what tokio and the channel promise. A sender that is dropped has no steps left in which it would be missed.

use stateright::{Checker, Model, Property};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Sound,
    /// Rings are forgotten after the look, not before it.
    ForgetsLate,
    /// Whoever lets the bell go does not look whether it was rung.
    LetsGoBlindly,
    /// What was said to a sender is put by, and the driver is not told.
    PutsByQuietly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Bell {
    Free,
    Held,
    Rung,
}

/// Somebody who puts a statement into the queue, or the network, which makes the socket ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Start,
    /// It has the line, and holds the bell.
    Holds,
    /// It has put something there. Next it wakes whoever left a waker.
    Put,
    /// It took the bell, which it rings next.
    Rings,
    /// The bell was free: it wakes the driver next.
    Wakes,
    /// It forgets what was rung, looks at the socket, then at the queue, and lets go.
    Forgets,
    Reads,
    Writes,
    LetsGo,
    WakesAtLast,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Driver {
    Asleep,
    /// It has left its waker.
    Registered,
    /// It has the line.
    Locked,
    /// It has looked at the socket: with something to say or not.
    Read(bool),
}

const SENDERS: usize = 2;
/// Says that something can be read, and that something can be written.
const READABLE: usize = 2;
const WRITABLE: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    at: [At; 4],
    has_line: [bool; SENDERS],
    driver: Driver,
    scheduled: bool,
    driver_waker: bool,
    line_is_taken: bool,
    bell: Bell,
    queue: u8,
    readable: u8,
    writable: bool,
    said: u8,
    /// Where the bell was left: at the queue, for reading, for writing.
    left: [bool; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Of(usize),
    Drive,
}

impl World {
    fn wake_driver(&mut self) {
        self.scheduled |= std::mem::take(&mut self.driver_waker);
    }

    /// Looks at the socket.
    fn read(&mut self) -> bool {
        let any = 0 < self.readable;
        self.readable -= u8::from(any);
        self.left[1] |= !any;
        any
    }

    /// Sends what is in the queue, if the socket takes it.
    fn write(&mut self) {
        if self.writable {
            self.queue = 0;
            self.left[0] = true;
        } else {
            self.left[2] = true;
        }
    }

    fn ring(&mut self) -> bool {
        let free = self.bell == Bell::Free;
        if !free {
            self.bell = Bell::Rung;
        }
        free
    }

    fn step(&mut self, who: usize, wire: Wire) {
        let sends = who < SENDERS;
        let after = |world: &Self| match sends && world.has_line[who] {
            true => At::Forgets,
            false => At::Done,
        };
        self.at[who] = match self.at[who] {
            At::Start if sends && !self.line_is_taken => {
                (self.line_is_taken, self.has_line[who], self.bell) = (true, true, Bell::Held);
                At::Holds
            }
            At::Start | At::Holds => {
                match who {
                    READABLE => self.readable += 1,
                    WRITABLE => self.writable = true,
                    _ => self.queue += 1,
                }
                At::Put
            }
            At::Put => {
                let at = if sends { 0 } else { who - 1 };
                match std::mem::take(&mut self.left[at]) {
                    true => At::Rings,
                    false => after(self),
                }
            }
            At::Rings => match self.ring() {
                true => At::Wakes,
                false => after(self),
            },
            At::Wakes => {
                self.wake_driver();
                after(self)
            }
            At::Forgets => {
                if wire != Wire::ForgetsLate {
                    self.bell = Bell::Held;
                }
                At::Reads
            }
            At::Reads => {
                if self.read() {
                    self.said += 1;
                    if wire != Wire::PutsByQuietly {
                        self.ring();
                    }
                }
                At::Writes
            }
            At::Writes => {
                self.write();
                At::LetsGo
            }
            At::LetsGo => {
                if wire == Wire::ForgetsLate {
                    self.bell = Bell::Held;
                }
                match std::mem::replace(&mut self.bell, Bell::Free) {
                    Bell::Rung if wire != Wire::LetsGoBlindly => At::WakesAtLast,
                    _ => {
                        self.line_is_taken = false;
                        At::Done
                    }
                }
            }
            At::WakesAtLast => {
                self.wake_driver();
                self.line_is_taken = false;
                At::Done
            }
            At::Done => At::Done,
        };
    }

    fn drive(&mut self) {
        self.driver = match self.driver {
            Driver::Asleep => {
                (self.scheduled, self.driver_waker) = (false, true);
                Driver::Registered
            }
            Driver::Registered => {
                self.line_is_taken = true;
                Driver::Locked
            }
            Driver::Locked if 0 < self.said => {
                self.said -= 1;
                self.line_is_taken = false;
                self.scheduled = true;
                Driver::Asleep
            }
            Driver::Locked => Driver::Read(self.read()),
            Driver::Read(any) => {
                self.write();
                self.line_is_taken = false;
                // With something to say it comes again at once.
                self.scheduled |= any;
                Driver::Asleep
            }
        };
    }
}

impl Model for Wire {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let of = |writable| World {
            at: [At::Start; 4],
            has_line: [false; SENDERS],
            driver: Driver::Asleep,
            scheduled: true,
            driver_waker: false,
            line_is_taken: false,
            bell: Bell::Free,
            queue: 0,
            readable: 0,
            writable,
            said: 0,
            left: [false; 3],
        };
        vec![of(false), of(true)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        steps.extend((0..4).filter(|who| world.at[*who] != At::Done).map(Step::Of));
        let can_drive = match world.driver {
            Driver::Asleep => world.scheduled,
            Driver::Registered => !world.line_is_taken,
            Driver::Locked | Driver::Read(_) => true,
        };
        steps.extend(can_drive.then_some(Step::Drive));
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        match step {
            Step::Of(who) => next.step(who, *self),
            Step::Drive => next.drive(),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nobody sleeps while there is something to do", |wire, world| {
                let mut steps = Vec::new();
                wire.actions(world, &mut steps);
                let done = world.queue == 0 && world.readable == 0 && world.said == 0;
                !steps.is_empty() || done
            }),
            Property::sometimes("a sender reads what is for the driver", |_, w: &World| w.said > 0),
            Property::sometimes("the bell is rung while it is held", |_, world: &World| {
                world.at.contains(&At::WakesAtLast)
            }),
        ]
    }
}

const PROMISE: &str = "nobody sleeps while there is something to do";

#[test]
fn nothing_is_left_undone_while_everybody_sleeps() {
    let checker = Wire::Sound.checker().spawn_dfs().join();
    println!("{} states, {} distinct", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn whoever_forgets_rings_after_the_look_or_lets_go_blindly_or_puts_by_quietly_leaves_something_undone()
 {
    for wire in [Wire::ForgetsLate, Wire::LetsGoBlindly, Wire::PutsByQuietly] {
        let checker = wire.checker().spawn_bfs().join();
        assert!(checker.discovery(PROMISE).is_some(), "{wire:?}");
    }
}
