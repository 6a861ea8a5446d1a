//! Errands: what is tried how often, and what is given up.

use super::*;
use crate::courier::{Courier, Errand, GIVE_UP_AFTER, MISSED_FOR, MISSES_MAX};
use crate::couriers::Couriers;
use sealfs_client::node::reclaim::Remains;
use sealfs_protocol::OpenId;

const HERE: ManagerIndex = ManagerIndex(0);
const AWAY: ManagerIndex = ManagerIndex(1);

/// One cluster that answers, and one that counts how often it is asked and does not, for a long time
/// if it shall be slow.
#[derive(Default)]
struct Two {
    told: Arc<Told>,
    asked: Mutex<u32>,
    is_slow: bool,
}

impl Clusters for Two {
    fn get(
        &self,
        manager: ManagerIndex,
        volume: Option<VolumeId>,
    ) -> Result<Arc<dyn Cluster>, Errno> {
        if manager == AWAY {
            *self.asked.lock().unwrap() += 1;
            if self.is_slow {
                std::thread::park_timeout(PATIENCE);
            }
            return Err(Errno::EIO);
        }
        One(Arc::clone(&self.told)).get(manager, volume)
    }
    fn begin_again(&self) {}
    fn end(&self) {}
}

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn node() -> (Dir, Arc<Node>) {
    let name = format!("sealfs-courier-{:x}", sys::random_u128().unwrap() as u64);
    let path = PathBuf::from("/dev/shm").join(name);
    let runtime = runtime_at(&path);
    let arena = Arena::attach(&runtime).unwrap();
    (Dir(path), Arc::new(Node::new(runtime, arena)))
}

fn courier(manager: ManagerIndex) -> (Dir, Arc<Two>, Arc<Node>, Courier) {
    let (dir, node) = node();
    let clusters = Arc::new(Two::default());
    let of_courier = Arc::clone(&clusters) as Arc<dyn Clusters>;
    let courier = Courier::new(Arc::clone(&node), of_courier, manager);
    (dir, clusters, node, courier)
}

fn close(manager: ManagerIndex, number: u32) -> Errand {
    Errand::Close(Remains {
        locked: None,
        id: SlotId {
            index: number,
            generation: 0,
        },
        manager,
        ino: InodeId(u64::from(number)),
        open: OpenId(1),
    })
}

#[test]
fn a_cluster_that_is_away_gets_few_tries_and_what_failed_stays() {
    let (_dir, clusters, _, mut courier) = courier(AWAY);
    courier.renewed = Some(Instant::now());
    (0..50).for_each(|n| courier.take(close(AWAY, n)));
    courier.work();
    assert_eq!(*clusters.asked.lock().unwrap(), MISSES_MAX);
    assert_eq!(courier.pending.len(), 50, "what failed is tried again");
}

#[test]
fn a_cluster_that_does_not_answer_holds_up_no_other() {
    let (_dir, node) = node();
    let clusters = Arc::new(Two {
        is_slow: true,
        ..Two::default()
    });
    let couriers = Couriers::new(node, Arc::clone(&clusters) as Arc<dyn Clusters>);
    couriers.send(close(AWAY, 1));
    until("it is asked", || *clusters.asked.lock().unwrap() > 0);
    couriers.send(close(HERE, 77));
    until("the other is told", || {
        clusters.told.closed.lock().unwrap().len() == 1
    });
    let before = Instant::now();
    couriers.stop(false, before + Duration::from_millis(100));
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[test]
fn errands_are_given_up_when_a_cluster_stays_away() {
    let (_dir, _, _, mut courier) = courier(AWAY);
    courier.renewed = Some(Instant::now());
    (0..50).for_each(|n| courier.take(close(AWAY, n)));
    for pending in &mut courier.pending {
        pending.since = pending.since.checked_sub(GIVE_UP_AFTER).unwrap();
    }
    courier.work();
    assert!(courier.pending.is_empty());
}

#[test]
fn what_is_closed_while_a_server_is_told_of_it_is_closed_again() {
    let (_dir, clusters, node, mut courier) = courier(HERE);
    let pin = |n| {
        let (ino, open) = (InodeId(n), OpenId(n));
        (HERE, (File { ino, open }, true))
    };
    node.pins.lock().unwrap().extend([pin(1), pin(2)]);
    // Its close has overtaken what the server is told.
    *clusters.told.meanwhile.lock().unwrap() = Some(Box::new(move || {
        node.pins.lock().unwrap().remove(&pin(1));
    }));
    courier.renew_if_due();
    courier.work();
    assert_eq!(clusters.told.known.lock().unwrap().len(), 2);
    assert_eq!(*clusters.told.closed.lock().unwrap(), [pin(1).1.0]);
}

#[test]
fn a_cluster_that_nobody_uses_any_more_is_forgotten_when_it_does_not_answer() {
    let (_dir, _, _, mut courier) = courier(AWAY);
    courier.take(close(AWAY, 1));
    courier.renew_if_due();
    courier.work();
    assert!(!courier.is_forgotten() && courier.pending.len() == 1);
    courier.heard = courier.heard.checked_sub(2 * MISSED_FOR).unwrap();
    assert!(courier.is_forgotten() && courier.pending.is_empty());
}
