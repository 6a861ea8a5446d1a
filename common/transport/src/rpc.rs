//! One question, one answer, over a connection of its own: how everybody talks to the manager.

use crate::error::TransportError;
use crate::link::{Exchange, Link, Tick, exchange_all};
use crate::memory::Hooks;
use crate::url::Url;
use crate::world::World;
use sealfs_protocol::codec;
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::manager::{ManagerReply, ManagerRequest};
use sealfs_protocol::message::FrameError;

/// Sends `body` and returns the answer's body; at most `timeout_ms` for all of it.
pub fn call(
    world: &World,
    hooks: &Hooks,
    url: &Url,
    kind: Kind,
    body: &[u8],
    timeout_ms: u32,
) -> Result<(Kind, Vec<u8>), TransportError> {
    let deadline = world.now().after_ms(timeout_ms);
    let link = Link::connect(world, hooks, url, deadline)?;
    let mut exchange = [Exchange {
        link: &link,
        header: Header {
            deadline_ms: timeout_ms,
            ..Header::new(kind)
        },
        body,
        outgoing: &[],
        incoming: &mut [],
        reply: Vec::new(),
        outcome: None,
    }];
    exchange_all(&mut exchange, deadline, &mut || Tick::Wait);
    let [exchange] = exchange;
    let response = exchange.outcome.unwrap_or(Err(TransportError::Closed))?;
    Ok((response.header.kind, exchange.reply))
}

/// Asks the manager at `url`, in the real world and from a program of our own.
pub fn manager(
    url: &Url,
    request: &ManagerRequest,
    timeout_ms: u32,
) -> Result<ManagerReply, TransportError> {
    ask_manager(&World::Real, &Hooks::default(), url, request, timeout_ms)
}

/// As [`manager`], in any world.
pub fn ask_manager(
    world: &World,
    hooks: &Hooks,
    url: &Url,
    request: &ManagerRequest,
    timeout_ms: u32,
) -> Result<ManagerReply, TransportError> {
    let body = codec::encode(request)
        .map_err(|_| TransportError::Unexpected("a request that cannot be encoded"))?;
    let (kind, answer) = call(world, hooks, url, Kind::ManagerRequest, &body, timeout_ms)?;
    match kind {
        Kind::ManagerReply => codec::decode(&answer)
            .map_err(|_| TransportError::Unexpected("the manager's answer does not parse")),
        Kind::Error => match codec::decode::<FrameError>(&answer) {
            Ok(e) => Err(TransportError::Refusal {
                errno: e.errno,
                text: e.text,
            }),
            Err(_) => Err(TransportError::Unexpected("a refusal that does not parse")),
        },
        _ => Err(TransportError::Unexpected("an answer of another kind")),
    }
}
