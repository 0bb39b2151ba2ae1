//! From an mbox through a spool to a Maildir: `cargo run -p spool --example mailbox`.

use std::path::Path;

use spool::mailbox::Source;
use spool::{ExportOptions, ExportTarget, ImportOptions, Spool, Timestamp};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let (path, maildir) = (dir.path().join("spool"), dir.path().join("maildir"));
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let now = Timestamp::new(u32::try_from(seconds)?, 0);

    let mbox = Source::detect(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/example.mbox"))?;
    let spool = Spool::open(&path)?;
    let report = spool.import_mailbox(&mbox, &ImportOptions::new(), now, &mut |_| {})?;
    println!("{} messages came from the mbox, for {} recipients", report.progress.done, report.accepted);
    for failure in &report.failures {
        println!("  not the one at byte {}: {}", failure.name, failure.reason);
    }

    for queue in spool.queues()? {
        println!("  {:14} {} messages, {} bytes", queue.key.domain, queue.messages, queue.bytes);
        for listed in spool.list(&queue.key, None, usize::MAX)? {
            // What is on the disk need not stay in memory.
            spool.get(listed.id)?.release_body();
        }
    }
    spool.close()?;

    let spool = Spool::open(&path)?;
    println!("opened again, the spool holds {} messages", spool.len()?);
    let options = ExportOptions::new().remove(true).envelope_headers(true);
    let target = ExportTarget::Maildir(maildir.clone());
    let report = spool.export(&target, |_| true, &options, &mut |_| {})?;
    println!("{} were delivered to the Maildir, the spool holds {}", report.removed, spool.len()?);
    let delivered = std::fs::read_dir(maildir.join("new"))?.count();
    println!("there are {delivered} files in it");
    spool.close()?;
    Ok(())
}
