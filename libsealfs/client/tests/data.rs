//! Reads, writes, appends and truncations of one file over three simulated shards, with connections
//! that break before and after requests took effect, against a plain byte vector.

#![allow(clippy::unwrap_used, reason = "a test's failure is its message")]

mod sim;

use proptest::prelude::*;
use sealfs_client::{Client, FileRef, IoVec, IoVecMut};
use sealfs_protocol::attr::{Attr, Layout, S_IFREG};
use sealfs_protocol::message::{Entry, Op, OpReply, Refusal, Source};
use sealfs_protocol::{Incarnation, InodeId, OpenId, PartitionId, Sequence, TruncateGeneration};
use sim::{Act, Seen};
use std::collections::HashMap;

const CHUNK: usize = 1 << 12;
const LAYOUT: Layout = Layout {
    chunk_size_log2: 12,
    width: 5,
};
const FILE: FileRef = FileRef {
    ino: InodeId(0x0003_0000_0000_004d),
    open: OpenId(1),
};

/// The generation of the file that an operation's sender knows.
fn generation_of(op: &Op) -> Option<TruncateGeneration> {
    match op {
        Op::Read { generation, .. }
        | Op::Write { generation, .. }
        | Op::Copy { generation, .. }
        | Op::Publish { generation, .. } => Some(*generation),
        _ => None,
    }
}

fn is_growth(op: &Op) -> bool {
    let Op::Publish {
        size_at_least_bytes,
        ..
    } = op
    else {
        return false;
    };
    *size_at_least_bytes > 0
}

/// The file as three shards together hold it, and what request slots did last.
struct Servers {
    chunks: HashMap<u64, Vec<u8>>,
    size: u64,
    wide: bool,
    generation: TruncateGeneration,
    slots: HashMap<(PartitionId, u16), (Sequence, HashMap<usize, OpReply>)>,
    /// Each request takes one: 1 breaks the connection before it, 2 after it took effect; 3 cuts
    /// the file to its present size behind a reader's back, or before a new size is told.
    faults: Vec<u8>,
}

impl Servers {
    fn attr(&self) -> Attr {
        Attr {
            ino: FILE.ino,
            mode: S_IFREG | 0o644,
            layout: LAYOUT,
            size_bytes: self.size,
            wide: self.wide,
            generation: self.generation,
            ..Attr::default()
        }
    }

    fn serve(&mut self, seen: &Seen) -> Act {
        let fault = self.faults.pop().unwrap_or(0);
        if fault == 1 {
            return Act::Hang;
        }
        let op = &seen.request.ops[0].op;
        if fault == 3 && matches!(op, Op::Read { .. } | Op::Append { .. } | Op::GetAttr { .. }) {
            self.truncate(self.size);
        }
        let (mut replies, mut out, mut at) = (Vec::new(), Vec::new(), 0);
        for (index, entry) in seen.request.ops.iter().enumerate() {
            let place = (entry.partition, seen.header.slot);
            let len = match entry.op {
                Op::Write { len_bytes, .. } | Op::Append { len_bytes, .. } => len_bytes as usize,
                _ => 0,
            };
            let data = &seen.payload[at..at + len];
            at += len;
            if matches!(entry.op, Op::Read { .. } | Op::GetAttr { .. }) {
                replies.push(self.execute(entry, data, &mut out));
                continue;
            }
            let slot = self.slots.entry(place).or_default();
            if seen.header.sequence > slot.0 {
                *slot = (seen.header.sequence, HashMap::new());
            }
            assert_eq!(seen.header.sequence, slot.0, "sequences rise");
            let stored = slot.1.get(&index).cloned();
            let failed = replies.iter().any(|r| matches!(r, OpReply::Refused(_)));
            let reply = match stored {
                Some(reply) => reply,
                None if failed && matches!(entry.op, Op::Publish { .. }) => {
                    replies.last().cloned().unwrap()
                }
                None => {
                    if fault == 3 && is_growth(&entry.op) {
                        self.truncate(self.size);
                    }
                    self.execute(entry, data, &mut out)
                }
            };
            if !matches!(reply, OpReply::Refused(_)) {
                let slot = self.slots.entry(place).or_default();
                slot.1.insert(index, reply.clone());
            }
            replies.push(reply);
        }
        if fault == 2 {
            return Act::Hang;
        }
        Act::Reply(replies, out)
    }

    fn execute(&mut self, entry: &Entry, data: &[u8], out: &mut Vec<u8>) -> OpReply {
        let refused = |attr| OpReply::Refused(Refusal::StaleGeneration { attr });
        let attr = self.attr();
        if let Some(generation) = generation_of(&entry.op)
            && generation != self.generation
        {
            let told = matches!(entry.op, Op::Publish { .. } | Op::Write { chunk: 0, .. });
            return refused(told.then_some(attr));
        }
        match entry.op {
            Op::GetAttr { .. } => OpReply::Attr(attr),
            Op::SetAttr { ref set, .. } => {
                self.truncate(set.size_bytes.unwrap());
                OpReply::Attr(self.attr())
            }
            Op::Read {
                chunk,
                offset_bytes,
                len_bytes,
                ..
            } => self.read(chunk, offset_bytes, len_bytes, out),
            Op::Write {
                chunk,
                offset_bytes,
                ..
            } => self.write(chunk, offset_bytes, data),
            Op::Copy { ref source, .. } if source.generation != self.generation => refused(None),
            Op::Copy {
                chunk,
                offset_bytes,
                len_bytes,
                source,
                ..
            } => {
                let bytes = self.stored(&source, len_bytes as usize);
                self.write(chunk, offset_bytes, &bytes)
            }
            Op::Publish {
                size_at_least_bytes,
                wide,
                ..
            } => {
                self.wide |= wide;
                self.size = self.size.max(size_at_least_bytes);
                self.written(0)
            }
            Op::Append { .. } => self.append(data),
            ref other => panic!("{other:?}"),
        }
    }

    fn read(&self, chunk: u64, offset: u32, len: u32, out: &mut Vec<u8>) -> OpReply {
        let mut bytes = self.chunks.get(&chunk).cloned().unwrap_or_default();
        if chunk == 0 {
            bytes.resize(self.size.min(CHUNK as u64) as usize, 0);
        }
        let from = bytes.len().min(offset as usize);
        let to = bytes.len().min((offset + len) as usize);
        out.extend(&bytes[from..to]);
        OpReply::Read {
            len_bytes: (to - from) as u32,
        }
    }

    fn write(&mut self, chunk: u64, offset: u32, data: &[u8]) -> OpReply {
        assert!(
            chunk == 0 || self.wide,
            "data beyond chunk 0 of a narrow file"
        );
        self.put(chunk, offset as usize, data);
        if chunk == 0 {
            self.size = self.size.max(u64::from(offset) + data.len() as u64);
        }
        self.written(0)
    }

    fn append(&mut self, data: &[u8]) -> OpReply {
        let offset = self.size;
        for (i, byte) in data.iter().enumerate() {
            let at = offset as usize + i;
            self.put((at / CHUNK) as u64, at % CHUNK, &[*byte]);
        }
        self.size += data.len() as u64;
        self.wide |= self.size > CHUNK as u64;
        self.written(offset)
    }

    /// What a copy takes: what the chunk does not have is zeros.
    fn stored(&self, source: &Source, len: usize) -> Vec<u8> {
        let bytes = self.chunks.get(&source.chunk).map(Vec::as_slice);
        let from = source.offset_bytes as usize;
        let bytes = bytes.unwrap_or_default().get(from..).unwrap_or_default();
        let mut found = bytes[..bytes.len().min(len)].to_vec();
        found.resize(len, 0);
        found
    }

    fn written(&self, offset: u64) -> OpReply {
        OpReply::Written {
            offset,
            size_bytes: self.size,
            incarnation: Incarnation(1),
        }
    }

    fn put(&mut self, chunk: u64, offset: usize, data: &[u8]) {
        let bytes = self.chunks.entry(chunk).or_default();
        if bytes.len() < offset + data.len() {
            bytes.resize(offset + data.len(), 0);
        }
        bytes[offset..offset + data.len()].copy_from_slice(data);
    }

    fn truncate(&mut self, size: u64) {
        for (chunk, bytes) in &mut self.chunks {
            bytes.truncate(size.saturating_sub(chunk * CHUNK as u64) as usize);
        }
        self.size = size;
        self.generation.0 += 1;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    Append(usize),
    Read(usize, usize),
    Truncate(usize),
    /// From, to, and how much.
    Copy(usize, usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let offset = 0..8 * CHUNK;
    prop_oneof![
        3 => (offset.clone(), 1..3 * CHUNK).prop_map(|(o, l)| Step::Write(o, l)),
        1 => (1..2 * CHUNK).prop_map(Step::Append),
        4 => (offset.clone(), 1..6 * CHUNK).prop_map(|(o, l)| Step::Read(o, l)),
        1 => offset.clone().prop_map(Step::Truncate),
        2 => (offset.clone(), offset, 1..3 * CHUNK).prop_map(|(f, t, l)| Step::Copy(f, t, l)),
    ]
}

fn check(client: &Client, steps: &[Step]) {
    let mut model: Vec<u8> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let fill = i as u8 + 1;
        match *step {
            Step::Write(offset, len) => {
                let data = vec![fill; len];
                let (a, b) = data.split_at(len / 3);
                let sources = [IoVec::new(a), IoVec::new(b)];
                assert_eq!(client.write(FILE, offset as u64, &sources), Ok(len));
                model.resize(model.len().max(offset + len), 0);
                model[offset..offset + len].fill(fill);
            }
            Step::Append(len) => {
                let data = vec![fill; len];
                let appended = client.append(FILE, &[IoVec::new(&data)]);
                model.resize(model.len() + len, fill);
                assert_eq!(appended, Ok((len, model.len() as u64)));
            }
            Step::Read(offset, len) => {
                let mut data = vec![0xEE; len];
                let (a, b) = data.split_at_mut(len / 2);
                let mut targets = [IoVecMut::new(a), IoVecMut::new(b)];
                let n = client.read(FILE, offset as u64, &mut targets).unwrap();
                let end = model.len().min(offset + len);
                let expected = model.get(offset..end).unwrap_or_default();
                assert_eq!(n, expected.len(), "step {i}: {step:?}");
                assert!(data[..n] == *expected, "step {i}: {step:?}");
                assert!(data[n..].iter().all(|b| *b == 0xEE), "step {i}: {step:?}");
            }
            Step::Truncate(size) => {
                client.truncate(FILE, size as u64).unwrap();
                model.resize(size, 0);
            }
            Step::Copy(from, to, len) => {
                let bytes = model.get(from..).unwrap_or_default();
                let bytes = bytes[..bytes.len().min(len)].to_vec();
                if from.abs_diff(to) < bytes.len() {
                    continue;
                }
                let copied = client.copy((FILE, from as u64), (FILE, to as u64), len as u64, true);
                assert_eq!(copied, Ok(bytes.len() as u64), "step {i}: {step:?}");
                if !bytes.is_empty() {
                    model.resize(model.len().max(to + bytes.len()), 0);
                    model[to..to + bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
    }
}

fn run(servers: u32, steps: &[Step], faults: Vec<u8>) {
    let mut state = Servers {
        chunks: HashMap::new(),
        size: 0,
        wide: false,
        generation: TruncateGeneration(0),
        slots: HashMap::new(),
        faults,
    };
    let (client, _) = sim::client(servers, move |seen| state.serve(seen));
    check(&client, steps);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_file_over_three_shards_is_what_was_written(
        steps in prop::collection::vec(step(), 1..25),
        faults in prop::collection::vec(prop_oneof![6 => Just(0u8), 1 => Just(1), 1 => Just(2), 1 => Just(3)], 0..60),
    ) {
        run(3, &steps, faults);
    }

    #[test]
    fn a_file_on_one_shard_is_what_was_written(
        steps in prop::collection::vec(step(), 1..25),
        faults in prop::collection::vec(prop_oneof![6 => Just(0u8), 1 => Just(1), 1 => Just(2), 1 => Just(3)], 0..60),
    ) {
        run(1, &steps, faults);
    }
}

#[test]
fn a_hole_reads_as_zeros_and_the_end_is_short() {
    run(
        3,
        &[
            Step::Write(5 * CHUNK + 100, 50),
            Step::Read(0, 8 * CHUNK),
            Step::Read(3 * CHUNK, CHUNK),
            Step::Read(5 * CHUNK + 149, 10),
            Step::Read(7 * CHUNK, 10),
        ],
        vec![],
    );
}
