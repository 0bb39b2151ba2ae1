//! What a compressed record holds: libjlog's two providers, as one raw block without a frame.

use super::classic::MAGIC_COMPRESSED;

/// The compression of a classic log, chosen when it is made, for all of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Records are stored as they are, with the shorter header.
    None,
    /// libjlog's "null" provider: the longer header, the bytes as they are.
    Null,
    /// One LZ4 block a record.
    Lz4,
}

/// The longest message a record can hold: what LZ4 takes, and below every other limit (2,113,929,216 bytes).
pub const MAX_MESSAGE: usize = 0x7E00_0000;

impl Compression {
    /// The magic of a log with this compression.
    pub(crate) fn magic(self) -> u32 {
        match self {
            Compression::None => super::classic::MAGIC_PLAIN,
            Compression::Null => MAGIC_COMPRESSED,
            Compression::Lz4 => MAGIC_COMPRESSED + 1,
        }
    }

    pub(crate) fn of_magic(magic: u32) -> Compression {
        match magic.wrapping_sub(MAGIC_COMPRESSED) {
            0 => Compression::Null,
            1 => Compression::Lz4,
            _ => Compression::None,
        }
    }

    /// Appends the stored form of a message to `out`.
    pub(crate) fn compress(self, message: &[u8], out: &mut Vec<u8>) {
        match self {
            Compression::None | Compression::Null => out.extend_from_slice(message),
            Compression::Lz4 => {
                let start = out.len();
                out.resize(start + lz4_flex::block::get_maximum_output_size(message.len()), 0);
                let written = lz4_flex::block::compress_into(message, &mut out[start..])
                    .expect("the output has the size that the compressor asked for");
                out.truncate(start + written);
            }
        }
    }

    /// Puts the message of `len` bytes that is stored as `stored` into `out`, or says why there is none.
    ///
    /// Nothing is allocated that the stored bytes could not possibly expand to.
    pub(crate) fn decompress(self, stored: &[u8], len: u32, out: &mut Vec<u8>) -> Result<(), String> {
        out.clear();
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        match self {
            Compression::None | Compression::Null => {
                let message = stored.get(..len).ok_or_else(|| {
                    format!("a message of {len} bytes is said to be stored in {} bytes", stored.len())
                })?;
                out.extend_from_slice(message);
                Ok(())
            }
            Compression::Lz4 => {
                // A block cannot expand more than 255 times.
                if len / 255 > stored.len() {
                    return Err(format!(
                        "{} bytes of LZ4 cannot hold a message of {len} bytes",
                        stored.len()
                    ));
                }
                out.resize(len, 0);
                match lz4_flex::block::decompress_into(stored, out) {
                    Ok(got) if got == len => Ok(()),
                    Ok(got) => Err(format!("the LZ4 block holds {got} bytes, the header says {len}")),
                    Err(error) => Err(format!("the LZ4 block is damaged: {error}")),
                }
            }
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Compression::None => "none",
            Compression::Null => "null",
            Compression::Lz4 => "lz4",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_message_comes_back(message in proptest::collection::vec(any::<u8>(), 0..3000)) {
            for how in [Compression::None, Compression::Null, Compression::Lz4] {
                let mut stored = b"before".to_vec();
                how.compress(&message, &mut stored);
                let mut back = vec![1];
                how.decompress(&stored[6..], message.len() as u32, &mut back).unwrap();
                prop_assert_eq!(&back, &message);
            }
        }

        #[test]
        fn damaged_blocks_are_refused_or_hold_the_promised_length(stored in proptest::collection::vec(any::<u8>(), 0..200), len in 0u32..100_000) {
            let mut out = Vec::new();
            if Compression::Lz4.decompress(&stored, len, &mut out).is_ok() {
                prop_assert_eq!(out.len(), len as usize);
            }
        }
    }

    #[test]
    fn a_short_block_that_promises_gigabytes_allocates_nothing() {
        let mut out = Vec::new();
        assert!(Compression::Lz4.decompress(&[0; 100], u32::MAX, &mut out).is_err());
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn an_empty_message_is_stored_as_libjlog_stores_it() {
        let mut stored = Vec::new();
        Compression::Lz4.compress(b"", &mut stored);
        assert_eq!(stored, [0]);
        assert_eq!(Compression::Lz4.decompress(&stored, 0, &mut Vec::new()), Ok(()));
    }
}
