//! Work on the bytes of one file that takes several requests, as a client's library makes them: the
//! attributes first, then a request for each chunk, then the size.

use std::collections::VecDeque;

use sealfs_protocol::attr::{Attr, SetAttr};
use sealfs_protocol::layout::Span;
use sealfs_protocol::message::{Op, OpReply, Refusal, Source};
use sealfs_protocol::{Errno, InodeId, OpenId};
use sealfs_testkit::Outcome;
use sealfs_testkit::client::at;

use crate::change::Change;
use crate::wire::PUNCH_HOLE;

const OPEN: OpenId = OpenId(1);
/// fallocate(2): `FALLOC_FL_ZERO_RANGE`.
const ZERO_RANGE: u32 = 16;
/// `FALLOC_FL_KEEP_SIZE`.
const KEEP_SIZE: u32 = 1;
/// Of what a change is called.
const TEXT_MAX: usize = 60;

/// A request to be made.
pub struct Ask {
    pub op: Op,
    pub payload: Vec<u8>,
    /// If the operation does not say.
    pub partition: Option<sealfs_protocol::PartitionId>,
}

impl Ask {
    pub fn of(op: Op) -> Ask {
        Ask::with(op, Vec::new())
    }

    pub fn with(op: Op, payload: Vec<u8>) -> Ask {
        Ask {
            op,
            payload,
            partition: None,
        }
    }

    pub fn at(partition: sealfs_protocol::PartitionId, op: Op) -> Ask {
        Ask {
            partition: Some(partition),
            ..Ask::of(op)
        }
    }
}

/// Of what a request is the answer.
#[derive(Clone, Copy, Debug)]
enum Role {
    Attributes,
    SourceAttributes,
    /// So many bytes of one chunk, and where they lie in the file.
    Span(usize, u64),
    Whole,
    Size,
    Doubted,
}

pub struct Work {
    ino: InodeId,
    pub change: Change,
    partitions: u16,
    size_before: u64,
    attr: Attr,
    source: Attr,
    role: Role,
    todo: VecDeque<(Role, Ask)>,
    refused: bool,
    /// Bytes that are there, from the beginning of what is written on.
    pub landed: usize,
    pub read: Vec<u8>,
}

/// What comes next.
pub enum Progress {
    Ask(Ask),
    Done,
    /// Not as it must be.
    Wrong(String),
}

impl Work {
    pub fn begin(ino: InodeId, change: Change, partitions: u16) -> (Work, Ask) {
        let work = Work {
            ino,
            change,
            partitions,
            size_before: 0,
            attr: Attr::default(),
            source: Attr::default(),
            role: Role::Attributes,
            todo: VecDeque::new(),
            refused: false,
            landed: 0,
            read: Vec::new(),
        };
        (work, attributes_of(ino))
    }

    /// The size that the file had.
    pub fn size_before(&self) -> u64 {
        self.size_before
    }

    /// Takes an outcome; `limited`: there is a quota.
    pub fn go_on(&mut self, outcome: &Outcome, limited: bool) -> Progress {
        match (self.role, &outcome.reply) {
            (Role::Attributes, OpReply::Attr(attr)) => {
                self.attr = attr.clone();
                self.size_before = attr.size_bytes;
                match self.change.source() {
                    Some(source) => {
                        self.role = Role::SourceAttributes;
                        return Progress::Ask(attributes_of(source));
                    }
                    None => self.plan(),
                }
            }
            (Role::SourceAttributes, OpReply::Attr(attr)) => {
                self.source = attr.clone();
                self.plan();
            }
            (Role::Span(..), OpReply::Written { .. }) if self.refused => {}
            (Role::Span(len, _), OpReply::Written { .. }) => self.landed += len,
            (Role::Span(len, _), OpReply::Read { .. }) => {
                let mut bytes = outcome.payload.clone();
                bytes.resize(len, 0);
                self.read.extend(bytes);
            }
            (Role::Whole, OpReply::Written { offset, .. }) if *offset == self.attr.size_bytes => {
                self.landed = 1;
            }
            (Role::Whole, OpReply::Attr(_)) => self.landed = 1,
            (Role::Size, OpReply::Written { .. }) | (Role::Doubted, OpReply::Done) => {}
            (Role::Size, OpReply::Refused(Refusal::StaleGeneration { attr: Some(attr) })) => {
                // What lay behind the end was cut, and with it what was written.
                self.attr = attr.clone();
                (self.landed, self.refused) = (0, false);
                self.todo.clear();
                self.plan_spans();
            }
            (Role::Span(..), OpReply::Errno(Errno::EDQUOT)) if self.refused => {}
            (Role::Span(..) | Role::Whole, OpReply::Errno(Errno::EDQUOT))
                if limited && self.change.may_be_refused() =>
            {
                // What is there so far counts; what comes behind the end was sent all the same.
                self.refused = true;
                let size = self.attr.size_bytes;
                self.todo
                    .retain(|(role, _)| !matches!(role, Role::Span(_, at) if *at < size));
                if self.start().is_some() {
                    let doubt = Ask::of(Op::Doubt { ino: self.ino });
                    self.todo.push_back((Role::Doubted, doubt));
                }
            }
            (role, other) => {
                let mut what = format!("{:?}", self.change);
                what.truncate(TEXT_MAX);
                return Progress::Wrong(format!("{role:?} of {what}: {other:?}"));
            }
        }
        self.next()
    }

    fn next(&mut self) -> Progress {
        let Some((role, mut ask)) = self.todo.pop_front() else {
            return Progress::Done;
        };
        self.role = role;
        if let (Role::Size, Some(start)) = (role, self.start())
            && let Op::Publish {
                size_at_least_bytes,
                ..
            } = &mut ask.op
            && *size_at_least_bytes > 0
        {
            if self.landed == 0 {
                return self.next();
            }
            *size_at_least_bytes = start + self.landed as u64;
        }
        Progress::Ask(ask)
    }

    /// Where what is written begins.
    fn start(&self) -> Option<u64> {
        match &self.change {
            Change::Write(at, _) | Change::Copy(_, _, at, _) => Some(*at),
            _ => None,
        }
    }

    fn plan(&mut self) {
        let (ino, open) = (self.ino, OPEN);
        let whole = match &self.change {
            Change::Append(bytes) => {
                let len_bytes = bytes.len() as u32;
                let op = Op::Append {
                    ino,
                    len_bytes,
                    open,
                };
                Ask::with(op, bytes.clone())
            }
            Change::Resize(size) => self.resize(*size),
            Change::Punch(offset, len) => self.allocate(PUNCH_HOLE, *offset, *len),
            Change::Zero(offset, len) => self.allocate(ZERO_RANGE, *offset, *len),
            Change::Reserve(offset, len, grows) => {
                let mode = if *grows { 0 } else { KEEP_SIZE };
                self.allocate(mode, *offset, *len)
            }
            Change::Write(..) | Change::Copy(..) | Change::Read(..) => return self.plan_spans(),
        };
        self.todo.push_back((Role::Whole, whole));
    }

    fn resize(&self, size: u64) -> Ask {
        let set = SetAttr {
            size_bytes: Some(size),
            by_handle: true,
            ..SetAttr::default()
        };
        let (at, follow) = (at(self.ino, ""), false);
        Ask::of(Op::SetAttr { at, follow, set })
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Ask {
        Ask::of(Op::Allocate {
            ino: self.ino,
            mode,
            offset,
            len,
            open: OPEN,
        })
    }

    fn plan_spans(&mut self) {
        let spans = self.spans();
        let end = spans
            .last()
            .map_or(0, |(_, at, span)| at + u64::from(span.len_bytes));
        let reads = matches!(self.change, Change::Read(..));
        let beyond = !reads && spans.iter().any(|(.., span)| span.chunk > 0);
        if beyond && !self.attr.wide {
            self.todo.push_back((Role::Size, self.publish(0)));
        }
        let partitions = self.partitions;
        for (done, at, span) in spans {
            let (op, payload) = self.span_op(done, span);
            let partition = self
                .attr
                .layout
                .partition_of(self.ino, span.chunk, partitions);
            let ask = Ask {
                op,
                payload,
                partition: Some(partition),
            };
            self.todo
                .push_back((Role::Span(span.len_bytes as usize, at), ask));
        }
        if beyond && end > self.attr.size_bytes {
            self.todo.push_back((Role::Size, self.publish(end)));
        }
    }

    fn publish(&self, size_at_least_bytes: u64) -> Ask {
        Ask::of(Op::Publish {
            ino: self.ino,
            from_bytes: self.start().unwrap_or(0),
            size_at_least_bytes,
            wide: true,
            generation: self.attr.generation,
            open: OPEN,
        })
    }

    /// Bytes before each span, where it lies in the file, and the span; of a copy each is in one
    /// chunk of either file.
    fn spans(&self) -> Vec<(usize, u64, Span)> {
        let (start, len, source) = match &self.change {
            Change::Write(at, bytes) => (*at, bytes.len() as u64, None),
            Change::Copy(_, from, at, len) => (*at, *len as u64, Some(*from)),
            Change::Read(at, len) => {
                let left = self.attr.size_bytes.saturating_sub(*at);
                (*at, left.min(*len as u64), None)
            }
            _ => return Vec::new(),
        };
        let mut spans = Vec::new();
        let mut done = 0;
        while done < len {
            let mut room = len - done;
            if let Some(from) = source {
                let size = self.source.layout.chunk_size_bytes();
                room = room.min(size - (from + done) % size);
            }
            let at = start + done;
            let Some(span) = self.attr.layout.split(at, room).next() else {
                break;
            };
            spans.push((done as usize, at, span));
            done += u64::from(span.len_bytes);
        }
        spans
    }

    fn span_op(&self, done: usize, span: Span) -> (Op, Vec<u8>) {
        let (ino, open, generation) = (self.ino, OPEN, self.attr.generation);
        let Span {
            chunk,
            offset_bytes,
            len_bytes,
        } = span;
        match &self.change {
            Change::Copy(_, from, ..) => {
                let source = self.source_of(from + done as u64);
                let op = Op::Copy {
                    ino,
                    chunk,
                    offset_bytes,
                    len_bytes,
                    generation,
                    open,
                    source,
                };
                (op, Vec::new())
            }
            Change::Write(_, bytes) => {
                let op = Op::Write {
                    ino,
                    chunk,
                    offset_bytes,
                    len_bytes,
                    generation,
                    open,
                };
                (op, bytes[done..done + len_bytes as usize].to_vec())
            }
            _ => {
                let op = Op::Read {
                    ino,
                    chunk,
                    offset_bytes,
                    len_bytes,
                    atime: true,
                    generation,
                };
                (op, Vec::new())
            }
        }
    }

    fn source_of(&self, offset: u64) -> Source {
        let (ino, layout) = (self.source.ino, self.source.layout);
        let chunk = layout.chunk_of(offset);
        Source {
            ino,
            partition: layout.partition_of(ino, chunk, self.partitions),
            chunk,
            offset_bytes: (offset % layout.chunk_size_bytes()) as u32,
            generation: self.source.generation,
            atime: true,
        }
    }
}

fn attributes_of(ino: InodeId) -> Ask {
    Ask::of(Op::GetAttr {
        at: at(ino, ""),
        follow: false,
    })
}
