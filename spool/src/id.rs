//! The names of messages: ids, their 20-character spool names, hourly windows, thread ids, and the generator of ids.
//!
//! The text forms are Momentum's, digit for digit: what its tools and logs print is parsed here, and the other way
//! round. Hex digits stand lowest first in a spool name, so that ids of one second differ in its first characters:
//!
//! ```text
//!   18/00-02937-E2E6FF84     counter 0x0081, process 2937, second 0x48FF6E2E (22 October 2008)
//!   ^^ ^^ ^^^^^ ^^^^^^^^
//!   counter     slot, lowest digit first
//!         process, decimal
//! ```

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// The id of a message: when it was created, by which process (or incarnation of one), and which of that second.
///
/// Ordered by time first: ids of one generator compare as they were handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Seconds since the Unix epoch.
    pub slot: u32,
    /// The process, cut to 16 bits, or what stands for it: see [`IdGenerator::new`].
    pub pid: u16,
    /// Counts the ids of one second.
    pub counter: u16,
}

impl MessageId {
    /// The id as one number that orders as the id does: slot, process, counter from the highest bits down.
    pub fn to_u64(self) -> u64 {
        u64::from(self.slot) << 32 | u64::from(self.pid) << 16 | u64::from(self.counter)
    }

    /// The id that [`to_u64`](Self::to_u64) made this number of. Every number is one.
    pub fn from_u64(number: u64) -> MessageId {
        MessageId { slot: (number >> 32) as u32, pid: (number >> 16) as u16, counter: number as u16 }
    }

    /// When the message was created, in seconds since the Unix epoch.
    pub fn created(self) -> u32 {
        self.slot
    }

    /// The hour the id belongs to.
    pub fn window(self) -> Window {
        Window(self.slot / Window::SECONDS)
    }

    /// The id as Momentum prints it, without an allocation: `18/00-02937-E2E6FF84`.
    pub fn spool_name(self) -> SpoolName {
        let mut name = *b"cc/cc-ppppp-ssssssss";
        let mut counter = [0; 4];
        put_hex(u32::from(self.counter), &mut counter);
        name[0..2].copy_from_slice(&counter[..2]);
        name[3..5].copy_from_slice(&counter[2..]);
        let mut pid = self.pid;
        for digit in name[6..11].iter_mut().rev() {
            *digit = b'0' + (pid % 10) as u8;
            pid /= 10;
        }
        put_hex(self.slot, &mut name[12..]);
        SpoolName(name)
    }

    /// The value of a `Message-ID:` header made of this id: `<CC.CC.PPPPP.SSSSSSSS@host>`.
    pub fn message_id_header(self, host: &str) -> String {
        format!("<{}@{host}>", self.spool_name().replace(['/', '-'], "."))
    }

    /// The id of a thread of work on this message: which node (see [`node_name`]), and what for.
    pub fn thread_id(self, node: &str, suffix: &str) -> ThreadId {
        ThreadId { message: self, node: node.to_owned(), suffix: suffix.to_owned() }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.spool_name())
    }
}

impl FromStr for MessageId {
    type Err = ParseIdError;

    /// Takes exactly what [`spool_name`](MessageId::spool_name) gives: no lower case, no space, no path before it.
    fn from_str(text: &str) -> Result<MessageId, ParseIdError> {
        let refuse = |why| Err(ParseIdError::new(text, why));
        let Ok(name) = <&[u8; 20]>::try_from(text.as_bytes()) else {
            return refuse("a spool name has 20 characters");
        };
        if [name[2], name[5], name[11]] != *b"/--" {
            return refuse("a spool name is CC/CC-PPPPP-SSSSSSSS");
        }
        let counter = [name[0], name[1], name[3], name[4]];
        let (Some(counter), Some(slot)) = (from_hex(&counter), from_hex(&name[12..])) else {
            return refuse("a digit is not upper-case hexadecimal");
        };
        if !name[6..11].iter().all(u8::is_ascii_digit) {
            return refuse("the process is not decimal");
        }
        match text[6..11].parse() {
            Ok(pid) => Ok(MessageId { slot, pid, counter: counter as u16 }),
            Err(_) => refuse("the process is above 65535"),
        }
    }
}

/// Fills `digits` with the hex digits of `number`, lowest first.
fn put_hex(mut number: u32, digits: &mut [u8]) {
    for digit in digits {
        *digit = b"0123456789ABCDEF"[(number & 15) as usize];
        number >>= 4;
    }
}

/// The number whose upper-case hex digits these are, lowest first; at most eight.
fn from_hex(digits: &[u8]) -> Option<u32> {
    digits.iter().rev().try_fold(0, |number, &digit| match digit {
        b'0'..=b'9' => Some(number << 4 | u32::from(digit - b'0')),
        b'A'..=b'F' => Some(number << 4 | u32::from(digit - b'A' + 10)),
        _ => None,
    })
}

/// A spool name: 20 ASCII characters that dereference to `str`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpoolName([u8; 20]);

impl Deref for SpoolName {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only MessageId::spool_name makes one, of ASCII")
    }
}

impl AsRef<str> for SpoolName {
    fn as_ref(&self) -> &str {
        self
    }
}

impl fmt::Display for SpoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for SpoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// An hour of ids, counted from the Unix epoch, by which a spool groups messages: `58A3A`.
///
/// Printed in hex in the natural order of digits, at least five of them; the hours after September 2089 need six.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window(pub u32);

impl Window {
    /// Seconds in a window.
    pub const SECONDS: u32 = 3600;

    /// The last window there are ids of: the slot has 32 bits.
    const LAST: u32 = u32::MAX / Window::SECONDS;

    /// The first second of this window since the Unix epoch; the last second there is for a window past all ids.
    pub fn starts(self) -> u32 {
        self.0.saturating_mul(Window::SECONDS)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:05X}", self.0)
    }
}

impl FromStr for Window {
    type Err = ParseIdError;

    /// Takes exactly what is printed for a window that ids can lie in.
    fn from_str(text: &str) -> Result<Window, ParseIdError> {
        let refuse = |why| Err(ParseIdError::new(text, why));
        let digits = text.as_bytes();
        if !(5..=6).contains(&digits.len()) || !digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
        {
            return refuse("a window is 5 or 6 upper-case hexadecimal digits");
        }
        match u32::from_str_radix(text, 16) {
            Ok(window) if window > Window::LAST => refuse("no id lies in a window above 123456"),
            Ok(_) if digits.len() == 6 && digits[0] == b'0' => {
                refuse("a window of six digits begins with no 0")
            }
            Ok(window) => Ok(Window(window)),
            Err(_) => refuse("a window is 5 or 6 upper-case hexadecimal digits"),
        }
    }
}

/// The name of one thread of work on a message: `00/00-02001-C6DD1CA4::default:log`.
///
/// A node's name holds no colon: the first one after it begins the suffix when the text is parsed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId {
    /// The message.
    pub message: MessageId,
    /// The node it is worked on: see [`node_name`].
    pub node: String,
    /// What the thread is for.
    pub suffix: String,
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}:{}", self.message, self.node, self.suffix)
    }
}

impl FromStr for ThreadId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<ThreadId, ParseIdError> {
        let refuse = || ParseIdError::new(text, "a thread id is <spool name>::<node>:<suffix>");
        let (name, rest) = text.split_once("::").ok_or_else(refuse)?;
        let (node, suffix) = rest.split_once(':').ok_or_else(refuse)?;
        Ok(name.parse::<MessageId>()?.thread_id(node, suffix))
    }
}

/// The name of this node for [`MessageId::thread_id`]: the environment's `EC_NODE_NAME`, or `default` without one.
pub fn node_name() -> String {
    std::env::var("EC_NODE_NAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned())
}

/// A text that is no spool name, window or thread id, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseIdError {
    /// The beginning of the text.
    text: String,
    why: &'static str,
}

impl ParseIdError {
    /// As much of a refused text as an error quotes, in characters.
    const QUOTED: usize = 64;

    fn new(text: &str, why: &'static str) -> ParseIdError {
        ParseIdError { text: text.chars().take(ParseIdError::QUOTED).collect(), why }
    }
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is refused: {}", self.text, self.why)
    }
}

impl std::error::Error for ParseIdError {}

/// Hands out message ids to any number of threads: none twice, none below an earlier one.
///
/// ```
/// # use spool::{IdGenerator, MessageId};
/// let ids = IdGenerator::new(2001);
/// assert_eq!(ids.next(1254219116).to_string(), "00/00-02001-C6DD1CA4");
/// assert_eq!(ids.next(1254219116).to_string(), "10/00-02001-C6DD1CA4");
/// assert_eq!(ids.next(1254219000).slot, 1254219116, "the clock went back; ids do not");
/// ```
#[derive(Debug)]
pub struct IdGenerator {
    incarnation: u16,
    /// The lowest place the next id can have: seconds above the low 16 bits, the counter in them. Only grows.
    next: AtomicU64,
}

impl IdGenerator {
    /// A generator whose ids have `incarnation` where Momentum has its process id.
    ///
    /// Process ids neither fit 16 bits nor differ between containers. So a spool draws another incarnation each
    /// time that it is opened: two generators of one incarnation and one second give the same ids.
    pub fn new(incarnation: u16) -> IdGenerator {
        IdGenerator { incarnation, next: AtomicU64::new(0) }
    }

    /// The incarnation its ids carry.
    pub fn incarnation(&self) -> u16 {
        self.incarnation
    }

    /// An id that was never returned and lies above all that were, or were [observed](Self::observe).
    ///
    /// Its slot is `now_seconds` since the Unix epoch, or the highest one so far if that is later. The 65,537th id of
    /// a second takes the next second. When the last second that there is (February 2106, or a clock that said so)
    /// has no more, its ids go on with the next higher incarnation.
    pub fn next(&self, now_seconds: u32) -> MessageId {
        // Two steps are enough: another thread between them only makes the place higher, and `fetch_add` gives each
        // place to one caller. Nothing else is published by it, so the order of other memory does not matter.
        self.next.fetch_max(u64::from(now_seconds) << 16, Ordering::Relaxed);
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        let second = place >> 16;
        let slot = u32::try_from(second).unwrap_or(u32::MAX);
        let beyond = second - u64::from(slot);
        MessageId { slot, pid: self.incarnation.wrapping_add(beyond as u16), counter: place as u16 }
    }

    /// Takes note of an id that exists, of whatever process: ids are handed out above its slot and counter from now.
    pub fn observe(&self, id: MessageId) {
        let place = u64::from(id.slot) << 16 | u64::from(id.counter);
        self.next.fetch_max(place + 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::sync::Barrier;

    /// Names that Momentum's public documentation prints, with what it prints beside them.
    const PRINTED: [(&str, u32, u16, u16); 14] = [
        ("00/00-02001-C6DD1CA4", 1254219116, 2001, 0),
        ("80/00-02010-982EF5C4", 1281352329, 2010, 8),
        ("B1/00-01974-EBDC39A4", 1251200446, 1974, 0x1B),
        ("42/00-02001-76AD79A4", 1251465831, 2001, 0x24),
        ("C0/00-02000-BE2CB9A4", 1251721963, 2000, 0x0C),
        ("18/00-07149-D7E16B94", 1236672125, 7149, 0x81),
        ("18/00-02937-E2E6FF84", 1224699438, 2937, 0x81),
        ("B3/1D-18426-471AACF3", 1070244212, 18426, 0xD13B),
        ("00/00-21047-B5581944", 1150387547, 21047, 0),
        ("10/00-21047-B5581944", 1150387547, 21047, 1),
        // 2003-12-01 02:15:45 in New York.
        ("53/6B-18426-1AAEACF3", 1070262945, 18426, 0xB635),
        // 2011-03-17 16:52:52 UTC.
        ("B0/00-11719-46C328D4", 1300380772, 11719, 11),
        ("20/00-29263-36AD7ED4", 1307040355, 29263, 2),
        ("30/00-29263-36AD7ED4", 1307040355, 29263, 3),
    ];

    #[test]
    fn names_that_momentum_prints_are_read_and_printed() {
        for (name, slot, pid, counter) in PRINTED {
            let id = MessageId { slot, pid, counter };
            assert_eq!(name.parse(), Ok(id));
            assert_eq!(id.to_string(), name);
            assert_eq!(&*id.spool_name(), name);
            assert_eq!(id.created(), slot);
        }
    }

    #[test]
    fn slots_in_log_lines_of_an_evening_in_2003_are_of_that_evening() {
        let slots =
            ["31B987F3", "CBD987F3", "393A87F3", "945A87F3"].map(|digits| from_hex(digits.as_bytes()));
        assert_eq!(slots, [1064868627, 1064869308, 1064870803, 1064871241].map(Some));
    }

    #[test]
    fn a_neighbour_of_a_spool_name_is_refused() {
        for text in [
            "",
            "00/00-02001-C6DD1CA",
            "00/00-02001-C6DD1CA40",
            "00/00-02001-c6DD1CA4",
            "0g/00-02001-C6DD1CA4",
            "00-00-02001-C6DD1CA4",
            "00/00/02001-C6DD1CA4",
            "00/00-02001_C6DD1CA4",
            "00/00-+2001-C6DD1CA4",
            "00/00- 2001-C6DD1CA4",
            "00/00-65536-C6DD1CA4",
            "00/00-99999-C6DD1CA4",
            " 0/00-02001-C6DD1CA4",
            "0\u{e9}/0-02001-C6DD1CA4",
            "00/00-0200\u{e9}-C6DD1C4",
        ] {
            assert!(text.parse::<MessageId>().is_err(), "{text:?}");
        }
        assert!("00/00-65535-C6DD1CA4".parse::<MessageId>().is_ok());
    }

    #[test]
    fn an_error_quotes_a_text_of_any_length_shortly() {
        let error = "x".repeat(1 << 20).parse::<MessageId>().unwrap_err();
        assert!(error.to_string().len() < 200);
    }

    #[test]
    fn an_id_orders_as_its_number_and_by_time_first() {
        let ids = [(1, 9, 9), (2, 0, 9), (2, 1, 0), (2, 1, 1), (u32::MAX, 0, 0)]
            .map(|(slot, pid, counter)| MessageId { slot, pid, counter });
        assert!(ids.is_sorted() && ids.map(MessageId::to_u64).is_sorted());
    }

    #[test]
    fn a_window_is_an_hour_in_natural_hex() {
        let id: MessageId = "20/00-29263-36AD7ED4".parse().unwrap();
        assert_eq!(id.window().to_string(), "58A3A");
        let imported: Window = "59A3B".parse().unwrap();
        assert_eq!((imported.0, imported.starts()), (367163, 1321786800)); // 2011-11-20 11:00 UTC
        assert_eq!(Window(0).to_string(), "00000");
        assert_eq!("00000".parse(), Ok(Window(0)));
        let last = MessageId { slot: u32::MAX, pid: 0, counter: 0 }.window();
        assert_eq!((last.to_string().as_str(), "123456".parse()), ("123456", Ok(last)));
        assert_eq!(Window(u32::MAX).starts(), u32::MAX);
        for text in ["", "58A3", "58a3a", "058A3A", "+58A3A", "123457", "0058A3A", "58A3G"] {
            assert!(text.parse::<Window>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_message_id_header_has_points_for_separators() {
        let id: MessageId = "00/00-02001-C6DD1CA4".parse().unwrap();
        assert_eq!(id.message_id_header("mail.example.com"), "<00.00.02001.C6DD1CA4@mail.example.com>");
    }

    #[test]
    fn a_thread_id_names_message_node_and_suffix() {
        let id: MessageId = "00/00-02001-C6DD1CA4".parse().unwrap();
        let thread = id.thread_id("default", "log");
        assert_eq!(thread.to_string(), "00/00-02001-C6DD1CA4::default:log");
        assert_eq!("00/00-02001-C6DD1CA4::default:log".parse(), Ok(thread));
        assert_eq!("00/00-02001-C6DD1CA4::default:".parse(), Ok(id.thread_id("default", "")));
        for text in
            ["", "00/00-02001-C6DD1CA4", "00/00-02001-C6DD1CA4::default", "00/00-02001-C6DD1CA::default:log"]
        {
            assert!(text.parse::<ThreadId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_65537th_id_of_a_second_takes_the_next_second() {
        let ids = IdGenerator::new(7);
        let all: Vec<MessageId> = (0..65_537).map(|_| ids.next(1000)).collect();
        assert_eq!(all[65_535], MessageId { slot: 1000, pid: 7, counter: 65_535 });
        assert_eq!(all[65_536], MessageId { slot: 1001, pid: 7, counter: 0 });
        assert!(all.is_sorted_by(|a, b| a < b));
        assert_eq!(ids.next(1002), MessageId { slot: 1002, pid: 7, counter: 0 });
    }

    #[test]
    fn ids_lie_above_what_was_observed_though_the_clock_went_back() {
        let ids = IdGenerator::new(7);
        ids.observe(MessageId { slot: 5000, pid: 9, counter: 65_535 });
        ids.observe(MessageId { slot: 4000, pid: 9, counter: 3 });
        assert_eq!(ids.next(1000), MessageId { slot: 5001, pid: 7, counter: 0 });
        ids.observe(MessageId { slot: 5001, pid: 7, counter: 0 });
        assert_eq!(ids.next(1000), MessageId { slot: 5001, pid: 7, counter: 1 });
    }

    #[test]
    fn at_the_end_of_time_ids_go_on_without_repeating() {
        let ids = IdGenerator::new(u16::MAX);
        ids.observe(MessageId { slot: u32::MAX, pid: 9, counter: 65_534 });
        assert_eq!(ids.next(1000), MessageId { slot: u32::MAX, pid: u16::MAX, counter: 65_535 });
        assert_eq!(ids.next(1000), MessageId { slot: u32::MAX, pid: 0, counter: 0 });
        ids.observe(MessageId { slot: u32::MAX, pid: 9, counter: 65_535 });
        assert_eq!(ids.next(u32::MAX), MessageId { slot: u32::MAX, pid: 0, counter: 1 });
    }

    #[test]
    fn threads_with_clocks_that_differ_get_no_id_twice_and_each_sees_its_own_rise() {
        const THREADS: u32 = 4;
        const EACH: u32 = 50_000; // together, more than one second holds
        let ids = IdGenerator::new(7);
        let start = Barrier::new(THREADS as usize);
        let lists: Vec<Vec<MessageId>> = std::thread::scope(|scope| {
            let run = |thread: u32| {
                let (ids, start) = (&ids, &start);
                scope.spawn(move || {
                    start.wait();
                    (0..EACH).map(|i| ids.next(1000 + (i / 10_000 + thread) % 3)).collect()
                })
            };
            (0..THREADS)
                .map(run)
                .collect::<Vec<_>>()
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(lists.iter().all(|list| list.is_sorted_by(|a, b| a < b)));
        let distinct: HashSet<MessageId> = lists.into_iter().flatten().collect();
        assert_eq!(distinct.len(), (THREADS * EACH) as usize);
    }

    proptest! {
        #[test]
        fn every_id_round_trips_through_its_name_and_its_number(number: u64) {
            let id = MessageId::from_u64(number);
            prop_assert_eq!(id.to_u64(), number);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.window().to_string().parse(), Ok(id.window()));
            prop_assert!(id.slot - id.window().starts() < Window::SECONDS);
        }

        #[test]
        fn a_text_is_the_name_of_the_id_it_parses_as_or_refused(text in "[0-9A-G]{2}/[0-9A-F]{2}-[0-9]{5}-[0-9A-F]{8}") {
            if let Ok(id) = text.parse::<MessageId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
