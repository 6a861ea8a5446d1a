//! Changes over several shards: two-phase commit with presumed abort.
//!
//! The shard that runs an operation coordinates it. It locks and reads keys of other shards there
//! (age decides who waits and who dies), computes every effect itself, has the effects prepared
//! durably, and decides in the same log entry that holds its own effects and the reply. What must
//! stay true: a prepared participant neither decides alone nor forgets; a coordinator without a
//! logged decision has aborted, and one with it repeats it until everybody has it durably.

mod coordinator;
mod gather;
mod participant;
mod recovery;

pub use coordinator::Coordinated;
pub use participant::Participant;
