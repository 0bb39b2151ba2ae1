//! Appends and reads as futures: no runtime, dropped at any time.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use jlog::{Log, RecordId, Start, Subscriber, Timestamp};

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn log() -> (tempfile::TempDir, Log) {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::create(dir.path().join("log")).unwrap();
    log.add_subscriber(&Subscriber::new("s").unwrap(), Start::Begin).unwrap();
    (dir, log)
}

#[test]
fn an_append_is_ready_once_it_is_durable() {
    let (_dir, log) = log();
    let writer = log.writer().unwrap();
    for n in 1..=20 {
        let id = block_on(writer.append_async(b"x", Timestamp::new(n, 0))).unwrap();
        assert_eq!(id, RecordId::new(0, n));
        assert!(writer.durable_id() >= id);
    }
}

#[test]
fn an_append_dropped_before_it_was_polled_is_not_there_and_one_dropped_later_is() {
    let (_dir, log) = log();
    let writer = log.writer().unwrap();
    drop(writer.append_async(b"never", Timestamp::new(1, 0)));
    {
        let mut polled = pin!(writer.append_async(b"polled", Timestamp::new(2, 0)));
        let mut context = Context::from_waker(Waker::noop());
        let _ = polled.as_mut().poll(&mut context);
    }
    block_on(writer.append_async(b"after", Timestamp::new(3, 0))).unwrap();
    let mut cursor = log.cursor().unwrap();
    assert_eq!(cursor.next_record().unwrap().unwrap().payload, b"polled");
    assert_eq!(cursor.next_record().unwrap().unwrap().payload, b"after");
    assert_eq!(cursor.next_record().unwrap(), None);
}

#[test]
fn a_reader_is_ready_when_somebody_has_appended() {
    let (_dir, log) = log();
    let mut reader = log.reader(&Subscriber::new("s").unwrap()).unwrap();
    let writer = Log::open(log.path()).unwrap().writer().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..100u32 {
                writer.append(&n.to_le_bytes(), Timestamp::new(n, 0)).unwrap();
            }
        });
        for n in 0..100u32 {
            block_on(reader.ready()).unwrap();
            assert_eq!(reader.next_record().unwrap().unwrap().payload, n.to_le_bytes());
        }
    });
}

#[test]
fn a_wait_that_is_dropped_has_read_nothing() {
    let (_dir, log) = log();
    let mut reader = log.reader(&Subscriber::new("s").unwrap()).unwrap();
    {
        let mut waiting = pin!(reader.ready());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    log.writer().unwrap().append(b"x", Timestamp::new(1, 0)).unwrap();
    block_on(reader.ready()).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().payload, b"x");
}
