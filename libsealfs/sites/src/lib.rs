//! Finds the `syscall` instructions of libc, ld.so and other objects and builds, per GNU build-id,
//! the *image* that the library maps over their text: a jump before each of them to a stub, where
//! it is decided whether the call is the kernel's.
//!
//! The story: `prepare` (CLI, keeper) → `scan` decodes the object → `window` decides each site →
//! `stub` writes its stub → `image` puts file, stubs and footer together → `cache` keeps it. The
//! library itself only maps what is in the cache (`libsealfs/src/patch/image.rs`) and never links
//! this crate; `format` is shared as source.

mod cache;
mod doctor;
mod elf;
#[allow(dead_code, reason = "the library uses the other half of this file")]
mod format;
mod image;
mod scan;
mod stub;
mod window;

pub use cache::{Prepared, default_cache_dir, prepare};
pub use doctor::{Fact, doctor, system_objects};
pub use format::Footer;
pub use image::{Image, build};
pub use window::Why;

use std::path::PathBuf;

/// Why an image could not be made or used. Each names the thing.
#[derive(Debug, thiserror::Error)]
pub enum SitesError {
    #[error("{path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("not an object to patch: {0}")]
    NotElf(String),
    #[error("system call sites are known for x86-64 only")]
    Machine,
    #[error("the object has no GNU build-id")]
    NoBuildId,
    #[error("{path} does not belong to you or root, or others may write it", path = .0.display())]
    Untrusted(PathBuf),
    #[error("{path} is damaged or of another version", path = .0.display())]
    Damaged(PathBuf),
    #[error("the object is too large: a stub would be out of reach")]
    TooFar,
    #[error("cannot encode a stub: {0}")]
    Encode(String),
    #[error("{object}: {why}", object = object.display())]
    Object {
        object: PathBuf,
        why: Box<SitesError>,
    },
}
