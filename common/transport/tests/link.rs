//! One connection used by many threads, against a peer on loopback that answers as it likes.

#![allow(
    unsafe_code,
    reason = "hands bad addresses over, as programs may do to read and write"
)]
#![allow(clippy::unwrap_used, reason = "a test's failure is its message")]

use sealfs_protocol::header::{HEADER_BYTES, Header, Kind};
use sealfs_transport::error::TransportError;
use sealfs_transport::link::{Exchange, Link, Response, Tick, exchange_all};
use sealfs_transport::memory::{Hooks, IoVec, IoVecMut};
use sealfs_transport::time::Instant;
use sealfs_transport::world::World;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// Reads one frame; `None` at the end.
fn read_frame(from: &mut TcpStream) -> Option<(Header, Vec<u8>, Vec<u8>)> {
    let mut head = [0u8; HEADER_BYTES];
    from.read_exact(&mut head).ok()?;
    let header = Header::decode(&head).ok()?;
    let mut body = vec![0; header.body_bytes as usize];
    from.read_exact(&mut body).ok()?;
    let mut payload = vec![0; header.payload_bytes as usize];
    from.read_exact(&mut payload).ok()?;
    Some((header, body, payload))
}

fn write_frame(to: &mut TcpStream, tag: u64, body: &[u8], payload: &[u8]) {
    let header = Header {
        tag,
        body_bytes: body.len() as u32,
        payload_bytes: payload.len() as u32,
        ..Header::new(Kind::Reply)
    };
    let frame = [&header.encode()[..], body, payload].concat();
    // The client may have given up.
    let _ = to.write_all(&frame);
}

/// A peer that serves one connection with `serve`, and a link to it.
fn linked(serve: impl FnOnce(TcpStream) + Send + 'static) -> (Link, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let peer = std::thread::spawn(move || serve(listener.accept().unwrap().0));
    let link = Link::connect(
        &World::Real,
        &Hooks::default(),
        &url.parse().unwrap(),
        Instant::now().after_ms(5_000),
    )
    .unwrap();
    (link, peer)
}

/// The peer sends the request's body back, and as payload the bytes of the body repeated.
fn echo(mut stream: TcpStream) {
    while let Some((header, body, payload)) = read_frame(&mut stream) {
        let back = if payload.is_empty() {
            let times = u32::from_le_bytes(body[..4].try_into().unwrap()) as usize;
            vec![body[4]; times]
        } else {
            payload
        };
        write_frame(&mut stream, header.tag, &body, &back);
    }
}

fn ask(
    link: &Link,
    body: &[u8],
    outgoing: &[IoVec<'_>],
    incoming: &mut [IoVecMut<'_>],
    timeout_ms: u32,
) -> (Result<Response, TransportError>, Vec<u8>) {
    let mut places: Vec<IoVecMut<'_>> = incoming.iter_mut().map(IoVecMut::reborrow).collect();
    let mut exchange = [Exchange {
        link,
        header: Header::new(Kind::Request),
        body,
        outgoing,
        incoming: &mut places,
        reply: Vec::new(),
        outcome: None,
    }];
    let deadline = Instant::now().after_ms(timeout_ms);
    exchange_all(&mut exchange, deadline, &mut || Tick::Wait);
    let [exchange] = exchange;
    (exchange.outcome.unwrap(), exchange.reply)
}

fn want(times: u32, byte: u8) -> [u8; 5] {
    let t = times.to_le_bytes();
    [t[0], t[1], t[2], t[3], byte]
}

#[test]
fn every_thread_gets_its_own_reply() {
    let (link, peer) = linked(echo);
    std::thread::scope(|s| {
        for thread in 0..8u8 {
            let link = &link;
            s.spawn(move || {
                for round in 0..200u32 {
                    let times = (round * 977) % 50_000;
                    let mut data = vec![0; times as usize];
                    let body = want(times, thread + 1);
                    let mut places = [IoVecMut::new(&mut data)];
                    let (answer, echoed) = ask(link, &body, &[], &mut places, 20_000);
                    assert_eq!(answer.unwrap().payload_bytes, times as usize);
                    assert_eq!(echoed, body);
                    assert!(data.iter().all(|b| *b == thread + 1));
                }
            });
        }
    });
    drop(link);
    peer.join().unwrap();
}

#[test]
fn large_payloads_go_out_of_and_into_scattered_memory() {
    let (link, peer) = linked(echo);
    let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    let outgoing: Vec<IoVec<'_>> = sent.chunks(70_001).map(IoVec::new).collect();
    let mut got = vec![0; sent.len()];
    let mut places: Vec<IoVecMut<'_>> = got.chunks_mut(99_991).map(IoVecMut::new).collect();
    let (answer, _) = ask(&link, b"x", &outgoing, &mut places, 20_000);
    assert_eq!(answer.unwrap().payload_bytes, sent.len());
    assert!(got == sent);
    drop(link);
    peer.join().unwrap();
}

#[test]
fn replies_may_come_in_another_order_than_requests() {
    let (link, peer) = linked(|mut stream| {
        let frames: Vec<_> = (0..5).map(|_| read_frame(&mut stream).unwrap()).collect();
        for (header, body, _) in frames.iter().rev() {
            write_frame(&mut stream, header.tag, body, &[]);
        }
    });
    let bodies: Vec<[u8; 1]> = (0..5u8).map(|i| [i]).collect();
    let mut exchanges: Vec<Exchange<'_, '_>> = bodies
        .iter()
        .map(|body| Exchange {
            link: &link,
            header: Header::new(Kind::Request),
            body,
            outgoing: &[],
            incoming: &mut [],
            reply: Vec::new(),
            outcome: None,
        })
        .collect();
    let deadline = Instant::now().after_ms(20_000);
    exchange_all(&mut exchanges, deadline, &mut || Tick::Wait);
    for (exchange, body) in exchanges.iter().zip(&bodies) {
        assert_eq!(exchange.reply, body);
    }
    drop(exchanges);
    peer.join().unwrap();
    drop(link);
}

#[test]
fn a_bad_address_to_read_into_is_a_fault_and_the_connection_lives() {
    let (link, peer) = linked(echo);
    for times in [10u32, 5_000, 200_000] {
        // SAFETY: an address that is no memory at all.
        let bad = unsafe { IoVecMut::from_raw(8, times as usize) };
        // A plain memcpy would crash here: only what does not fit the receive buffer goes there.
        if times > 100_000 {
            let mut front = vec![0; 70_000];
            let mut places = [IoVecMut::new(&mut front), bad];
            let (answer, _) = ask(&link, &want(times, 1), &[], &mut places, 20_000);
            assert!(answer.unwrap().fault);
        }
        let mut data = vec![0; times as usize];
        let mut places = [IoVecMut::new(&mut data)];
        let (answer, _) = ask(&link, &want(times, 2), &[], &mut places, 20_000);
        assert!(!answer.unwrap().fault);
        assert!(data.iter().all(|b| *b == 2));
    }
    drop(link);
    peer.join().unwrap();
}

#[test]
fn a_bad_address_to_send_from_is_a_fault_and_no_frame_arrives() {
    let (link, peer) = linked(|mut stream| assert!(read_frame(&mut stream).is_none()));
    // SAFETY: an address that is no memory at all.
    let bad = unsafe { IoVec::from_raw(8, 100_000) };
    let (answer, _) = ask(&link, b"x", &[bad], &mut [], 20_000);
    assert_eq!(answer.unwrap_err(), TransportError::Fault);
    assert!(link.is_broken());
    peer.join().unwrap();
}

#[test]
fn a_payload_longer_than_its_place_harms_nobody() {
    let (link, peer) = linked(echo);
    let mut small = [0u8; 10];
    let mut places = [IoVecMut::new(&mut small)];
    let (answer, _) = ask(&link, &want(100_000, 3), &[], &mut places, 20_000);
    let answer = answer.unwrap();
    assert_eq!(
        (answer.payload_bytes, answer.header.payload_bytes),
        (10, 100_000)
    );
    assert_eq!(ask(&link, &want(0, 3), &[], &mut [], 20_000).1, want(0, 3));
    drop(link);
    peer.join().unwrap();
}

#[test]
fn a_peer_that_is_silent_or_gone_ends_every_wait() {
    let (link, peer) = linked(|mut stream| while read_frame(&mut stream).is_some() {});
    let (answer, _) = ask(&link, b"x", &[], &mut [], 50);
    assert_eq!(answer.unwrap_err(), TransportError::Timeout);
    assert!(link.is_broken());
    peer.join().unwrap();

    let (link, peer) = linked(|mut stream| {
        read_frame(&mut stream);
    });
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| assert!(ask(&link, b"x", &[], &mut [], 20_000).0.is_err()));
        }
    });
    peer.join().unwrap();
}

#[test]
fn a_peer_that_reads_only_after_it_was_read_from_does_not_block_us() {
    let (link, peer) = linked(|mut stream| {
        // Fills both directions: answers the first request with more than any socket buffer
        // holds before it reads the second.
        let (first, ..) = read_frame(&mut stream).unwrap();
        let (tag, big) = (first.tag, vec![7u8; 8 << 20]);
        write_frame(&mut stream, tag, &[], &big);
        let (second, ..) = read_frame(&mut stream).unwrap();
        write_frame(&mut stream, second.tag, &[], &[]);
    });
    let (mut data, sent) = (vec![0; 8 << 20], vec![1; 8 << 20]);
    let mut places = [IoVecMut::new(&mut data)];
    let payload = [IoVec::new(&sent)];
    let exchange = |outgoing, incoming| Exchange {
        link: &link,
        header: Header::new(Kind::Request),
        body: b"x",
        outgoing,
        incoming,
        reply: Vec::new(),
        outcome: None,
    };
    let mut both = [exchange(&[], &mut places), exchange(&payload, &mut [])];
    let deadline = Instant::now().after_ms(20_000);
    exchange_all(&mut both, deadline, &mut || Tick::Wait);
    for e in both {
        e.outcome.unwrap().unwrap();
    }
    assert!(data.iter().all(|b| *b == 7));
    peer.join().unwrap();
}

#[test]
fn nobody_listening_is_refused_at_once() {
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let url = format!("tcp://127.0.0.1:{port}").parse().unwrap();
    let deadline = Instant::now().after_ms(5_000);
    let refused = Link::connect(&World::Real, &Hooks::default(), &url, deadline);
    assert_eq!(refused.err(), Some(TransportError::Refused));
}
