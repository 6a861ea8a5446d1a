//! Clients, node sessions and their locks (`server/src/core/{homes,sessions,frames,flock}.rs`,
//! `libsealfs/keeper/src/courier.rs`).
//!
//! One session that is watched (it may pause, with its keeper, or be cut off), its home, and another
//! shard that keeps a file with a lock. Somebody else wants that lock all the time. Time is one event:
//! the lease has run out. Deaths of shards lose any part of what is not flushed; a message is sent
//! until it is answered, and may arrive more than once, or late.

mod plans;

use stateright::{Model, Property};

/// An entry of the home's log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum HomeEntry {
    /// `SessionRecord::Live`
    Live,
    /// `SessionRecord::SessionEnded`
    Ended,
    /// `SessionRecord::SessionOver`
    Over,
}

/// An entry of the other shard's log: who holds the lock (`LockRecord`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Holder {
    Nobody,
    Watched,
    Rival,
}

/// What a log holds: what is flushed, and the tail that a power cut may take.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Log<T> {
    flushed: T,
    tail: Vec<T>,
}

impl<T: Copy> Log<T> {
    fn new(first: T) -> Log<T> {
        Log {
            flushed: first,
            tail: Vec::new(),
        }
    }

    fn last(&self) -> T {
        self.tail.last().copied().unwrap_or(self.flushed)
    }

    fn flush(&mut self) {
        self.flushed = self.last();
        self.tail.clear();
    }

    /// Opening a store flushes what is left of it (`Meta::start`).
    fn cut(&mut self, keep: usize) {
        self.tail.truncate(keep);
        self.flush();
    }
}

/// Whether the keeper's session is known to live.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Lease {
    /// Never renewed in this life of the home, nor recovered.
    None,
    Runs,
    /// `Sessions::ended_sessions`
    Ended,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    /// None: there is no record.
    home: Log<Option<HomeEntry>>,
    lease: Lease,
    /// The end was not acknowledged (`Sessions::ending`).
    ending: bool,
    /// `PeerRequest::Ended` was sent and may arrive (again) at any time.
    pushed: bool,

    /// The lock, as logged by the other shard.
    lock: Log<Holder>,
    /// The home has said there that the session lives (`Sessions::attended`).
    attended: bool,
    /// The shard knows that it has ended.
    refused: bool,
    /// The watched client has a connection there.
    connected: bool,
    /// `Attend` was answered with yes and the answer is on its way.
    yes_on_its_way: bool,

    /// The watched process and its keeper do nothing.
    paused: bool,
    /// It was told that it holds the lock.
    believes: bool,
    /// It got an error, and knows that it has lost everything.
    knows: bool,
    /// A success of the watched client under a lock that it does not hold.
    stale: bool,
    pauses: u8,
    deaths: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// `Courier::renew`; `Core::renew`
    Renew,
    /// The keeper is silent until the lease is over (`Sessions::expired`, `Core::end`).
    Expire,
    /// The home's log is flushed, and the end that waited for it is pushed (`FlushWait::End`).
    FlushHome,
    FlushShard,
    /// `end_here` on the other shard; whether the acknowledgement arrives.
    Ended(bool),
    /// Hello on the other shard: `is_alive` asks the home, `attend` answers there.
    Hello,
    /// The answer arrives (`on_attended`), and the Hello goes on.
    Attended,
    /// The watched client takes the lock (`ops::lock::lock`).
    Lock,
    /// It writes under it (`Core::refusal`).
    Write,
    /// The rival takes the lock, and gives it back.
    RivalLocks,
    RivalUnlocks,
    Pause,
    Wake,
    KillHome(usize),
    KillShard(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// A shard takes every Hello whose end it does not remember, as it did before `Attend`.
    AsksNobody,
    /// The home forgets a session once its end was acknowledged.
    HomeForgets,
    /// The end is pushed before it is flushed.
    PushesUnflushed,
    /// The end is acknowledged before the release of the locks is flushed.
    AcknowledgesUnflushed,
    /// The shard lets go of the locks and does not refuse the client.
    ReleasesWithoutRefusing,
    /// A lease is not taken up again by a restarted home.
    LeaseIsLost,
}

pub struct Sessions {
    pauses: u8,
    deaths: u8,
    mistake: Option<Mistake>,
}

impl Sessions {
    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// `end`: logged, flushed, pushed, carried out.
    fn end(&self, s: &mut State) {
        s.lease = Lease::Ended;
        s.ending = true;
        s.home.tail.push(Some(HomeEntry::Ended));
        s.pushed = s.pushed || self.makes(Mistake::PushesUnflushed);
    }

    /// `end_here`, `carry_out_end`, `Job::Unlock`; then `end_acknowledged`.
    fn ended(&self, s: &mut State, arrives: bool) {
        let refuses = !self.makes(Mistake::ReleasesWithoutRefusing);
        s.refused = s.refused || refuses;
        if refuses {
            s.attended = false;
            s.connected = false;
        }
        if s.lock.last() == Holder::Watched {
            s.lock.tail.push(Holder::Nobody);
        }
        let durable = s.lock.tail.is_empty() || self.makes(Mistake::AcknowledgesUnflushed);
        if arrives && durable && s.ending {
            s.ending = false;
            s.pushed = false;
            let over = !self.makes(Mistake::HomeForgets);
            s.home.tail.push(over.then_some(HomeEntry::Over));
        }
    }

    /// `recover_homes`
    fn kill_home(&self, s: &mut State, keep: usize) {
        s.home.cut(keep);
        s.yes_on_its_way = false;
        (s.lease, s.ending) = match s.home.last() {
            Some(HomeEntry::Live) if !self.makes(Mistake::LeaseIsLost) => (Lease::Runs, false),
            Some(HomeEntry::Ended) => (Lease::Ended, true),
            Some(HomeEntry::Over) => (Lease::Ended, false),
            _ => (Lease::None, false),
        };
        s.pushed = s.ending;
    }

    /// `Core::new`: the lock comes from the log, who was here does not.
    fn kill_shard(s: &mut State, keep: usize) {
        s.lock.cut(keep);
        s.attended = false;
        s.refused = false;
        s.connected = false;
        s.yes_on_its_way = false;
    }

    fn step(&self, s: &mut State, action: Action) {
        match action {
            Action::Renew if s.lease == Lease::Ended => s.knows = true,
            Action::Renew => {
                if s.lease == Lease::None {
                    s.home.tail.push(Some(HomeEntry::Live));
                }
                s.lease = Lease::Runs;
            }
            Action::Expire => self.end(s),
            Action::FlushHome => {
                s.home.flush();
                s.pushed = s.ending;
            }
            Action::FlushShard => s.lock.flush(),
            Action::Ended(arrives) => self.ended(s, arrives),
            Action::Hello if s.refused => s.knows = true,
            Action::Hello if s.attended || self.makes(Mistake::AsksNobody) => s.connected = true,
            Action::Hello if s.lease == Lease::Ended => (s.refused, s.knows) = (true, true),
            Action::Hello => s.yes_on_its_way = true,
            Action::Attended => {
                s.yes_on_its_way = false;
                s.attended = !s.refused;
                s.connected = s.attended;
            }
            Action::Lock if s.lock.last() == Holder::Nobody => {
                s.lock.tail.push(Holder::Watched);
                s.believes = true;
            }
            Action::Lock => {}
            Action::Write => s.stale |= s.believes && s.lock.last() != Holder::Watched,
            Action::RivalLocks if s.lock.last() == Holder::Nobody => {
                s.lock.tail.push(Holder::Rival);
            }
            Action::RivalUnlocks if s.lock.last() == Holder::Rival => {
                s.lock.tail.push(Holder::Nobody);
            }
            Action::RivalLocks | Action::RivalUnlocks => {}
            Action::Pause => (s.paused, s.pauses) = (true, s.pauses + 1),
            Action::Wake => s.paused = false,
            Action::KillHome(keep) => {
                s.deaths += 1;
                self.kill_home(s, keep);
            }
            Action::KillShard(keep) => {
                s.deaths += 1;
                // A lock that a power cut takes from its holder is told by the incarnation: the
                // library gives errors for it (`Files::lose_locks`).
                let lost = s.lock.tail[keep..].contains(&Holder::Watched);
                s.knows |= lost && s.believes;
                Sessions::kill_shard(s, keep);
            }
        }
    }

    /// Time passes and nobody wakes: what can still happen by itself.
    fn is_quiet(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        let by_itself = |a: &Action| {
            matches!(
                a,
                Action::Expire | Action::FlushHome | Action::FlushShard | Action::Ended(true)
            )
        };
        let mut left = actions.into_iter().filter(by_itself);
        left.all(|action| self.next_state(state, action).is_none())
    }
}

impl Model for Sessions {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            home: Log::new(None),
            lease: Lease::None,
            ending: false,
            pushed: false,
            lock: Log::new(Holder::Nobody),
            attended: false,
            refused: false,
            connected: false,
            yes_on_its_way: false,
            paused: false,
            believes: false,
            knows: false,
            stale: false,
            pauses: 0,
            deaths: 0,
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::RivalLocks, Action::RivalUnlocks]);
        if s.paused {
            actions.push(Action::Wake);
            if s.lease == Lease::Runs {
                actions.push(Action::Expire);
            }
        } else if !s.knows {
            actions.push(Action::Renew);
            // The keeper has made the session known before any lock is taken (`renew_if_due`).
            if s.home.flushed.is_some() || s.believes {
                actions.push(if s.connected {
                    Action::Write
                } else {
                    Action::Hello
                });
            }
            if s.connected && !s.believes {
                actions.push(Action::Lock);
            }
            if s.pauses < self.pauses {
                actions.push(Action::Pause);
            }
        }
        if s.yes_on_its_way {
            actions.push(Action::Attended);
        }
        if s.pushed {
            actions.extend([Action::Ended(true), Action::Ended(false)]);
        }
        if !s.home.tail.is_empty() {
            actions.push(Action::FlushHome);
        }
        if !s.lock.tail.is_empty() {
            actions.push(Action::FlushShard);
        }
        if s.deaths < self.deaths {
            actions.extend((0..=s.home.tail.len()).map(Action::KillHome));
            actions.extend((0..=s.lock.tail.len()).map(Action::KillShard));
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        self.step(&mut state, action);
        (state != *before).then_some(state)
    }

    /// A rival that locks and unlocks for ever adds nothing.
    fn within_boundary(&self, s: &State) -> bool {
        s.lock.tail.len() <= 3 && s.home.tail.len() <= 3
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(HONEST, |_, s: &State| !s.stale),
            Property::always(GONE, |model: &Self, s: &State| {
                let left = s.lock.last() == Holder::Watched;
                !(s.paused && left && model.is_quiet(s))
            }),
            Property::always(HELD, |_, s: &State| {
                let mine = s.lock.last() == Holder::Watched;
                !(s.believes && !s.knows && !s.paused)
                    || mine
                    || s.lease == Lease::Ended
                    || s.pauses > 0
            }),
            Property::sometimes("the lock is handed over", |_, s: &State| {
                s.believes && s.lock.last() == Holder::Rival
            }),
            Property::sometimes("who was paused hears that it has lost", |_, s: &State| {
                s.knows && s.lease == Lease::Ended && !s.ending
            }),
        ]
    }
}

const HONEST: &str = "nothing succeeds under a lock that is lost";
const GONE: &str = "the locks of a session that is silent go";
const HELD: &str = "who is not silent keeps its lock";
