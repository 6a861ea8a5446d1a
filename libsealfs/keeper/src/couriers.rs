//! All couriers: one for each cluster that processes of this node use, so that one which is away holds
//! up no other. Each begins when its cluster is first needed, and goes when nobody needs it any more.
//!
//! What must stay true: an errand that was sent is somebody's until the arena has forgotten what it
//! names; a courier leaves the list only with no word unread.

use crate::bell::Bell;
use crate::cluster::Clusters;
use crate::courier::{Courier, Errand, Next, Word};
use crate::run::Node;
use sealfs_client::node::arena::ManagerIndex;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

struct Desk {
    words: Sender<Word>,
    bell: Arc<Bell>,
}

impl Desk {
    fn say(&self, word: Word) {
        // Its courier takes itself off the list before it goes.
        let _ = self.words.send(word);
        self.bell.ring();
    }
}

type List = Arc<Mutex<BTreeMap<ManagerIndex, Desk>>>;

pub struct Couriers {
    node: Arc<Node>,
    clusters: Arc<dyn Clusters>,
    list: List,
    /// Held by every courier for as long as it is at work.
    at_work: Mutex<Option<Sender<()>>>,
    all_gone: Mutex<Receiver<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Couriers {
    pub fn new(node: Arc<Node>, clusters: Arc<dyn Clusters>) -> Couriers {
        let (at_work, all_gone) = channel();
        Couriers {
            node,
            clusters,
            list: List::default(),
            at_work: Mutex::new(Some(at_work)),
            all_gone: Mutex::new(all_gone),
        }
    }

    pub fn send(&self, errand: Errand) {
        self.with(errand.manager(), |desk| desk.say(Word::Errand(errand)));
    }

    /// Every cluster in use has a courier, which renews the session there.
    pub fn look_after(&self) {
        for manager in self.node.managers_in_use() {
            self.with(manager, |_| {});
        }
    }

    fn with(&self, manager: ManagerIndex, say: impl FnOnce(&Desk)) {
        match lock(&self.list).entry(manager) {
            Entry::Occupied(desk) => say(desk.get()),
            Entry::Vacant(place) => match self.begin(manager) {
                Ok(desk) => say(place.insert(desk)),
                // The arena keeps what was to be said; the next keeper finds it.
                Err(e) => log::error!("no courier: {e}"),
            },
        }
    }

    fn begin(&self, manager: ManagerIndex) -> std::io::Result<Desk> {
        let bell = Arc::new(Bell::new()?);
        let (words, heard) = channel();
        let courier = Courier::new(Arc::clone(&self.node), Arc::clone(&self.clusters), manager);
        let (list, at_work) = (Arc::clone(&self.list), lock(&self.at_work).clone());
        let of_thread = Arc::clone(&bell);
        std::thread::Builder::new()
            .name("courier".into())
            .spawn(move || {
                run(courier, manager, &list, &heard, &of_thread);
                drop(at_work);
            })?;
        Ok(Desk { words, bell })
    }

    /// The keeper is to end: what is left is tried at once, and often.
    pub fn hurry(&self) {
        lock(&self.list).values().for_each(|d| d.say(Word::Hurry));
    }

    /// Ends all couriers, with the session if `end_session`; those that wait for a server longer than
    /// until `until` are left behind.
    pub fn stop(&self, end_session: bool, until: Instant) {
        for desk in lock(&self.list).values() {
            desk.say(Word::Stop { end_session });
        }
        drop(lock(&self.at_work).take());
        let left = until.saturating_duration_since(Instant::now());
        if lock(&self.all_gone).recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            log::info!("servers that do not answer are left to the next keeper");
        }
    }
}

fn run(
    mut courier: Courier,
    manager: ManagerIndex,
    list: &List,
    words: &Receiver<Word>,
    bell: &Bell,
) {
    loop {
        match courier.round(words, bell) {
            Next::GoOn => {}
            Next::Stop => return,
            Next::Forget => {
                // Whoever says something holds the list: nothing comes between the two.
                let mut list = lock(list);
                match words.try_recv() {
                    Ok(Word::Errand(errand)) => courier.take(errand),
                    Ok(_) => return,
                    Err(_) => {
                        list.remove(&manager);
                        return;
                    }
                }
            }
        }
    }
}
