//! What stands behind the header of a compressed record: any bytes, said to be a message of any length.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use jlog::io::sim::SimDisk;
use jlog::io::{File, Open};
use jlog::{Compression, CreateOptions, Log, OnDamage, Order};

use super::base::disk_of;
use super::seal;
use crate::{SIM_LOG, at, compressed_record, get, in_order};

/// A length (four bytes, least significant first), and a block. It is delivered if it holds exactly so many bytes, and told of as damage if not, by both
/// formats; and the same bytes, as a message, come back from both.
pub fn blocks(data: &[u8]) {
    let Some((len, block)) = data.split_first_chunk() else { return };
    let len = u32::from_le_bytes(*len);
    let holds = decompressed(block, len);
    for order in Order::both() {
        assert_eq!(delivered(&classic(order, len, block)), holds, "classic, {order}");
    }
    assert_eq!(delivered(&checked(len, block)), holds, "checksummed");
    for options in [
        CreateOptions::classic().compression(Compression::Lz4),
        CreateOptions::new().compression(Compression::Lz4),
    ] {
        let disk = SimDisk::new(1);
        disk.keep_trace(false);
        let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options).unwrap();
        log.writer().unwrap().append(data, at(1)).unwrap();
        assert_eq!(delivered(&disk).as_deref(), Some(data));
    }
}

/// The only message of a log; `None` if it is damaged.
fn delivered(disk: &SimDisk) -> Option<Vec<u8>> {
    let log = crate::open_sim(disk);
    let mut cursor = log.cursor().unwrap();
    cursor.see_unsynced(true);
    cursor.on_damage(OnDamage::Skip);
    let message = cursor.next_record().unwrap().map(|record| record.payload.to_vec());
    let gaps = cursor.gaps();
    assert!(message.is_none() || cursor.next_record().unwrap().is_none());
    assert_eq!(gaps, u64::from(message.is_none()), "it is delivered, or told of");
    message
}

/// A classic log with this one record, in a finished segment.
fn classic(order: Order, len: u32, block: &[u8]) -> SimDisk {
    const LZ4: u32 = 0x1510_6a01;
    let record = compressed_record(order, LZ4, at(1), len as usize, block);
    disk_of(
        &[
            ("metastore".to_owned(), in_order(order, &[1, 1000, 1, LZ4])),
            ("00000000".to_owned(), record),
            ("00000001".to_owned(), Vec::new()),
        ]
        .into(),
    )
}

/// A checksummed log with this one record: a log is written with a message as long as the block, and what that is said to be
/// is changed.
fn checked(len: u32, block: &[u8]) -> SimDisk {
    static LOGS: OnceLock<jlog::LogIdentity> = OnceLock::new();
    let disk = SimDisk::new(1);
    disk.keep_trace(false);
    let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::new()).unwrap();
    assert_eq!(Some(*LOGS.get_or_init(|| log.identity().unwrap())), log.identity());
    let stored = [&len.to_le_bytes(), block].concat();
    log.writer().unwrap().append(&stored, at(1)).unwrap();
    drop(log);

    let mut bytes = get(&disk, "00000000").unwrap();
    let (record, header) = (128 + 32, bytes[..128].to_vec());
    let end = record + 24 + stored.len();
    assert_eq!(bytes[record + 24..end], stored);
    bytes[record + 13] = 1;
    seal::records(&mut bytes, &header, record, end);
    let path = Path::new(SIM_LOG).join("00000000");
    File::open(&disk, &path, Open::ReadWrite).unwrap().pwrite(&bytes, 0).unwrap();
    disk
}

/// The message of so many bytes that an LZ4 block holds, if it holds one: as the format's description says, byte by byte.
fn decompressed(block: &[u8], len: u32) -> Option<Vec<u8>> {
    if block.is_empty() {
        return None;
    }
    let len = len as usize;
    let mut out = Vec::new();
    let mut rest = block.iter().copied();
    let length = |nibble: u8, rest: &mut dyn Iterator<Item = u8>| {
        let mut length = usize::from(nibble);
        if nibble == 15 {
            loop {
                let more = rest.next()?;
                length += usize::from(more);
                if more < 255 {
                    break;
                }
            }
        }
        Some(length)
    };
    // A block that ends behind a match ends without literals.
    while let Some(token) = rest.next() {
        let literals = length(token >> 4, &mut rest)?;
        for _ in 0..literals {
            out.push(rest.next()?);
        }
        let Some(low) = rest.next() else { break };
        let distance = usize::from(u16::from_le_bytes([low, rest.next()?]));
        let copied = length(token & 15, &mut rest)? + 4;
        let from = out.len().checked_sub(distance).filter(|_| distance > 0)?;
        if out.len() + copied > len {
            return None;
        }
        (from..from + copied).for_each(|at| out.push(out[at]));
    }
    (out.len() == len).then_some(out)
}
