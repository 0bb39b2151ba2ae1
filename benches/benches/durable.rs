//! Appending 1 KiB messages, acknowledged after a sync, beside the raw controls. Wall time: it is the wait that counts.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jlog_benches::durable::Way;

const WAYS: &[Way] =
    &[Way::WriteAndSync, Way::GroupOnZeros, Way::GroupGrowing, Way::Checksummed, Way::OneSegment];

fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for senders in [1, 8, 64] {
        let mut group = c.benchmark_group(format!("acknowledged after a sync, {senders} senders"));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(2));
        group.throughput(Throughput::Elements(1));
        let ways = WAYS.iter().filter(|way| senders == 1 || **way != Way::WriteAndSync);
        for way in ways {
            group.bench_function(BenchmarkId::from_parameter(way.name()), |b| {
                b.iter_custom(|records| {
                    // All senders are at work for most of the time, however few records are wanted.
                    let each = records.div_ceil(senders).max(4);
                    let sent =
                        way.run(dir.path(), senders as usize, each, None).expect("the bench's own log");
                    sent.wall.mul_f64(records as f64 / sent.records as f64)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
