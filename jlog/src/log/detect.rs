//! Which format a directory holds: from the metastore where it can be believed, else from the records.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::checked::control::CONTROL;
use super::checked::settings::{FoundSettings, Settings};
use super::names::{Listing, METASTORE, checkpoint_path};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{SegmentId, Timestamp};
use crate::io::{Disk, File, Open};
use crate::order::Order;
use crate::record::Compression;
use crate::record::checked::{Beginning, LogIdentity, SEGMENT_HEADER, SEGMENT_MAGIC, SegmentHeader};
use crate::record::classic::{Codec, DEFAULT_UNIT_LIMIT, META_LEN, Metastore, Safety};
use crate::record::scan::ClassicWalk;
use crate::record::slots::{self, Held};
use crate::record::walk::{Ending, Step};
use crate::segment::{data_path, index_path};

/// The log's format, and what is wrong with its metastore.
#[derive(Debug, Clone)]
pub(crate) struct Detected {
    pub(crate) layout: Layout,
    pub(crate) problem: Option<String>,
}

/// The format, with what the metastore says, or what the rest of the log says it should say.
#[derive(Debug, Clone)]
pub(crate) enum Layout {
    Classic(Metastore),
    Checked(Settings),
}

impl Detected {
    fn classic(meta: Metastore, problem: Option<String>) -> Detected {
        Detected { layout: Layout::Classic(meta), problem }
    }
}

/// As much of a segment as is looked at to tell formats apart.
const SAMPLE: usize = 64 * 1024;
/// A metastore is looked at up to this length.
const MOST_META: usize = 2 * slots::SLOT;

/// Reads the metastore and settles what it leaves open. `order` overrides what is detected.
pub(crate) fn detect(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    listing: &Listing,
    order: Option<Order>,
) -> Result<Detected> {
    let path = dir.join(METASTORE);
    let file = File::open_existing(&**disk, &path, Open::Read)?;
    let mut bytes = vec![0; MOST_META];
    let got = file.as_ref().map_or(Ok(0), |file| file.pread_up_to(&mut bytes, 0))?;
    bytes.truncate(got);

    // A whole metastore with a magic says which format it is, whatever file of another log lies beside it.
    let mut candidates = Metastore::candidates(&bytes);
    let is_classic = matches!(candidates.as_deref(), Ok([meta]) if meta.magic != 0)
        && !slots::could_be(slots::Kind::Metastore, &bytes);
    if !is_classic && let Some(detected) = detect_checked(disk, dir, listing, file.as_ref(), &bytes)? {
        return Ok(detected);
    }
    if file.is_none() {
        let meta = made_up(records_say(disk, dir, listing, order)?, listing, order);
        return Ok(Detected::classic(meta, Some("it is missing".to_owned())));
    }
    if let (Ok(found), Some(order)) = (&mut candidates, order) {
        found.retain(|meta| meta.order == order);
    }
    match candidates.as_deref() {
        Ok([meta]) if meta.magic != 0 => Ok(Detected::classic(*meta, None)),
        Ok(found) => settle(disk, dir, listing, order, found),
        Err(reason) => {
            let mut meta = made_up(records_say(disk, dir, listing, order)?, listing, order);
            salvage(&mut meta, &bytes);
            Ok(Detected::classic(meta, Some(reason.to_string())))
        }
    }
}

/// Whether it is a checksummed log: as its metastore says, or where that is gone, its segments.
fn detect_checked(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    listing: &Listing,
    metastore: Option<&File>,
    bytes: &[u8],
) -> Result<Option<Detected>> {
    if let Some(file) = metastore.filter(|_| slots::could_be(slots::Kind::Metastore, bytes)) {
        match Settings::read(file)? {
            // The log is sound with one slot of two; the inspection says what is wrong with the other.
            FoundSettings::Sound(settings, _) => {
                return Ok(Some(Detected { layout: Layout::Checked(settings), problem: None }));
            }
            FoundSettings::Newer(why) => {
                return Err(Error::new(ErrorKind::Unsupported, "open the log", why).at(file.path()));
            }
            FoundSettings::Lost => {}
        }
    }
    let Some(settings) = segments_say(disk, dir, listing)? else { return Ok(None) };
    let problem = if metastore.is_some() { "none of its slots is sound" } else { "it is missing" };
    Ok(Some(Detected { layout: Layout::Checked(settings), problem: Some(problem.to_owned()) }))
}

/// The settings that most sound headers, of segments and of indexes, point to; or of the control file and checkpoints.
fn segments_say(disk: &Arc<dyn Disk>, dir: &Path, listing: &Listing) -> Result<Option<Settings>> {
    let mut seen: BTreeMap<LogIdentity, (u32, Timestamp)> = BTreeMap::new();
    let mut looked_like = false;
    let segments = listing.segments.iter().map(|id| (data_path(dir, *id), id));
    let indexes = listing.indexes.iter().map(|id| (index_path(dir, *id), id));
    for (path, id) in segments.chain(indexes) {
        let Some(file) = File::open_existing(&**disk, &path, Open::Read)? else { continue };
        let mut bytes = [0; SEGMENT_HEADER];
        let got = file.pread_up_to(&mut bytes, 0)?;
        match SegmentHeader::decode(&bytes[..got]) {
            Beginning::Sound(header) => {
                let (count, created) = seen.entry(header.log).or_insert((0, header.created));
                *count += 1 + u32::from(header.segment == id.0);
                *created = header.created.min(*created);
            }
            Beginning::Newer(why) => {
                return Err(Error::new(ErrorKind::Unsupported, "open the log", why).at(&path));
            }
            Beginning::Damaged => looked_like |= bytes.starts_with(&SEGMENT_MAGIC),
        }
    }
    if let Some((log, (_, created))) = seen.into_iter().max_by_key(|(_, (count, _))| *count) {
        return Ok(Some(Settings { created, ..Settings::new(log) }));
    }
    let small = listing
        .subscribers
        .iter()
        .map(|subscriber| (checkpoint_path(dir, subscriber), slots::Kind::Checkpoint));
    for (path, kind) in small.chain([(dir.join(CONTROL), slots::Kind::Control)]) {
        let Some(file) = File::open_existing(&**disk, &path, Open::Read)? else { continue };
        let mut bytes = [0; 3 * slots::SLOT];
        let got = file.pread_up_to(&mut bytes, 0)?;
        if let Held::Newest(slot, _) =
            slots::decode(kind, path.file_name().map(OsStrExt::as_bytes).unwrap_or_default(), &bytes[..got])
        {
            return Ok(Some(Settings::new(slot.log)));
        }
    }
    Ok(looked_like.then(|| Settings::new(LogIdentity([0; 16]))))
}

/// The layout of one segment file by itself.
pub(crate) fn detect_segment(
    disk: &dyn Disk,
    file: &Path,
    id: SegmentId,
    order: Option<Order>,
) -> Result<Detected> {
    let sample = read_sample(disk, file)?;
    match SegmentHeader::decode(&sample) {
        Beginning::Sound(header) => {
            let settings = Settings { created: header.created, ..Settings::new(header.log) };
            return Ok(Detected { layout: Layout::Checked(settings), problem: None });
        }
        Beginning::Newer(why) => {
            return Err(Error::new(ErrorKind::Unsupported, "read it as a segment", why).at(file));
        }
        Beginning::Damaged => {}
    }
    let Some(codec) = guess(&sample, order) else {
        let what = "it holds no record that can be recognised, in either byte order";
        return Err(Error::new(ErrorKind::NotALog, "read it as a segment", what).at(file));
    };
    let listing = Listing { segments: vec![id], ..Listing::default() };
    Ok(Detected::classic(made_up(Some(codec), &listing, order), None))
}

/// The metastore carries magic 0, which reads alike in both orders (or nothing is left): the records decide.
fn settle(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    listing: &Listing,
    order: Option<Order>,
    found: &[Metastore],
) -> Result<Detected> {
    // What reads without a hole is what the metastore says it is, though a message may hold what looks like other records.
    let first = first_sample(disk, dir, listing)?;
    let mut whole = found.iter().filter(|meta| is_whole(&first, meta.codec()));
    if let (Some(meta), None) = (whole.next(), whole.next()) {
        return Ok(Detected::classic(*meta, None));
    }
    let records = records_say(disk, dir, listing, order)?;
    let agreed = found.iter().find(|meta| records.is_some_and(|codec| codec.order == meta.order));
    // Without records to ask: the one whose active segment is there, or is the first one.
    let likely = |meta: &&Metastore| listing.segments.contains(&meta.active) || meta.active == SegmentId(0);
    let Some(meta) = agreed.or_else(|| found.iter().find(likely)).or(found.first()) else {
        let problem = Some("its fields make no sense in the byte order asked for".to_owned());
        return Ok(Detected::classic(made_up(records, listing, order), problem));
    };
    // A metastore without a magic is right for the logs of libjlog 1.x, whose records have none either.
    match records.map(|codec| codec.magic) {
        None | Some(0) => Ok(Detected::classic(*meta, None)),
        Some(magic) => {
            let problem = Some(format!("it says that records carry the magic 0, but they carry {magic:08x}"));
            Ok(Detected::classic(Metastore { magic, len: META_LEN, ..*meta }, problem))
        }
    }
}

/// Keeps what makes sense of a metastore that as a whole does not.
fn salvage(meta: &mut Metastore, bytes: &[u8]) {
    let word = |at: usize| bytes.get(at..at + 4).map(|word| meta.order.u32(word));
    let (active, limit, safety) = (word(0), word(4), word(8).and_then(Safety::of_number));
    // A number below a segment that is there, or far above all of them, is no help.
    let last = meta.active;
    meta.active = active.map(SegmentId).filter(|id| *id >= last && id.0 - last.0 <= 1).unwrap_or(last);
    meta.unit_limit = limit.filter(|limit| *limit > 0).unwrap_or(DEFAULT_UNIT_LIMIT);
    meta.safety = safety.unwrap_or(Safety::AlmostSafe);
}

/// The metastore that a log without one should have, for all that its other files tell.
fn made_up(records: Option<Codec>, listing: &Listing, order: Option<Order>) -> Metastore {
    let order = order.unwrap_or_else(Order::native);
    let codec = records.unwrap_or(Codec { order, magic: Compression::None.magic() });
    Metastore {
        active: listing.last_segment().unwrap_or_default(),
        unit_limit: DEFAULT_UNIT_LIMIT,
        safety: Safety::AlmostSafe,
        magic: codec.magic,
        order: codec.order,
        len: META_LEN,
    }
}

/// The beginning of the first segment that is not empty.
fn first_sample(disk: &Arc<dyn Disk>, dir: &Path, listing: &Listing) -> Result<Vec<u8>> {
    for id in &listing.segments {
        match read_sample(&**disk, &data_path(dir, *id)) {
            // Pruned since the directory was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(sample) if sample.is_empty() => {}
            outcome => return outcome,
        }
    }
    Ok(Vec::new())
}

/// Whether a sample holds records, and nothing else, under a layout; the last one may be cut off with the sample.
fn is_whole(sample: &[u8], codec: Codec) -> bool {
    let mut walk = ClassicWalk::new(sample, codec, sample.len() as u64, false);
    let mut records = 0;
    loop {
        match walk.step() {
            Ok(Step::Record(_)) => records += 1,
            Ok(Step::End(Ending::Clean)) => return records > 0,
            Ok(Step::End(_)) => return records > 0 && sample.len() == SAMPLE,
            Ok(Step::Hole(_)) | Err(_) => return false,
        }
    }
}

/// The layout of the records, as the first segment that holds any shows it.
fn records_say(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    listing: &Listing,
    order: Option<Order>,
) -> Result<Option<Codec>> {
    for id in &listing.segments {
        let sample = match read_sample(&**disk, &data_path(dir, *id)) {
            // Pruned since the directory was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            outcome => outcome?,
        };
        if let Some(codec) = guess(&sample, order) {
            return Ok(Some(codec));
        }
    }
    Ok(None)
}

fn read_sample(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>> {
    let file = File::open(disk, path, Open::Read)?;
    let mut sample = vec![0; SAMPLE];
    let got = file.pread_up_to(&mut sample, 0)?;
    sample.truncate(got);
    Ok(sample)
}

/// The layout under which a sample holds most records; `None` if it holds none under any.
pub(crate) fn guess(sample: &[u8], order: Option<Order>) -> Option<Codec> {
    let orders = order.map_or_else(|| Order::both().to_vec(), |order| vec![order]);
    let strong = [Compression::None, Compression::Lz4, Compression::Null].map(Compression::magic);
    let count = |magics: &[u32]| {
        let layouts =
            orders.iter().flat_map(|&order| magics.iter().map(move |&magic| Codec { order, magic }));
        layouts
            .map(|codec| (records_in(sample, codec), codec))
            .filter(|(n, _)| *n > 0)
            .max_by_key(|(n, _)| *n)
    };
    count(&strong).or_else(|| count(&[0])).map(|(_, codec)| codec)
}

fn records_in(sample: &[u8], codec: Codec) -> usize {
    let mut walk = ClassicWalk::new(sample, codec, sample.len() as u64, false);
    let mut records = 0;
    // Reading a slice of memory cannot fail.
    while let Ok(step) = walk.step() {
        match step {
            Step::Record(_) => records += 1,
            Step::Hole(_) => {}
            Step::End(_) => break,
        }
    }
    records
}
