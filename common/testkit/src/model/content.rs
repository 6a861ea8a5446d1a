//! The bytes of one file.

use std::ops::Range;

use crate::linear::Object;

#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Content(pub Vec<u8>);

#[derive(Clone, Debug)]
pub enum ContentCall {
    Append(Vec<u8>),
    /// At an offset.
    Write(usize, Vec<u8>),
    /// To this size, with zeros if it grows.
    Resize(usize),
    /// Bytes become zeros, as far as there are any.
    Punch(Range<usize>),
    Read,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ContentAnswer {
    Written,
    /// Where the bytes of an append went.
    At(usize),
    Bytes(Vec<u8>),
}

impl Object for Content {
    type Call = ContentCall;
    type Answer = ContentAnswer;

    fn carry_out(&mut self, call: &ContentCall, answer: Option<&ContentAnswer>) -> bool {
        let said = match call {
            ContentCall::Append(bytes) => {
                let at = self.0.len();
                self.0.extend(bytes);
                ContentAnswer::At(at)
            }
            ContentCall::Write(at, bytes) => {
                let end = at + bytes.len();
                self.0.resize(self.0.len().max(end), 0);
                self.0[*at..end].copy_from_slice(bytes);
                ContentAnswer::Written
            }
            ContentCall::Resize(size) => {
                self.0.resize(*size, 0);
                ContentAnswer::Written
            }
            ContentCall::Punch(bytes) => {
                let end = bytes.end.min(self.0.len());
                self.0[bytes.start.min(end)..end].fill(0);
                ContentAnswer::Written
            }
            ContentCall::Read => ContentAnswer::Bytes(self.0.clone()),
        };
        answer.is_none_or(|a| *a == said)
    }

    fn only_looks(call: &ContentCall, _answer: &ContentAnswer) -> bool {
        matches!(call, ContentCall::Read)
    }
}
