//! The world that the client's side runs in: the real one, or a simulated one.
//!
//! Everything that a client learns from outside its own memory comes through here: time, random
//! bits, connections. A simulator puts a [`sim::SimWorld`] in place of the kernel, and then the very
//! code that programs run is driven by its clock, its network and its seed.

use crate::error::TransportError;
use crate::memory::{Hooks, IoVec, IoVecMut};
use crate::tcp::client::{Ready, Socket, Until};
use crate::time::Instant;
use crate::url::{Scheme, Url};
use core::time::Duration;

/// Where time and connections come from.
#[derive(Clone, Default)]
pub enum World {
    #[default]
    Real,
    #[cfg(feature = "sim")]
    Sim(std::sync::Arc<dyn sim::SimWorld>),
}

/// A connected byte stream: one variant per carrier.
pub enum Stream {
    Tcp(Socket),
    #[cfg(feature = "sim")]
    Sim(Box<dyn sim::SimStream>),
}

impl World {
    pub fn now(&self) -> Instant {
        match self {
            World::Real => Instant::now(),
            #[cfg(feature = "sim")]
            World::Sim(world) => world.now(),
        }
    }

    pub fn sleep(&self, d: Duration) {
        match self {
            // Cut short by a signal it is just a shorter pause.
            World::Real => {
                let _ = rustix::thread::nanosleep(&crate::sync::timespec(d));
            }
            #[cfg(feature = "sim")]
            World::Sim(world) => world.sleep(d),
        }
    }

    /// 128 random bits.
    pub fn random(&self) -> u128 {
        match self {
            World::Real => {
                let mut bits = [0u8; 16];
                let flags = rustix::rand::GetRandomFlags::empty();
                while rustix::rand::getrandom(&mut bits[..], flags) != Ok(bits.len()) {}
                u128::from_le_bytes(bits)
            }
            #[cfg(feature = "sim")]
            World::Sim(world) => world.random(),
        }
    }

    pub fn connect(
        &self,
        url: &Url,
        deadline: Instant,
        hooks: &Hooks,
    ) -> Result<Stream, TransportError> {
        match self {
            World::Real => match url.scheme {
                Scheme::Tcp => Socket::connect(url, deadline, hooks.place_fd).map(Stream::Tcp),
            },
            #[cfg(feature = "sim")]
            World::Sim(world) => {
                let Scheme::Tcp = url.scheme;
                world.connect(url).map(Stream::Sim)
            }
        }
    }
}

impl Stream {
    /// As [`Socket::send`].
    pub fn send(&self, from: &[IoVec<'_>]) -> Result<Option<usize>, TransportError> {
        match self {
            Stream::Tcp(socket) => socket.send(from),
            #[cfg(feature = "sim")]
            Stream::Sim(stream) => stream.send(from),
        }
    }

    /// As [`Socket::receive`].
    pub fn receive(&self, into: &mut [IoVecMut<'_>]) -> Result<Option<usize>, TransportError> {
        match self {
            Stream::Tcp(socket) => socket.receive(into),
            #[cfg(feature = "sim")]
            Stream::Sim(stream) => stream.receive(into),
        }
    }

    /// As [`Socket::wait`].
    pub fn wait(&self, until: Until, timeout: Duration) -> Result<Ready, TransportError> {
        match self {
            Stream::Tcp(socket) => socket.wait(until, timeout),
            #[cfg(feature = "sim")]
            Stream::Sim(stream) => stream.wait(until, timeout),
        }
    }

    /// As [`Socket::shutdown`].
    pub fn shutdown(&self) {
        match self {
            Stream::Tcp(socket) => socket.shutdown(),
            #[cfg(feature = "sim")]
            Stream::Sim(stream) => stream.shutdown(),
        }
    }

    /// Whether polling without sleeping can bring anything: a simulated peer runs only in `wait`.
    pub fn is_polled(&self) -> bool {
        match self {
            Stream::Tcp(_) => true,
            #[cfg(feature = "sim")]
            Stream::Sim(_) => false,
        }
    }

    /// As [`Socket::peer_was_on_this_core`].
    pub fn peer_was_on_this_core(&self) -> bool {
        match self {
            Stream::Tcp(socket) => socket.peer_was_on_this_core(),
            #[cfg(feature = "sim")]
            Stream::Sim(_) => false,
        }
    }

    /// The kernel's number of the stream, if it has one.
    pub fn raw_fd(&self) -> Option<i32> {
        match self {
            Stream::Tcp(socket) => Some(socket.raw_fd()),
            #[cfg(feature = "sim")]
            Stream::Sim(_) => None,
        }
    }
}

/// What a simulator provides.
#[cfg(feature = "sim")]
pub mod sim {
    use super::*;

    pub trait SimWorld: Send + Sync {
        fn now(&self) -> Instant;
        /// Lets simulated time pass.
        fn sleep(&self, d: Duration);
        fn random(&self) -> u128;
        fn connect(&self, url: &Url) -> Result<Box<dyn SimStream>, TransportError>;
    }

    /// A byte stream of the simulator; the contract of each method is that of
    /// [`Socket`](crate::tcp::client::Socket)'s.
    pub trait SimStream: Send + Sync {
        fn send(&self, from: &[IoVec<'_>]) -> Result<Option<usize>, TransportError>;
        fn receive(&self, into: &mut [IoVecMut<'_>]) -> Result<Option<usize>, TransportError>;
        /// Runs the world until the stream is ready or `timeout` of its time has passed.
        fn wait(&self, until: Until, timeout: Duration) -> Result<Ready, TransportError>;
        fn shutdown(&self);
    }

    /// Copies the memory that a simulated stream sends into a plain buffer.
    pub fn gather(from: &[IoVec<'_>]) -> Vec<u8> {
        crate::memory::gather(from)
    }

    /// Copies received bytes to where they belong; returns how many fitted.
    pub fn scatter(bytes: &[u8], into: &mut [IoVecMut<'_>]) -> usize {
        let fits = bytes.len().min(crate::memory::total_mut(into));
        let copied = Hooks::default().copy_to(into, 0, &bytes[..fits]);
        debug_assert!(copied.is_ok());
        fits
    }
}
