//! Requests that may wait for servers: each in a thread of its own, a bounded number at a time.

use crate::door::Visitor;
use crate::images::Images;
use crate::mappings::Mappings;
use sealfs_client::node::wire::{KeeperReply, KeeperRequest};
use sealfs_protocol::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests under way; further visitors wait unheard.
const ACTIVE_MAX: usize = 32;

#[derive(Clone)]
pub struct Desk {
    pub mappings: Arc<Mappings>,
    pub images: Arc<Images>,
    active: Arc<AtomicUsize>,
}

impl Desk {
    pub fn new(mappings: Arc<Mappings>, images: Arc<Images>) -> Desk {
        Desk {
            mappings,
            images,
            active: Arc::default(),
        }
    }

    pub fn has_room(&self) -> bool {
        self.active.load(Ordering::Acquire) < ACTIVE_MAX
    }

    /// Requests under way.
    pub fn is_busy(&self) -> bool {
        self.active.load(Ordering::Acquire) > 0
    }

    /// Serves one request in the background and answers its visitor.
    pub fn serve(&self, visitor: Visitor, request: KeeperRequest) {
        let desk = self.clone();
        desk.active.fetch_add(1, Ordering::AcqRel);
        let work = move || {
            desk.answer(&visitor, request);
            desk.active.fetch_sub(1, Ordering::AcqRel);
        };
        if let Err(e) = std::thread::Builder::new()
            .name("request".into())
            .spawn(work)
        {
            log::error!("no thread for a request: {e}");
            self.active.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn answer(&self, visitor: &Visitor, request: KeeperRequest) {
        let done = |result: Result<(), Errno>| {
            let reply = result.map_or_else(KeeperReply::Failed, |()| KeeperReply::Done);
            visitor.answer(&reply, &[]);
        };
        match request {
            KeeperRequest::Map { file, open } => match self.mappings.map(file, open) {
                Ok(granted) => {
                    let reply = KeeperReply::Mapped {
                        index: granted.id.index,
                        generation: granted.id.generation,
                        size_bytes: granted.size_bytes,
                    };
                    visitor.answer(&reply, &[granted.bytes.raw(), granted.pristine.raw()]);
                }
                Err(e) => done(Err(e)),
            },
            KeeperRequest::Image {
                file,
                open,
                version,
                name,
            } => match self.images.get(file, (open, visitor.pid()), version, &name) {
                Ok(fd) => visitor.answer(&KeeperReply::Image, &[fd.raw()]),
                Err(e) => done(Err(e)),
            },
            KeeperRequest::WriteBack { file } => done(self.mappings.write_back(file)),
            KeeperRequest::Resized { file, size_bytes } => {
                done(self.mappings.resize(file, size_bytes));
            }
            KeeperRequest::Ended => {
                self.images.tend();
                done(Ok(()));
            }
            // Asked without waiting for an answer.
            KeeperRequest::Unmapped { .. } => self.mappings.tend(),
            KeeperRequest::Hold { .. }
            | KeeperRequest::Touched { .. }
            | KeeperRequest::Release { .. }
            | KeeperRequest::Registered { .. }
            | KeeperRequest::Leaving { .. }
            | KeeperRequest::Stayed => {}
        }
    }
}
