//! What all clients were told, object by object, and the judgement.

use std::collections::BTreeMap;

use sealfs_protocol::{Errno, InodeId};
use sealfs_testkit::linear::{self, Object, Told};
use sealfs_testkit::model::{
    Content, ContentAnswer, ContentCall, LockAnswer, LockCall, Locks, NameAnswer, NameCall, Names,
};

use crate::listing::Listing;

/// Of one object, by process.
type History<O> = BTreeMap<u128, Vec<Told<O>>>;

/// When a call began, and when it ended if it did.
pub type Times = (u64, Option<u64>);

pub struct Histories {
    start: Names,
    names: History<Names>,
    contents: BTreeMap<InodeId, History<Content>>,
    records: BTreeMap<InodeId, History<Locks>>,
    flocks: BTreeMap<InodeId, History<Locks>>,
    /// Looks that were part of listings, each as a process of its own.
    looks: u128,
}

/// Above the numbers of clients and of their ends.
const FIRST_LOOK: u128 = 1 << 100;

fn add<O: Object>(
    history: &mut History<O>,
    process: u128,
    call: O::Call,
    (begun, ended): Times,
    answer: Option<O::Answer>,
) {
    let told = Told {
        call,
        begun,
        answer: answer.zip(ended),
    };
    history.entry(process).or_default().push(told);
}

impl Histories {
    pub fn new(start: Names) -> Histories {
        Histories {
            start,
            names: BTreeMap::new(),
            contents: BTreeMap::new(),
            records: BTreeMap::new(),
            flocks: BTreeMap::new(),
            looks: FIRST_LOOK,
        }
    }

    /// A listing of several pages, which come from different moments: each of the names that may be
    /// in the directory was looked at once, and what was met twice was away in between.
    pub fn listing(&mut self, listing: &Listing, names: &[String], times: Times) {
        for (name, _) in &listing.entries {
            assert!(names.contains(name), "{name} was never made");
        }
        for name in names {
            self.looks += 1;
            let place = (listing.dir, name.clone());
            let lookup = NameCall::Lookup(place.clone());
            let met = listing.entries.iter().filter(|(n, _)| n == name);
            let mut last = None;
            for (_, ino) in met {
                if last == Some(*ino) {
                    let differs = NameCall::Differs(place.clone(), *ino);
                    self.name(self.looks, differs, times, Some(NameAnswer::Done));
                }
                last = Some(*ino);
                let found = NameAnswer::Ino(*ino);
                self.name(self.looks, lookup.clone(), times, Some(found));
            }
            if last.is_none() {
                let none = NameAnswer::Errno(Errno::ENOENT);
                self.name(self.looks, lookup, times, Some(none));
            }
        }
    }

    pub fn name(&mut self, who: u128, call: NameCall, times: Times, answer: Option<NameAnswer>) {
        add(&mut self.names, who, call, times, answer);
    }

    pub fn content(
        &mut self,
        ino: InodeId,
        who: u128,
        call: ContentCall,
        times: Times,
        answer: Option<ContentAnswer>,
    ) {
        let answer = match (&call, answer) {
            (ContentCall::Write(..), Some(ContentAnswer::At(_))) => Some(ContentAnswer::Written),
            (_, answer) => answer,
        };
        add(
            self.contents.entry(ino).or_default(),
            who,
            call,
            times,
            answer,
        );
    }

    pub fn record(
        &mut self,
        ino: InodeId,
        who: u128,
        call: LockCall,
        times: Times,
        answer: Option<LockAnswer>,
    ) {
        add(
            self.records.entry(ino).or_default(),
            who,
            call,
            times,
            answer,
        );
    }

    pub fn flock(
        &mut self,
        ino: InodeId,
        who: u128,
        call: LockCall,
        times: Times,
        answer: Option<LockAnswer>,
    ) {
        add(
            self.flocks.entry(ino).or_default(),
            who,
            call,
            times,
            answer,
        );
    }

    pub fn calls(&self) -> usize {
        let names = self.names.values().map(Vec::len);
        let contents = self
            .contents
            .values()
            .flat_map(|h| h.values().map(Vec::len));
        let locks = self.records.values().chain(self.flocks.values());
        let locks = locks.flat_map(|h| h.values().map(Vec::len));
        names.chain(contents).chain(locks).sum()
    }

    /// Panics with the story if some object was not linearizable.
    pub fn judge(&self) {
        judge("names", self.start.clone(), &self.names);
        for (ino, history) in &self.contents {
            judge(&format!("bytes of {ino:?}"), Content::default(), history);
        }
        for (ino, history) in &self.records {
            judge(
                &format!("record locks of {ino:?}"),
                Locks::default(),
                history,
            );
        }
        for (ino, history) in &self.flocks {
            judge(&format!("flock locks of {ino:?}"), Locks::flock(), history);
        }
    }
}

fn judge<O: Object>(what: &str, start: O, history: &History<O>) {
    let processes: Vec<Vec<Told<O>>> = history.values().cloned().collect();
    if let Err(story) = linear::check(start, &processes) {
        panic!("{what}: no order explains what was told\n{story}");
    }
}
