//! What a volume takes: totals, and changes of them.

use crate::ids::VolumeId;
use rkyv::{Archive, Deserialize, Serialize};

/// Space and inodes in use, counted as du(1) counts them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Totals {
    pub bytes: u64,
    pub inodes: u64,
}

/// What a change adds to a volume's usage, or takes from it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Charge {
    pub volume: VolumeId,
    pub bytes: i64,
    pub inodes: i64,
}

impl Charge {
    pub fn is_nothing(&self) -> bool {
        self.bytes == 0 && self.inodes == 0
    }

    /// From `before` to `self`; a charge of nothing belongs to any volume.
    pub fn since(self, before: Charge) -> Charge {
        let volume = if self.is_nothing() {
            before.volume
        } else {
            self.volume
        };
        Charge {
            volume,
            bytes: self.bytes - before.bytes,
            inodes: self.inodes - before.inodes,
        }
    }
}

impl Totals {
    /// The totals after a change; `None` if it takes more than there is.
    pub fn after(self, charge: Charge) -> Option<Totals> {
        Some(Totals {
            bytes: self.bytes.checked_add_signed(charge.bytes)?,
            inodes: self.inodes.checked_add_signed(charge.inodes)?,
        })
    }

    pub fn plus(self, other: Totals) -> Totals {
        Totals {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }

    /// What is left without `other`; nothing where that is more.
    pub fn minus(self, other: Totals) -> Totals {
        Totals {
            bytes: self.bytes.saturating_sub(other.bytes),
            inodes: self.inodes.saturating_sub(other.inodes),
        }
    }

    /// The lesser number of each.
    pub fn at_most(self, other: Totals) -> Totals {
        Totals {
            bytes: self.bytes.min(other.bytes),
            inodes: self.inodes.min(other.inodes),
        }
    }

    /// The greater number of each.
    pub fn at_least(self, other: Totals) -> Totals {
        Totals {
            bytes: self.bytes.max(other.bytes),
            inodes: self.inodes.max(other.inodes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_since_another_is_their_difference_under_the_volume_that_is_known() {
        let whole = Charge {
            volume: VolumeId(7),
            bytes: 4096,
            inodes: 1,
        };
        assert_eq!(whole.since(Charge::default()), whole);
        let gone = Charge::default().since(whole);
        assert_eq!(
            (gone.volume, gone.bytes, gone.inodes),
            (VolumeId(7), -4096, -1)
        );
        assert_eq!(Totals::default().after(gone), None);
    }
}
