//! Appending to and reading from logs of both formats, beside raw controls. CPU time.

use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jlog_benches::{APPENDS, CHECKED_READS, CLASSIC_READS, Shape, log_to_read};

/// As many samples as show whether two ways differ; criterion's default takes ten times as long.
fn small(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>) {
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
}

fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for size in [100, 1024, 16 * 1024] {
        let mut group = c.benchmark_group(format!("append {size} B"));
        small(&mut group);
        group.throughput(Throughput::Bytes(size as u64));
        for (name, durability, way) in APPENDS {
            let id = BenchmarkId::new(*name, format!("acknowledged: {durability}"));
            group.bench_function(id, |b| {
                b.iter_custom(|count| way(dir.path(), count, size).expect("the bench's own log"));
            });
        }
        group.finish();
    }
}

fn read(c: &mut Criterion) {
    let shapes = [("classic", Shape::Classic, CLASSIC_READS), ("checksummed", Shape::Single, CHECKED_READS)];
    for (format, shape, ways) in shapes {
        for size in [100, 1024, 16 * 1024] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let count = ((32 << 20) / size) as u64;
            let log = dir.path().join("log");
            log_to_read(&log, count, size, shape).expect("the bench's own log");

            let mut group = c.benchmark_group(format!("read a {format} log of {count} messages of {size} B"));
            small(&mut group);
            group.throughput(Throughput::Elements(count));
            for (name, way) in ways {
                group.bench_function(*name, |b| b.iter_custom(|times| repeat(&log, count, times, *way)));
            }
            group.finish();
        }
    }
}

fn repeat(log: &Path, count: u64, times: u64, way: jlog_benches::Read) -> Duration {
    (0..times).map(|_| way(log, count).expect("the bench's own log")).sum()
}

criterion_group!(benches, append, read);
criterion_main!(benches);
