//! Opening a spool, and making one: what is made last is the file `spool`, which makes the directory one.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jlog::io::{Disk, PathKind, forks};
use jlog::{CreateOptions, Durability, Log, LogIdentity, Marker, RecordId, Writer, WriterOptions};

use crate::books::home;
use crate::error::{Result, SpoolError};
use crate::keep::Keeper;
use crate::load::Finding;
use crate::options::SpoolOptions;
use crate::reclaim::{encode, removal_entry};
use crate::record::{LogNo, Remove};
use crate::settings::Settings;
use crate::spool::Spool;
use crate::store::{Parts, Store};
use crate::summary;

impl Spool {
    pub(crate) fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: SpoolOptions,
        read_only: bool,
    ) -> Result<Spool> {
        let mut settings = Settings::read(&*disk, dir)?;
        // To look at its messages the file `spool` is not needed.
        let unsettled = settings.is_none()
            && read_only
            && LogNo::ALL.iter().all(|log| is_there(&*disk, &dir.join(log.name())));
        if unsettled {
            settings = Some(Settings::default());
        }
        if settings.is_none() {
            require_unmade(&*disk, dir, read_only)?;
            make(&disk, dir, &options)?;
            settings = Settings::read(&*disk, dir)?;
        }
        let Some(mut settings) = settings else {
            return Err(not_a_spool(dir, "its file `spool` cannot be read; `jlog-repair` makes it anew"));
        };
        require_own(&*disk, &dir.join(summary::DIR))?;
        let open = |log: LogNo| Log::open_on(Arc::clone(&disk), dir.join(log.name()));
        let logs = [open(LogNo::Arrivals)?, open(LogNo::Survivors)?];
        let mut writers = None;
        if !read_only {
            writers = Some([own(&logs[0], dir, &options)?, own(&logs[1], dir, &options)?]);
            // Somebody may have opened it, and closed it, before it was ours.
            settings = Settings::read(&*disk, dir)?.unwrap_or(settings).count_open(&*disk, dir)?;
        }
        let mut ends = [None, None];
        for (n, end) in ends.iter_mut().enumerate() {
            *end = match &writers {
                Some(writers) => Some(fresh_end(&*disk, dir, LogNo::ALL[n], &logs[n], &writers[n])?),
                None => last_id(&logs[n])?,
            };
        }
        let random = disk.random().map_err(|error| SpoolError::io("find a seed", dir, error))?;
        let seed = u64::from_le_bytes(random[..8].try_into().expect("eight bytes"));
        let background = options.background && !read_only;
        let parts =
            Parts { disk, dir: dir.to_path_buf(), options, logs, writers, opened: settings.opened, seed };
        let store = Store::new(parts);
        if !read_only {
            // Where there is no room for it now, nothing is accepted before there is.
            let _ = store.reserve.fill(&*store.disk);
        }
        let spool = Spool::start(store, ends, background)?;
        if unsettled {
            let mut loading = spool.store.loading.lock().unwrap_or_else(PoisonError::into_inner);
            loading.report.findings.insert(0, Finding::SettingsLost);
        }
        Ok(spool)
    }

    fn start(store: Arc<Store>, ends: [Option<RecordId>; 2], background: bool) -> Result<Spool> {
        if !background {
            store.load(ends)?;
            return Ok(Spool { keeper: None, loader: None, store, forks: forks() });
        }
        let loading = Arc::clone(&store);
        let loader = std::thread::Builder::new()
            .name("spool-load".to_owned())
            // Whoever waits for it is told how it ended.
            .spawn(move || drop(loading.load(ends)))
            .map_err(|error| SpoolError::io("start the thread that reads the spool in", &store.dir, error))?;
        let keeper = Some(Keeper::start(&store)?);
        Ok(Spool { keeper, loader: Some(loader), store, forks: forks() })
    }
}

fn is_there(disk: &dyn Disk, path: &Path) -> bool {
    disk.info(path, true).is_ok()
}

fn not_a_spool(dir: &Path, why: &str) -> SpoolError {
    SpoolError::NotASpool { path: dir.to_path_buf(), why: why.to_owned() }
}

/// What is here may become a spool: nothing, or what is left of making one.
fn require_unmade(disk: &dyn Disk, dir: &Path, read_only: bool) -> Result<()> {
    let names = match disk.names(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !read_only => return Ok(()),
        Err(error) => return Err(SpoolError::io("look into the spool", dir, error)),
    };
    if read_only {
        return Err(not_a_spool(dir, "it has no file `spool` that can be read"));
    }
    let ours = [LogNo::Arrivals.name(), LogNo::Survivors.name(), summary::DIR, crate::settings::NAME];
    if let Some(other) = names.iter().find(|name| !ours.iter().any(|ours| name.as_os_str() == *ours)) {
        let why = if names.iter().any(|name| name == LogNo::Arrivals.name()) {
            "its file `spool` is missing or damaged; `jlog-repair` makes it anew".to_owned()
        } else {
            format!("there is {other:?} in it, and no file `spool`")
        };
        return Err(not_a_spool(dir, &why));
    }
    for log in LogNo::ALL {
        let path = dir.join(log.name());
        let written = disk.names(&path).is_ok_and(|names| {
            names.iter().any(|name| name.to_str().is_some_and(|name| name.len() == 8 && name != "metastor"))
        });
        if written {
            return Err(not_a_spool(
                dir,
                "its file `spool` is missing or damaged; `jlog-repair` makes it anew",
            ));
        }
    }
    Ok(())
}

/// Makes a directory inside a spool, if it is not there. A link in its place is refused: what is written there, and
/// removed, would be written and removed elsewhere.
pub(crate) fn make_dir(disk: &dyn Disk, path: &Path, mode: u32) -> Result<()> {
    match disk.create_dir(path, mode) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => require_own(disk, path),
        outcome => outcome.map_err(|error| SpoolError::io("make a directory of the spool", path, error)),
    }
}

/// Refuses what lies in a directory's place, if it is none of the spool's own.
pub(crate) fn require_own(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.info(path, false) {
        Ok(info) if info.kind == PathKind::Directory => Ok(()),
        Ok(_) => {
            Err(SpoolError::Invalid(format!("{}: it is no directory, or a link to one", path.display())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(SpoolError::io("look at a directory of the spool", path, error)),
    }
}

/// Makes a spool, or goes on making one. What makes it one, the file `spool`, comes last.
fn make(disk: &Arc<dyn Disk>, dir: &Path, options: &SpoolOptions) -> Result<()> {
    let mode = options.mode | ((options.mode & 0o444) >> 2);
    match disk.create_dir(dir, mode) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(SpoolError::io("make the spool", dir, error));
        }
        _ => {}
    }
    let compression = if options.compress { jlog::Compression::Lz4 } else { jlog::Compression::None };
    let create = CreateOptions::new()
        .segment_size(options.segment_size)
        .mode(options.mode)
        .compression(compression)
        .durability(options.durability.in_log(Duration::ZERO));
    for log in LogNo::ALL {
        let path = dir.join(log.name());
        match Log::create_on(Arc::clone(disk), &path, &create) {
            Err(error) if error.kind() == jlog::ErrorKind::AlreadyExists => remake(disk, &path, &create)?,
            other => drop(other?),
        }
    }
    make_dir(&**disk, &dir.join(summary::DIR), mode)?;
    Settings::create(&**disk, dir, 0, options.mode)?;
    let sync =
        |path: &Path| disk.sync_dir(path).map_err(|error| SpoolError::io("sync the directory", path, error));
    sync(dir)?;
    match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync(Path::new(".")),
        Some(parent) => sync(parent),
        None => Ok(()),
    }
}

/// A log whose making was broken off: it holds nothing.
fn remake(disk: &Arc<dyn Disk>, path: &Path, create: &CreateOptions) -> Result<()> {
    if Log::open_on(Arc::clone(disk), path).is_ok_and(|log| log.metastore_problem().is_none()) {
        return Ok(());
    }
    let names = disk.names(path).map_err(|error| SpoolError::io("look into the log", path, error))?;
    for name in names {
        let path = path.join(name);
        disk.remove(&path).map_err(|error| SpoolError::io("remove what is left of a log", &path, error))?;
    }
    disk.remove_dir(path).map_err(|error| SpoolError::io("remove what is left of a log", path, error))?;
    Log::create_on(Arc::clone(disk), path, create)?;
    Ok(())
}

/// Takes a log for this process.
fn own(log: &Log, dir: &Path, options: &SpoolOptions) -> Result<Writer> {
    let durability = options.durability.in_log(options.commit_delay);
    log.writer_with(&WriterOptions::new().durability(durability).exclusive(true)).map_err(|error| {
        if error.kind() == jlog::ErrorKind::Busy {
            let pid = log.owner().ok().flatten();
            return SpoolError::Locked { path: dir.to_path_buf(), pid };
        }
        error.into()
    })
}

/// Where a log ends, and goes on. What has lost records that a summary knows of goes on in the next segment: what was written
/// in their place would be taken for them.
fn fresh_end(disk: &dyn Disk, dir: &Path, no: LogNo, log: &Log, writer: &Writer) -> Result<RecordId> {
    let end = writer.last_id()?;
    let identity = log.identity().unwrap_or(LogIdentity([0; 16]));
    let known = summary::read(disk, dir, identity, home(no, end.segment))?;
    if known.is_none_or(|known| known.marker <= end.marker) {
        return Ok(end);
    }
    if end.marker == Marker(0) {
        // An empty segment is not finished: nothing is removed, and that is written down.
        let nothing = encode(&Remove { change: 0, gone: Vec::new() });
        writer.append_entries(&[removal_entry(&nothing)], Durability::Sync)?;
    }
    writer.rotate()?;
    Ok(writer.last_id()?)
}

/// The last record that whoever looks on can see.
fn last_id(log: &Log) -> Result<Option<RecordId>> {
    if log.segments()?.is_empty() {
        return Ok(None);
    }
    Ok(Some(log.last_id()?))
}
