//! Ids, names and addresses: what is taken for one is printed as it was read, or reads again as what it is.

use std::path::Path;
use std::sync::Arc;

use jlog::inspect::inspect;
use jlog::io::{File, Open};
use jlog::{Log, RecordId, SegmentId, Subscriber};
use spool::{Address, Context, Envelope, EnvelopeEnd, MessageId, ThreadId, Window};

use super::base::{bases, bytes_of, disk_of, read};
use crate::SIM_LOG;

/// The names of a log: of records, of segments, of subscribers; and a file of any name among its files.
pub fn names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(id) = text.parse::<RecordId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(text.len() <= 17, "{text:?}");
    }
    if let Some(id) = SegmentId::from_file_name(data) {
        assert_eq!(id.to_string().as_bytes(), data);
    }
    let subscriber = Subscriber::existing(data);
    assert_eq!(subscriber.is_ok(), data.len() <= 126);
    assert_eq!(Subscriber::new(data).is_ok(), (1..=126).contains(&data.len()));
    if let Ok(subscriber) = &subscriber {
        assert_eq!(subscriber.as_bytes(), data);
        assert!(!subscriber.to_string().chars().any(char::is_control));
    }

    let base = &bases()[data.len() % bases().len()];
    let disk = disk_of(&base.files);
    let named = text.replace(['/', '\0'], "_");
    let is_new = !base.files.contains_key(&named)
        && !named.is_empty()
        && named.len() < 255
        && named != "."
        && named != "..";
    if is_new {
        File::open(&disk, &Path::new(SIM_LOG).join(&named), Open::Create(0o640))
            .unwrap()
            .pwrite(data, 0)
            .unwrap();
    }
    let log = Log::open_on(Arc::new(disk.clone()), SIM_LOG).unwrap();
    let seen = inspect(&log).unwrap();
    let passed = read(&log, bytes_of(&base.files) + data.len());
    assert_eq!(seen.messages, passed.records.len() as u64);
    let is_ours = SegmentId::from_file_name(named.as_bytes()).is_some();
    if is_new && !is_ours && named != "pre_commit" {
        assert_eq!(passed.records.len(), base.records.len(), "a file {named:?} costs records");
    }
    let known = log.subscribers().unwrap().len();
    assert_eq!(known, 1 + usize::from(is_new && is_subscribers(&named)), "{named:?}");
    if let Ok(subscriber) = subscriber.and(Subscriber::new(data))
        && !log.subscribers().unwrap().contains(&subscriber)
    {
        log.add_subscriber(&subscriber, jlog::Start::Begin).unwrap();
        assert!(log.subscribers().unwrap().contains(&subscriber));
        assert!(log.remove_subscriber(&subscriber).unwrap());
    }
}

/// Whether a file of this name is a subscriber's checkpoint.
fn is_subscribers(name: &str) -> bool {
    let digits = name.strip_prefix("cp.");
    digits.is_some_and(|digits| {
        digits.len() % 2 == 0
            && digits.len() <= 252
            && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// The names of mail: ids of messages, addresses, envelopes, contexts.
pub fn mail(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(id) = text.parse::<MessageId>() {
        assert_eq!(&*id.spool_name(), &*text);
        assert_eq!(MessageId::from_u64(id.to_u64()), id);
    }
    if let Ok(window) = text.parse::<Window>() {
        assert_eq!(window.to_string(), text);
    }
    if let Ok(thread) = text.parse::<ThreadId>() {
        assert_eq!(thread.to_string(), text);
    }
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse(), Ok(address.clone()), "{text:?}");
        assert_eq!(Address::new(address.local(), address.domain()).as_ref(), Ok(&address));
        assert!(address.to_string().len() <= Address::MAX);
    }
    let mut envelope = Envelope::new();
    let _ = envelope.set_mail_from_line(data);
    let _ = envelope.set_rcpt_to_line(data);
    for end in [EnvelopeEnd::Sender, EnvelopeEnd::Recipient] {
        let _ = envelope.complete(end);
    }
    let _ = (envelope.mail_from_line(), envelope.rcpt_to_line());
    assert_reads_again(&envelope);
    if let Ok(envelope) = Envelope::decode(data) {
        assert_reads_again(&envelope);
    }
    if let Ok(context) = Context::unserialize(data) {
        let mut out = Vec::new();
        context.serialize(&mut out);
        assert_eq!(Context::unserialize(&out).as_ref(), Ok(&context));
        assert!(out.len() <= data.len());
    }
}

fn assert_reads_again(envelope: &Envelope) {
    let mut out = Vec::new();
    envelope.encode(&mut out);
    assert_eq!(Envelope::decode(&out).as_ref(), Ok(envelope));
}
