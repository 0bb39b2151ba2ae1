//! Byte order as a value: a classic log is written in the order of the machine that made it, and nothing says which.

use byteorder::{BigEndian, ByteOrder, LittleEndian};

/// The byte order of a classic log. It is detected, and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Least significant byte first (x86_64, most of arm).
    Little,
    /// Most significant byte first (s390x, SPARC, older POWER).
    Big,
}

impl Order {
    /// The order of the machine this runs on: what libjlog would use here, and so the order of new classic logs.
    pub fn native() -> Order {
        if cfg!(target_endian = "big") { Order::Big } else { Order::Little }
    }

    /// Both, the one of this machine first.
    pub fn both() -> [Order; 2] {
        match Order::native() {
            Order::Little => [Order::Little, Order::Big],
            Order::Big => [Order::Big, Order::Little],
        }
    }

    /// The number in the first four bytes. There must be four.
    pub(crate) fn u32(self, bytes: &[u8]) -> u32 {
        match self {
            Order::Little => LittleEndian::read_u32(bytes),
            Order::Big => BigEndian::read_u32(bytes),
        }
    }

    /// The number in the first eight bytes. There must be eight.
    pub(crate) fn u64(self, bytes: &[u8]) -> u64 {
        match self {
            Order::Little => LittleEndian::read_u64(bytes),
            Order::Big => BigEndian::read_u64(bytes),
        }
    }

    /// Stores a number into the first four bytes. There must be four.
    pub(crate) fn put_u32(self, bytes: &mut [u8], number: u32) {
        match self {
            Order::Little => LittleEndian::write_u32(bytes, number),
            Order::Big => BigEndian::write_u32(bytes, number),
        }
    }

    /// Stores a number into the first eight bytes. There must be eight.
    pub(crate) fn put_u64(self, bytes: &mut [u8], number: u64) {
        match self {
            Order::Little => LittleEndian::write_u64(bytes, number),
            Order::Big => BigEndian::write_u64(bytes, number),
        }
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Order::Little => "little",
            Order::Big => "big",
        })
    }
}
