//! What this process knows of the files that it has open: layout, generation, size, and where each
//! description has written.
//!
//! A known size only grows within one truncate generation; another generation replaces all. What
//! must stay true: an answer that is older than what we know never makes us believe less.

use crate::config::FileRef;
use crate::hash::FixedState;
use sealfs_protocol::attr::{Attr, Layout};
use sealfs_protocol::message::LockMark;
use sealfs_protocol::{Incarnation, InodeId, OpenId, ShardId, TruncateGeneration};
use std::collections::HashMap;

/// How to reach a file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileInfo {
    pub layout: Layout,
    pub generation: TruncateGeneration,
    pub wide: bool,
    /// Size as last heard: the file is at least this long in this generation.
    pub size_bytes: u64,
}

#[derive(Default)]
pub(crate) struct Files {
    files: HashMap<InodeId, File, FixedState>,
    /// Descriptions that another process may be the one to close.
    left: usize,
}

struct File {
    info: FileInfo,
    /// Nothing that we know of has changed the file since its access time was last moved.
    atime_settled: bool,
    opens: Vec<Open>,
}

struct Open {
    open: OpenId,
    /// Shards written to, and their incarnations then.
    written: Vec<(ShardId, Incarnation)>,
    /// File locks may be held by this description.
    locked: bool,
    /// When they were last changed, as far as this process knows.
    marked: Option<LockMark>,
    /// The server of its file may have lost some of them.
    lost_locks: bool,
    /// This process has closed a descriptor of it, and others have it.
    left: bool,
    /// Another process has opened it, and this one was given a descriptor.
    borrowed: bool,
}

impl From<&Attr> for FileInfo {
    fn from(attr: &Attr) -> FileInfo {
        FileInfo {
            layout: attr.layout,
            generation: attr.generation,
            wide: attr.wide,
            size_bytes: attr.size_bytes,
        }
    }
}

/// relatime: it would not be moved by a read now. (That it is renewed once a day is for the owner to
/// see, at the next read of the first chunk.)
fn is_atime_settled(attr: &Attr) -> bool {
    attr.atime > attr.mtime && attr.atime > attr.ctime
}

impl FileInfo {
    /// Takes over what `newer` adds.
    fn merge(&mut self, newer: FileInfo) {
        if newer.generation > self.generation {
            *self = newer;
        } else if newer.generation == self.generation {
            self.wide |= newer.wide;
            self.size_bytes = self.size_bytes.max(newer.size_bytes);
        }
    }
}

impl Files {
    /// A description of the file with these attributes is open.
    pub fn opened(&mut self, file: FileRef, attr: &Attr) {
        self.add(file, attr, false);
    }

    /// A description that another process has opened is used here.
    pub fn borrowed(&mut self, file: FileRef, attr: &Attr) {
        self.add(file, attr, true);
    }

    fn add(&mut self, file: FileRef, attr: &Attr, borrowed: bool) {
        let info = FileInfo::from(attr);
        let known = self.files.entry(file.ino).or_insert_with(|| File {
            info,
            atime_settled: is_atime_settled(attr),
            opens: Vec::with_capacity(1),
        });
        known.info.merge(info);
        if known.opens.iter().all(|o| o.open != file.open) {
            known.opens.push(Open {
                open: file.open,
                written: Vec::new(),
                locked: false,
                marked: None,
                lost_locks: false,
                left: false,
                borrowed,
            });
        }
    }

    pub fn info(&self, ino: InodeId) -> Option<FileInfo> {
        self.files.get(&ino).map(|f| f.info)
    }

    /// Attributes came along with some reply.
    pub fn refresh(&mut self, attr: &Attr) {
        if let Some(file) = self.files.get_mut(&attr.ino) {
            file.info.merge(FileInfo::from(attr));
            file.atime_settled &= is_atime_settled(attr);
        }
    }

    /// The file is about to be read; whether the owner has to be told, if none of it is read there.
    pub fn accessed(&mut self, ino: InodeId) -> bool {
        let file = self.files.get_mut(&ino);
        file.is_some_and(|file| !std::mem::replace(&mut file.atime_settled, true))
    }

    /// A write's reply: the file is at least this long.
    pub fn grown(&mut self, ino: InodeId, generation: TruncateGeneration, size: u64, wide: bool) {
        if let Some(file) = self.files.get_mut(&ino)
            && file.info.generation == generation
        {
            file.info.size_bytes = file.info.size_bytes.max(size);
            file.info.wide |= wide;
            file.atime_settled = false;
        }
    }

    fn open_mut(&mut self, file: FileRef) -> Option<&mut Open> {
        let opens = &mut self.files.get_mut(&file.ino)?.opens;
        opens.iter_mut().find(|o| o.open == file.open)
    }

    pub fn note_written(&mut self, file: FileRef, shard: ShardId, incarnation: Incarnation) {
        let Some(open) = self.open_mut(file) else {
            return;
        };
        // The first one counts: what was written under it may be lost since.
        if open.written.iter().all(|(s, _)| *s != shard) {
            open.written.push((shard, incarnation));
        }
    }

    pub fn written(&self, file: FileRef) -> Vec<(ShardId, Incarnation)> {
        let opens = self.files.get(&file.ino).map(|f| &f.opens);
        let open = opens.and_then(|o| o.iter().find(|o| o.open == file.open));
        open.map(|o| o.written.clone()).unwrap_or_default()
    }

    /// An fsync has told the fate of what was written to `shard`; `incarnation` is its present one,
    /// under which anything written meanwhile lies.
    pub fn settled(&mut self, file: FileRef, shard: ShardId, incarnation: Incarnation) {
        if let Some(open) = self.open_mut(file) {
            for (_, noted) in open.written.iter_mut().filter(|(s, _)| *s == shard) {
                *noted = incarnation;
            }
        }
    }

    pub fn note_locked(&mut self, file: FileRef) {
        if let Some(open) = self.open_mut(file) {
            open.locked = true;
        }
    }

    /// A lock was changed through a description, at the latest then.
    pub fn mark_locked(&mut self, file: FileRef, mark: LockMark) {
        if let Some(open) = self.open_mut(file) {
            open.marked = open.marked.max(Some(mark));
        }
    }

    /// A server says that locks of this description may be gone.
    pub fn lose_locks(&mut self, file: FileRef) {
        if let Some(open) = self.open_mut(file) {
            open.lost_locks = true;
        }
    }

    pub fn has_lost_locks(&self, file: FileRef) -> bool {
        let opens = self.files.get(&file.ino).map(|f| &f.opens);
        opens.is_some_and(|o| o.iter().any(|o| o.open == file.open && o.lost_locks))
    }

    /// Forgets a description; whether it may hold file locks.
    pub fn closed(&mut self, file: FileRef) -> bool {
        let Some(known) = self.files.get_mut(&file.ino) else {
            return false;
        };
        let at = known.opens.iter().position(|o| o.open == file.open);
        let gone = at.map(|at| known.opens.swap_remove(at));
        let locked = gone.as_ref().is_some_and(|o| o.locked);
        if gone.is_some_and(|o| o.left) {
            self.left -= 1;
        }
        if known.opens.is_empty() {
            self.files.remove(&file.ino);
        }
        locked
    }

    /// Another process may be the one to close it; how many there are of these.
    pub fn leave(&mut self, file: FileRef) -> usize {
        if let Some(open) = self.open_mut(file)
            && !std::mem::replace(&mut open.left, true)
        {
            self.left += 1;
        }
        self.left
    }

    pub fn has_left(&self) -> bool {
        self.left > 0
    }

    /// Forgets those of them that are closed.
    pub fn keep_left(&mut self, is_open: impl Fn(OpenId) -> bool) {
        self.left = 0;
        self.files.retain(|_, file| {
            file.opens.retain(|o| !o.left || is_open(o.open));
            self.left += file.opens.iter().filter(|o| o.left).count();
            !file.opens.is_empty()
        });
    }

    pub fn is_open(&self, file: FileRef) -> bool {
        let known = self.files.get(&file.ino);
        known.is_some_and(|f| f.opens.iter().any(|o| o.open == file.open))
    }

    /// Every description that was opened here, and when its locks were changed last. Of others this
    /// process does not know whether they are still open; the keeper does.
    pub fn opens(&self) -> impl Iterator<Item = (FileRef, Option<LockMark>)> + '_ {
        self.files.iter().flat_map(|(ino, file)| {
            let own = file.opens.iter().filter(|o| !o.borrowed);
            own.map(|o| {
                let open = o.open;
                (FileRef { ino: *ino, open }, o.marked)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileRef = FileRef {
        ino: InodeId(5),
        open: OpenId(1),
    };

    fn attr(generation: u32, size_bytes: u64) -> Attr {
        Attr {
            ino: FILE.ino,
            generation: TruncateGeneration(generation),
            size_bytes,
            ..Attr::default()
        }
    }

    #[test]
    fn an_older_answer_makes_no_file_shorter() {
        let mut files = Files::default();
        files.opened(FILE, &attr(1, 100));
        files.refresh(&attr(1, 50));
        assert_eq!(files.info(FILE.ino).unwrap().size_bytes, 100);
        files.refresh(&attr(2, 10));
        files.refresh(&attr(1, 70));
        assert_eq!(files.info(FILE.ino).unwrap().size_bytes, 10);
    }

    #[test]
    fn the_incarnation_of_the_first_write_is_the_one_that_counts() {
        let mut files = Files::default();
        files.opened(FILE, &attr(1, 0));
        files.note_written(FILE, ShardId(3), Incarnation(1));
        files.note_written(FILE, ShardId(3), Incarnation(2));
        assert_eq!(files.written(FILE), [(ShardId(3), Incarnation(1))]);
        files.settled(FILE, ShardId(3), Incarnation(4));
        assert_eq!(files.written(FILE), [(ShardId(3), Incarnation(4))]);
    }

    #[test]
    fn the_last_close_forgets_the_file() {
        let mut files = Files::default();
        let second = FileRef {
            open: OpenId(2),
            ..FILE
        };
        files.opened(FILE, &attr(1, 0));
        files.opened(second, &attr(1, 0));
        files.note_locked(second);
        assert!(!files.closed(FILE));
        assert!(files.closed(second));
        assert_eq!(files.info(FILE.ino), None);
    }

    #[test]
    fn what_was_left_to_others_is_forgotten_when_it_is_closed() {
        let mut files = Files::default();
        let (kept, closed) = (OpenId(2), OpenId(3));
        let of = |open| FileRef { open, ..FILE };
        for open in [FILE.open, kept, closed] {
            files.opened(of(open), &attr(1, 0));
        }
        files.leave(of(kept));
        assert_eq!((files.leave(of(closed)), files.leave(of(closed))), (2, 2));
        files.keep_left(|open| open == kept);
        assert!(files.is_open(FILE) && files.is_open(of(kept)) && !files.is_open(of(closed)));
        files.closed(of(kept));
        assert!(!files.has_left());
    }

    #[test]
    fn what_another_process_has_opened_is_known_and_not_told() {
        let mut files = Files::default();
        files.borrowed(FILE, &attr(1, 7));
        assert_eq!(files.info(FILE.ino).unwrap().size_bytes, 7);
        assert_eq!(files.opens().count(), 0);
    }
}
