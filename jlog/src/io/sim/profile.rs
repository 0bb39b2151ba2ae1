//! The kinds of disk: what each may leave of what was not synced.

/// What a power cut may leave of what was not synced, sector by sector, size by size, name by name.
///
/// In all of them a sector that nothing was written to since its sync is as it was, and a sector that was written may
/// be as it was, or as it became after any of the writes. A name operation happened or did not; so did each change of
/// a size. They differ in the rest:
///
/// | profile | a sector may also be | the size may be ahead of the data | names |
/// |---|---|---|---|
/// | `Posix` | zeros where it was written | yes | each on its own |
/// | `Ext4Ordered` | | no | in order; kept by the sync of the file |
/// | `ZeroTail` | | yes | each on its own |
/// | `GarbageTail` | garbage where it was written | yes | each on its own |
/// | `PsowOff` | zeros where it was written; garbage, all of it | yes | each on its own |
/// | `Lying` | zeros where it was written | yes | each on its own |
///
/// What lies between the old end of a file and an offset that was written beyond it is zeros, in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// All that POSIX allows a disk whose writes change no byte beside them: everything is independent, and the sync
    /// of a file does not make its name durable.
    #[default]
    Posix,
    /// As ext4 with `data=ordered`: the names change in order, the sync of a file keeps its name and all the name
    /// operations before, and no file is longer than its data.
    Ext4Ordered,
    /// A file may be longer than its data, with zeros for what is missing: XFS, and preallocated files. After a sync
    /// that failed the size stays what it was, and the next sync makes it durable.
    ZeroTail,
    /// What was being written may be garbage: random bytes, or what another file has or had (recycled blocks). Sizes
    /// as with [`Profile::ZeroTail`].
    GarbageTail,
    /// A sector that was being written may become garbage as a whole, synced bytes beside the write included: a disk
    /// without powersafe overwrite.
    PsowOff,
    /// Every sync succeeds, and nothing becomes durable.
    Lying,
}

/// The bytes that may be garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Garbage {
    None,
    /// Those that were written.
    Written,
    /// The whole sector.
    Sector,
}

impl Profile {
    /// Whether the written part of a sector may be zeros, although it held something before.
    pub(super) fn zeroes_overwrites(self) -> bool {
        matches!(self, Profile::Posix | Profile::PsowOff | Profile::Lying)
    }

    pub(super) fn garbage(self) -> Garbage {
        match self {
            Profile::GarbageTail => Garbage::Written,
            Profile::PsowOff => Garbage::Sector,
            _ => Garbage::None,
        }
    }

    /// Whether a file is never longer than its data.
    pub(super) fn size_waits_for_data(self) -> bool {
        self == Profile::Ext4Ordered
    }

    /// Whether a sync that failed leaves the size in memory, to be written with the next one.
    pub(super) fn size_survives_a_failed_sync(self) -> bool {
        matches!(self, Profile::ZeroTail | Profile::GarbageTail)
    }

    /// Whether name operations become durable in the order in which they were made, as in a journal, and with the sync
    /// of the file they name.
    pub(super) fn journals_names(self) -> bool {
        self == Profile::Ext4Ordered
    }

    pub(super) fn lies(self) -> bool {
        self == Profile::Lying
    }
}
