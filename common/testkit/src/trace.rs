//! Frames in words, for whoever wants to see a run.

use crate::net::Frame;
use sealfs_protocol::codec;
use sealfs_protocol::header::Kind;
use sealfs_protocol::message::{Reply, Request};
use sealfs_protocol::peer::{PeerReply, PeerRequest};

/// Longest text of one frame.
const TEXT_MAX: usize = 700;

pub fn describe(frame: &Frame) -> String {
    let body = &frame.body;
    let words = match frame.header.kind {
        Kind::Request => codec::decode::<Request>(body).map(|r| format!("{:?}", r.ops)),
        Kind::Reply => codec::decode::<Reply>(body).map(|r| format!("{:?}", r.replies)),
        Kind::PeerRequest => codec::decode::<PeerRequest>(body).map(|r| format!("{r:?}")),
        Kind::PeerReply => codec::decode::<PeerReply>(body).map(|r| format!("{r:?}")),
        kind => Ok(format!("{kind:?}")),
    };
    let mut words = words.unwrap_or_else(|_| "a frame that does not parse".to_owned());
    if words.len() > TEXT_MAX {
        let cut = (0..=TEXT_MAX).rev().find(|i| words.is_char_boundary(*i));
        words.truncate(cut.unwrap_or(0));
    }
    let header = &frame.header;
    let (client, sequence, tag) = (header.client, header.sequence, header.tag);
    format!("[client {client} sequence {sequence} tag {tag}] {words}")
}
