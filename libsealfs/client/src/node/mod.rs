//! What the processes of one user on one node share: runtime directory, arena, keeper protocol.
//!
//! A *node session* is one user on one node. Its open file descriptions live in the **arena**
//! ([`arena`]), shared memory in the **runtime directory** ([`runtime`]); each description is held
//! by real kernel descriptors on a **placeholder** directory ([`placeholder`]), so that the kernel
//! does fork, dup, exec and SCM_RIGHTS for us. Every process registers itself ([`processes`]) and
//! thereby has the **keeper** ([`keeper_link`]) watch it, which gives back what it leaves behind.
//!
//! What must stay true: nothing here calls libc, keeps a descriptor open or holds a global; a
//! process may be killed at any instruction and nothing is lost for good; whatever another process
//! wrote is checked before it is used.

pub mod arena;
mod extending;
pub mod held;
mod histogram;
pub mod keeper_link;
pub mod leaving;
pub mod mapped;
mod memory;
pub mod offset;
pub mod placeholder;
mod proc_stat;
pub mod processes;
pub mod profile;
pub mod reclaim;
pub mod runtime;
pub mod shadow;
mod shadow_files;
pub mod slot;

mod spawn;
pub mod state_file;
pub mod sys;
pub mod watched;
pub mod wire;

#[cfg(test)]
mod tests;

pub use arena::Arena;
pub use offset::OffsetGuard;
pub use processes::{ProcessIndex, Registration};
pub use runtime::{NodeError, Runtime};
pub use slot::{OpenedFile, Slot, SlotId, SlotInit};
pub use watched::Watched;
