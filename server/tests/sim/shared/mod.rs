//! What a client does where others do the same: names of shared directories, bytes and locks of
//! shared files. Every call and its answer goes into a history, which is judged in the end.

mod choose;

use std::collections::{BTreeMap, VecDeque};

use sealfs_protocol::message::{LockOwner, LockSpace, Op, OpReply, Refusal};
use sealfs_protocol::{Errno, InodeId, OpenId, TruncateGeneration};
use sealfs_testkit::model::{
    ContentCall, LockAnswer, LockCall, NameAnswer, NameCall, Names, Place,
};
use sealfs_testkit::{Client, Outcome, Random};

use crate::chaos::Plan;
use crate::history::{Histories, Times};
use crate::listing::Listing;
use crate::work::Ask;
use crate::{O_RDWR, wire};

/// Directories whose names everybody fights over.
const DIRECTORIES: usize = 5;
/// Files that a client keeps open of those it finds or makes.
const OPEN_MAX: usize = 3;
/// Bytes that are locked.
const LOCK_BYTES: u64 = 6;

/// What all clients know.
pub struct Common {
    pub dirs: Vec<InodeId>,
    /// Two files that stay.
    pub files: Vec<(Place, InodeId)>,
    /// Files made lately.
    recent: VecDeque<InodeId>,
    /// Names in each directory that everybody fights over.
    names: u64,
    /// Directories may be split, so that their parts are seen one after the other.
    splits: bool,
    /// There is a quota, which may refuse whatever grows.
    limited: bool,
    /// What is not synced may be lost, so that even an open file may be gone.
    loses: bool,
}

impl Common {
    pub fn new(dirs: Vec<InodeId>, files: Vec<(Place, InodeId)>, plan: &Plan) -> Common {
        let splits = plan.settings.split_entries.is_some();
        Common {
            names: if splits { 8 } else { 4 },
            splits,
            limited: plan.is_limited(),
            loses: plan.loses(),
            dirs,
            files,
            recent: VecDeque::new(),
        }
    }

    fn dir(&self, random: &mut Random) -> InodeId {
        self.dirs[random.below(self.dirs.len() as u64) as usize]
    }

    fn place(&self, random: &mut Random) -> Place {
        (self.dir(random), format!("s{}", random.below(self.names)))
    }

    /// All names that can be in a directory.
    fn names_in(&self, dir: InodeId) -> Vec<String> {
        let fought = (0..self.names).map(|n| format!("s{n}"));
        let stay = self.files.iter().filter(|((d, _), _)| *d == dir);
        fought
            .chain(stay.map(|((_, name), _)| name.clone()))
            .collect()
    }

    fn made_dir(&mut self, ino: InodeId) {
        if self.dirs.len() >= DIRECTORIES {
            // The first two stay.
            self.dirs.remove(2);
        }
        self.dirs.push(ino);
    }

    fn made_file(&mut self, ino: InodeId) {
        self.recent.push_back(ino);
        if self.recent.len() > 4 {
            self.recent.pop_front();
        }
    }
}

#[derive(Clone, Debug)]
pub enum Asked {
    Name(NameCall),
    List(Listing),
    Open(Place, OpenId),
    Close(InodeId, OpenId),
    Content(InodeId, ContentCall),
    Record(InodeId, LockCall, bool),
    Flock(InodeId, LockCall, bool),
}

#[derive(Default)]
pub struct Shared {
    /// To be done before anything else.
    todo: VecDeque<Asked>,
    open: Vec<(InodeId, OpenId)>,
    /// Inodes on which record locks may be held, and flock locks.
    locked: Vec<InodeId>,
    flocked: Vec<InodeId>,
    /// Truncate generations as far as this client knows.
    generations: BTreeMap<InodeId, TruncateGeneration>,
    doing: Option<(Asked, u64)>,
}

impl Shared {
    /// A client that begins by opening the files that stay.
    pub fn new(common: &Common, client: &mut Client) -> Shared {
        let open = |(place, _): &(Place, InodeId)| Asked::Open(place.clone(), client.fresh_open());
        Shared {
            todo: common.files.iter().map(open).collect(),
            ..Shared::default()
        }
    }

    pub fn waits_for_lock(&self) -> bool {
        let waits =
            |asked: &Asked| matches!(asked, Asked::Record(_, _, true) | Asked::Flock(_, _, true));
        self.doing.as_ref().is_some_and(|(asked, _)| waits(asked))
    }

    /// Sends what was chosen.
    pub fn send(
        &mut self,
        asked: Asked,
        begun: u64,
        client: &mut Client,
        cluster: &mut sealfs_testkit::Cluster,
    ) {
        let mut here = false;
        let (op, payload) = match &asked {
            Asked::Name(call) => {
                here = matches!(call, NameCall::Lookup(_));
                (wire::name_op(call, client), Vec::new())
            }
            Asked::Open(place, open) => (wire::open_op(place, O_RDWR, *open), Vec::new()),
            Asked::Close(ino, open) => {
                client.keep_open_no_more(*ino, *open);
                let (ino, open) = (*ino, *open);
                (Op::Close { ino, open }, Vec::new())
            }
            Asked::List(listing) => (listing.ask().1, Vec::new()),
            Asked::Content(ino, call) => self.content_op(*ino, call),
            Asked::Record(ino, call, wait) => {
                let owner = LockOwner::Process {
                    client: client.id,
                    session: client.session,
                };
                let op = wire::lock_op(*ino, call, *wait, LockSpace::Record, owner);
                (op, Vec::new())
            }
            Asked::Flock(ino, call, wait) => {
                let open = self.open.iter().find(|(i, _)| i == ino);
                let owner = LockOwner::Description {
                    session: client.session,
                    open: open.map_or(OpenId(0), |(_, open)| *open),
                };
                let op = wire::lock_op(*ino, call, *wait, LockSpace::Flock, owner);
                (op, Vec::new())
            }
        };
        self.doing = Some((asked, begun));
        if here {
            client.begin_here(cluster, op);
        } else {
            client.begin(cluster, op, &payload);
        }
    }

    fn content_op(&self, ino: InodeId, call: &ContentCall) -> (Op, Vec<u8>) {
        let known = self.generations.get(&ino).copied();
        wire::content_op(ino, call, known.unwrap_or_default())
    }

    /// Takes an outcome: into the history, and into what this client and all know. What was asked
    /// may take another request.
    pub fn end(
        &mut self,
        outcome: &Outcome,
        ended: u64,
        client: &mut Client,
        common: &mut Common,
        history: &mut Histories,
    ) -> Option<Ask> {
        let (asked, begun) = self.doing.take()?;
        let process = client.id.0;
        let times = (begun, Some(ended));
        assert_ne!(outcome.errno(), Some(Errno::EIO), "{asked:?}");
        let grows = matches!(
            asked,
            Asked::Name(NameCall::Create(_) | NameCall::MakeDir(_)) | Asked::Content(..)
        );
        if common.limited && grows && outcome.errno() == Some(Errno::EDQUOT) {
            return None;
        }
        match asked {
            Asked::Name(call) => {
                self.note_made(&call, outcome, client, common);
                let answer = wire::name_answer(&call, outcome);
                history.name(process, call, times, Some(answer));
            }
            Asked::Open(place, open) => {
                let answer = match &outcome.reply {
                    OpReply::Opened { attr, .. } => {
                        self.open.push((attr.ino, open));
                        client.keep_open(attr.ino, open);
                        NameAnswer::Ino(attr.ino)
                    }
                    OpReply::Errno(Errno::ENOENT) => NameAnswer::Errno(Errno::ENOENT),
                    // A directory; or removed on the way from its name to its inode.
                    OpReply::Errno(Errno::EISDIR | Errno::ESTALE) => return None,
                    other => panic!("open: {other:?}"),
                };
                history.name(process, NameCall::Lookup(place), times, Some(answer));
            }
            Asked::Close(ino, _) => {
                assert_eq!(outcome.reply, OpReply::Done);
                let owner = process as u64;
                let call = LockCall::Release { owner, bytes: 0..1 };
                history.flock(ino, process, call, times, Some(LockAnswer::Done));
            }
            Asked::List(listing) => {
                return self.listed(listing, process, outcome, times, common, history);
            }
            Asked::Content(ino, call) => {
                return self.content_came((ino, call), process, outcome, times, common, history);
            }
            Asked::Record(ino, call, _) => {
                let answer = wire::lock_answer(outcome);
                note_held(&mut self.locked, ino, &call, &answer);
                history.record(ino, process, call, times, Some(answer));
            }
            Asked::Flock(ino, call, _) => {
                let answer = wire::lock_answer(outcome);
                note_held(&mut self.flocked, ino, &call, &answer);
                history.flock(ino, process, call, times, Some(answer));
            }
        }
        None
    }

    /// What a call has made is open, and known to all.
    fn note_made(
        &mut self,
        call: &NameCall,
        outcome: &Outcome,
        client: &mut Client,
        common: &mut Common,
    ) {
        if let (OpReply::Opened { attr, .. }, NameCall::Create(_)) = (&outcome.reply, call) {
            let open = client.last_open();
            self.open.push((attr.ino, open));
            client.keep_open(attr.ino, open);
            common.made_file(attr.ino);
        }
        if let (OpReply::Attr(attr), NameCall::MakeDir(_)) = (&outcome.reply, call) {
            common.made_dir(attr.ino);
        }
    }

    /// What came of a call on the bytes of a file; it is made again if the file was cut meanwhile.
    fn content_came(
        &mut self,
        (ino, call): (InodeId, ContentCall),
        process: u128,
        outcome: &Outcome,
        times: Times,
        common: &Common,
        history: &mut Histories,
    ) -> Option<Ask> {
        if outcome.errno() == Some(Errno::ESTALE) && common.loses {
            return None;
        }
        if let OpReply::Attr(attr) = &outcome.reply {
            self.generations.insert(ino, attr.generation);
        }
        if let OpReply::Refused(Refusal::StaleGeneration { attr }) = &outcome.reply {
            let attr = attr.as_ref().expect("the inode's owner knows");
            self.generations.insert(ino, attr.generation);
            let (op, payload) = self.content_op(ino, &call);
            self.doing = Some((Asked::Content(ino, call), times.0));
            return Some(Ask::with(op, payload));
        }
        let answer = wire::content_answer(outcome);
        history.content(ino, process, call, times, Some(answer));
        None
    }

    /// A page has come: on to the next, or all of it into the history.
    fn listed(
        &mut self,
        mut listing: Listing,
        process: u128,
        outcome: &Outcome,
        times: Times,
        common: &Common,
        history: &mut Histories,
    ) -> Option<Ask> {
        let dir = listing.dir;
        let ended = listing.take(outcome);
        let answer = match (ended, outcome.errno()) {
            (Some(false), _) => {
                let (partition, op) = listing.ask();
                self.doing = Some((Asked::List(listing), times.0));
                return Some(Ask::at(partition, op));
            }
            (Some(true), _) if listing.pages > 1 => {
                history.listing(&listing, &common.names_in(dir), times);
                return None;
            }
            (Some(true), _) => {
                let count = listing.entries.len();
                let entries: BTreeMap<_, _> = listing.entries.into_iter().collect();
                assert_eq!(entries.len(), count, "a name twice in one page");
                NameAnswer::Entries(entries)
            }
            (None, Some(errno)) => NameAnswer::Errno(errno),
            (None, None) => panic!("a listing: {:?}", outcome.reply),
        };
        history.name(process, NameCall::List(dir), times, Some(answer));
        None
    }

    /// The client is gone: nobody knows what became of its last call, and its locks go some time.
    pub fn die(&mut self, client: &Client, now: u64, common: &Common, history: &mut Histories) {
        let process = client.id.0;
        if let Some((asked, begun)) = self.doing.take() {
            let times = (begun, None);
            match asked {
                Asked::Name(call) => history.name(process, call, times, None),
                Asked::Content(ino, call) => history.content(ino, process, call, times, None),
                Asked::Record(ino, call, _) => history.record(ino, process, call, times, None),
                Asked::Flock(ino, call, _) => history.flock(ino, process, call, times, None),
                Asked::Open(..) | Asked::Close(..) | Asked::List(_) => {}
            }
        }
        let owner = process as u64;
        let end = process | 1 << 64;
        for (_, ino) in &common.files {
            let bytes = 0..LOCK_BYTES as u8;
            let call = LockCall::Release { owner, bytes };
            history.record(*ino, end, call.clone(), (now, None), None);
            history.flock(*ino, end, call, (now, None), None);
        }
    }
}

/// Notes where a client may hold locks.
fn note_held(held: &mut Vec<InodeId>, ino: InodeId, call: &LockCall, answer: &LockAnswer) {
    let taken = matches!(call, LockCall::Take { .. }) && *answer == LockAnswer::Done;
    if taken && !held.contains(&ino) {
        held.push(ino);
    }
}

/// The names at the beginning.
pub fn first_names(dirs: &[InodeId], files: &[(Place, InodeId)]) -> Names {
    use sealfs_testkit::linear::Object;
    let mut names = Names::with_directories(dirs);
    for (place, ino) in files {
        let call = NameCall::Create(place.clone());
        names.carry_out(&call, Some(&NameAnswer::Ino(*ino)));
    }
    names
}
