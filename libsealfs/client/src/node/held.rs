//! Descriptors of shadows that the keeper holds for open descriptions ([`super::watched`]).
//!
//! What must stay true: each of these comes back only when the kernel has told the watchers.

use super::keeper_link::{call, call_with};
use super::runtime::Runtime;
use super::shadow::Touch;
use super::slot::SlotId;
use super::sys::{Fd, Result};
use super::wire::KeeperRequest;

/// How long a program's call waits for the keeper here, in ms: without it, watchers hear of no close.
const WAIT_MAX_MS: u32 = 1_000;

/// Has the keeper hold descriptors of shadows until the description is closed.
pub fn hold(runtime: &Runtime, id: SlotId, files: &[&Fd]) -> Result<()> {
    let slot = (id.index, id.generation);
    call_with(runtime, &KeeperRequest::Hold { slot }, files, WAIT_MAX_MS).map(drop)
}

/// Something is done to the inode of a description of which the keeper alone holds shadows.
pub fn touched(runtime: &Runtime, id: SlotId, touch: Touch) -> Result<()> {
    let slot = (id.index, id.generation);
    call(
        runtime,
        &KeeperRequest::Touched { slot, touch },
        WAIT_MAX_MS,
    )
    .map(drop)
}

/// The description is closed: what was held for it is, too, when this comes back.
pub fn release(runtime: &Runtime, id: SlotId) -> Result<()> {
    let slot = (id.index, id.generation);
    call(runtime, &KeeperRequest::Release { slot }, WAIT_MAX_MS).map(drop)
}
