//! mbox: many messages in one file, each behind a line that begins with `From `.
//!
//! ```text
//! From alice@example.com Thu Jan  1 00:00:00 1970      the From line: envelope sender, time
//! Subject: x                                           the message, as it is ...
//!
//! >From here on ...                                    ... except that a line of any number of `>` and `From ` has
//!                                                      one `>` more
//!                                                      an empty line ends it
//! From bob@example.net Thu Jan  1 00:00:07 1970
//! ```
//!
//! This is mboxrd, and it is what is written. What is read may also be mboxo (where a line that began with `>From `
//! before it was quoted loses its `>`: the file does not tell), with line ends of LF or CRLF, without the empty line
//! behind a message, without the last line end. Lengths in headers (mboxcl) mean nothing here.
//!
//! The final newline: a message that does not end in a newline gets one when it is written. All others come back byte
//! for byte.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{CHUNK, Error, Result, read_some, sync_dir};

const FROM: &[u8] = b"From ";

/// How much of a From line is looked at.
const FROM_LINE: usize = 4096;

/// A sender leaves room for the rest of the From line. No mail system accepts one a quarter as long.
const LONGEST_SENDER: usize = 1024;

/// What is written where there is no sender: mail that must not be answered, a bounce for one.
const NO_SENDER: &str = "MAILER-DAEMON";

/// Reads the messages of an mbox, one after the other. Memory is the same whatever lies in the file.
///
/// ```
/// use std::io::Read;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let file = &b"From a@example.com Thu Jan  1 00:00:00 1970\nSubject: x\n\n>From me.\n\n"[..];
/// let mut mbox = spool::mailbox::MboxReader::new(file);
/// while let Some(mut message) = mbox.next_message()? {
///     let mut text = String::new();
///     message.read_to_string(&mut text)?;
///     assert_eq!((message.sender(), text.as_str()), ("a@example.com", "Subject: x\n\nFrom me.\n"));
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct MboxReader<R> {
    window: Window<R>,
    path: Option<PathBuf>,
    place: Place,
    /// Bytes next in the window that are body as they stand.
    plain: usize,
}

/// Where the next byte of the window that is not `plain` stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the beginning of the file, where empty lines are passed over.
    Top,
    /// At a From line, or at the end of the file: between messages.
    Between,
    /// At the first byte of a line of a message, or at a `>` behind others that began the line.
    LineStart,
    /// Within a line of a message.
    InLine,
}

impl MboxReader<File> {
    /// Opens an mbox file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be opened. What is in it [`next_message`](MboxReader::next_message) tells.
    pub fn open(path: impl AsRef<Path>) -> Result<MboxReader<File>> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|e| Error::io("open an mbox", path, e))?;
        Ok(MboxReader { path: Some(path.to_path_buf()), ..MboxReader::new(file) })
    }

    /// Opens an mbox file at a message: see [`MboxReader::resume`].
    ///
    /// # Errors
    ///
    /// As [`MboxReader::open`] and [`MboxReader::resume`].
    pub fn open_at(path: impl AsRef<Path>, offset: u64) -> Result<MboxReader<File>> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|e| Error::io("open an mbox", path, e))?;
        MboxReader::at(file, offset, Some(path.to_path_buf()))
    }
}

impl<R: Read + Seek> MboxReader<R> {
    /// Reads on from a message whose [`offset`](MboxMessage::offset) was kept: it is the next one. At the length of a
    /// file that ends in a newline there is none.
    ///
    /// # Errors
    ///
    /// [`Error::NotAMailbox`] if no line begins there: the file is another one now, or shorter. [`Error::Io`] if the
    /// input cannot be read.
    pub fn resume(input: R, offset: u64) -> Result<MboxReader<R>> {
        MboxReader::at(input, offset, None)
    }

    fn at(mut input: R, offset: u64, path: Option<PathBuf>) -> Result<MboxReader<R>> {
        // The line end before the From line tells a message from a quoted line, and from the void behind the file.
        let mut before = [b'\n'];
        let there = match offset.checked_sub(1) {
            Some(last) => input.seek(SeekFrom::Start(last)).and_then(|_| input.read_exact(&mut before)),
            None => input.rewind(),
        };
        match there {
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(Error::Io { doing: "read an mbox", path, offset: Some(offset), source: e });
            }
            Ok(()) if before == *b"\n" => {}
            _ => return Err(Error::NotAMailbox { path, offset, wanted: "the beginning of a message" }),
        }

        let place = if offset == 0 { Place::Top } else { Place::Between };
        Ok(MboxReader { window: Window::new(input, offset), path, place, plain: 0 })
    }
}

impl<R: Read> MboxReader<R> {
    /// Reads an mbox from its beginning.
    pub fn new(input: R) -> MboxReader<R> {
        MboxReader { window: Window::new(input, 0), path: None, place: Place::Top, plain: 0 }
    }

    /// The next message, or `None` behind the last one. What was not read of the message before is passed over.
    ///
    /// An empty file is an mbox without messages. Behind the first, a message begins only at a `From ` line that has a
    /// month, a time of day and a year in it: programs that do not quote leave lines in messages that merely begin so.
    ///
    /// # Errors
    ///
    /// [`Error::NotAMailbox`] if the input does not begin with `From `, or not at the offset to resume at;
    /// [`Error::Io`] if it cannot be read. Both name the byte.
    pub fn next_message(&mut self) -> Result<Option<MboxMessage<'_, R>>> {
        match self.find_message() {
            Ok(Found::Message { sender, offset }) => Ok(Some(MboxMessage { mbox: self, sender, offset })),
            Ok(Found::End) => Ok(None),
            Ok(Found::Other) => Err(Error::NotAMailbox {
                path: self.path.clone(),
                offset: self.window.offset,
                wanted: "an mbox: no line that begins with \"From \"",
            }),
            Err(source) => Err(Error::Io {
                doing: "read an mbox",
                path: self.path.clone(),
                offset: Some(self.window.offset),
                source,
            }),
        }
    }

    fn find_message(&mut self) -> io::Result<Found> {
        while matches!(self.place, Place::LineStart | Place::InLine) && self.find_plain()? {
            self.window.consume(self.plain);
            self.plain = 0;
        }
        if self.place == Place::Top {
            self.skip_empty_lines()?;
        }

        let line = first_line(self.window.peek(FROM_LINE)?);
        if line.is_empty() {
            return Ok(Found::End);
        }
        if !line.starts_with(FROM) {
            return Ok(Found::Other);
        }
        let found = Found::Message { sender: sender_of(line), offset: self.window.offset };
        self.window.skip_line()?;
        self.place = Place::LineStart;
        Ok(found)
    }

    fn skip_empty_lines(&mut self) -> io::Result<()> {
        loop {
            match empty_line(self.window.peek(2)?) {
                0 => return Ok(()),
                n => self.window.consume(n),
            }
        }
    }

    /// Finds out how many of the next bytes are body as they stand, at least one; false at the end of the message.
    fn find_plain(&mut self) -> io::Result<bool> {
        while self.plain == 0 {
            match self.place {
                Place::Top | Place::Between => return Ok(false),
                Place::LineStart => self.begin_line()?,
                Place::InLine => {
                    let ahead = self.window.peek(1)?;
                    if ahead.is_empty() {
                        self.place = Place::Between;
                        continue;
                    }
                    self.plain = match ahead.iter().position(|&b| b == b'\n') {
                        Some(end) => {
                            self.place = Place::LineStart;
                            end + 1
                        }
                        None => ahead.len(),
                    };
                }
            }
        }
        Ok(true)
    }

    fn begin_line(&mut self) -> io::Result<()> {
        let ahead = self.window.peek(2 + FROM.len())?;
        let empty = empty_line(ahead);

        // The end, with the empty line that belongs to it, if there is one.
        let ends = match &ahead[empty..] {
            [] => true,
            next if next.starts_with(FROM) => {
                is_dated(first_line(&self.window.peek(empty + FROM_LINE)?[empty..]))
            }
            _ => false,
        };
        if ends {
            self.window.consume(empty);
            self.place = Place::Between;
            return Ok(());
        }
        if empty > 0 {
            self.plain = empty;
            return Ok(());
        }

        // Of many `>` it is the last that goes: it comes to the same, and needs no looking ahead.
        let ahead = self.window.peek(1 + FROM.len())?;
        let quotes = ahead.iter().take_while(|&&b| b == b'>').count();
        if quotes > 1 {
            self.plain = quotes - 1;
            return Ok(());
        }
        if quotes == 1 && ahead[1..].starts_with(FROM) {
            self.window.consume(1);
        }
        self.place = Place::InLine;
        Ok(())
    }

    fn read_body(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < out.len() {
            match self.find_plain() {
                Ok(true) => {}
                Ok(false) => break,
                // It comes again at the next call.
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
            let n = self.plain.min(out.len() - done);
            out[done..done + n].copy_from_slice(&self.window.peek(n)?[..n]);
            self.window.consume(n);
            self.plain -= n;
            done += n;
        }
        Ok(done)
    }
}

enum Found {
    Message { sender: String, offset: u64 },
    End,
    Other,
}

/// A message in an mbox. Reading it gives the message without quoting; an error is that of the input.
#[derive(Debug)]
pub struct MboxMessage<'a, R> {
    mbox: &'a mut MboxReader<R>,
    sender: String,
    offset: u64,
}

impl<R> MboxMessage<'_, R> {
    /// The envelope sender in the From line, without angle brackets; empty for `MAILER-DAEMON` and for `-`, which name
    /// nobody. Bytes that are not UTF-8 become replacement characters.
    pub fn sender(&self) -> &str {
        &self.sender
    }

    /// Where its From line begins: bytes from the beginning of the file. See [`MboxReader::resume`].
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl<R: Read> Read for MboxMessage<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.mbox.read_body(out)
    }
}

/// A part of the input, through which one can look ahead.
struct Window<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Of `buffer[start]`, in the input.
    offset: u64,
}

impl<R> std::fmt::Debug for Window<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl<R: Read> Window<R> {
    fn new(input: R, offset: u64) -> Window<R> {
        Window { input, buffer: vec![0; CHUNK], start: 0, end: 0, offset }
    }

    /// What comes next: `n` bytes (at most a `CHUNK`) or more, or all that is left.
    fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        if self.start + n > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < n {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(more) => self.end += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        self.offset += n as u64;
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let ahead = self.peek(1)?;
            let (n, found) = match ahead.iter().position(|&b| b == b'\n') {
                Some(end) => (end + 1, true),
                None => (ahead.len(), ahead.is_empty()),
            };
            self.consume(n);
            if found {
                return Ok(());
            }
        }
    }
}

/// The length of the empty line that begins here, or 0.
fn empty_line(ahead: &[u8]) -> usize {
    match ahead {
        [b'\n', ..] => 1,
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    }
}

fn first_line(ahead: &[u8]) -> &[u8] {
    let end = ahead.iter().position(|&b| b == b'\n').map_or(ahead.len(), |end| end + 1);
    &ahead[..end.min(FROM_LINE)]
}

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]; // 1 January 1970 was a Thursday
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Whether a line that begins with `From ` has a month behind that, and behind the month a time of day and a year,
/// with whatever zones and commas between.
fn is_dated(line: &[u8]) -> bool {
    let mut words = line.split(u8::is_ascii_whitespace).skip(1);
    if !words.any(|word| MONTHS.iter().any(|month| month.as_bytes() == word)) {
        return false;
    }
    let (mut time, mut year) = (false, false);
    for word in words {
        time |= matches!(word, [h, b':', m, n, ..] | [b'0'..=b'2', h, b':', m, n, ..]
            if [h, m, n].iter().all(|digit| digit.is_ascii_digit()));
        year |= word.len() == 4 && word.iter().all(u8::is_ascii_digit);
    }
    time && year
}

/// What stands between `From ` and the last weekday and month; the first word where there are none.
fn sender_of(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[FROM.len() - 1..]);
    let date = text.rmatch_indices(' ').map(|(at, _)| at).find(|&at| {
        let day = DAYS.iter().find_map(|day| text[at + 1..].strip_prefix(day));
        day.is_some_and(|rest| {
            rest.starts_with(' ') && MONTHS.iter().any(|m| rest.trim_start().starts_with(m))
        })
    });
    let sender = match date {
        Some(at) => text[..at].trim(),
        None => text.split_whitespace().next().unwrap_or_default(),
    };
    let bare = sender.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(sender);
    if bare == NO_SENDER || bare == "-" { String::new() } else { bare.to_owned() }
}

/// Appends messages to an mbox file.
///
/// The file is locked (`flock`) against other writers of this kind. Mail programs that lock in their own ways must be
/// kept from it.
#[derive(Debug)]
pub struct MboxWriter {
    file: File,
    path: PathBuf,
    /// What the messages that others left in the file lack at their end.
    missing: &'static [u8],
    poisoned: bool,
}

impl MboxWriter {
    /// Opens an mbox to append to; it is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::NotAMailbox`] if there is something else; [`Error::Io`] if it cannot be opened, or with
    /// [`io::ErrorKind::WouldBlock`] if somebody else writes to it.
    pub fn open(path: impl AsRef<Path>) -> Result<MboxWriter> {
        let path = path.as_ref();
        let failed = |e| Error::io("open an mbox", path, e);
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Error::not_a_mailbox(path, "a regular file"));
        }
        file.try_lock().map_err(|e| match e {
            TryLockError::Error(e) => failed(e),
            TryLockError::WouldBlock => failed(io::ErrorKind::WouldBlock.into()),
        })?;

        MboxReader { path: Some(path.to_path_buf()), ..MboxReader::new(&file) }.next_message()?;
        let missing = missing_end(&file).map_err(failed)?;
        sync_dir(path.parent().unwrap_or(path))?;
        Ok(MboxWriter { file, path: path.to_path_buf(), missing, poisoned: false })
    }

    /// Appends a message and answers the offset of its From line. It is on disk after [`sync`](MboxWriter::sync).
    ///
    /// `sender` is the envelope sender without brackets, empty for none; `time` is in seconds since 1970, UTC. A crash
    /// can leave the beginning of a message at the end of the file, and nothing there tells it from a whole one: keep
    /// the length that was last synced.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the sender does not fit in a From line; [`Error::Io`] if `body` or the file fails. What
    /// was written of the message is then taken back; [`Error::Poisoned`] ever after if that fails too.
    pub fn append(&mut self, sender: &str, time: u32, body: &mut dyn Read) -> Result<u64> {
        self.check()?;
        let start = self.file.metadata().map_err(|e| Error::io("look at an mbox", &self.path, e))?.len();

        if let Err(error) = self.write(sender, time, body) {
            self.poisoned = self.file.set_len(start).is_err();
            return Err(match error {
                Error::Io { doing, path: None, source, .. } => {
                    Error::Io { doing, path: Some(self.path.clone()), offset: Some(start), source }
                }
                other => other,
            });
        }
        let offset = start + self.missing.len() as u64;
        self.missing = b"";
        Ok(offset)
    }

    /// Waits until all that was appended is on disk.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the system reports a failure: which messages are on disk is then not known, and the writer
    /// answers [`Error::Poisoned`] from now on.
    pub fn sync(&mut self) -> Result<()> {
        self.check()?;
        self.file.sync_all().map_err(|e| {
            self.poisoned = true;
            Error::io("sync an mbox", &self.path, e)
        })
    }

    fn check(&self) -> Result<()> {
        if self.poisoned { Err(Error::Poisoned { path: self.path.clone() }) } else { Ok(()) }
    }

    fn write(&self, sender: &str, time: u32, body: &mut dyn Read) -> Result<()> {
        // A buffer that is dropped after a failure writes once more: it ends here, before anything is taken back.
        let mut out = BufWriter::with_capacity(CHUNK, &self.file);
        out.write_all(self.missing).map_err(write_failed)?;
        write_message(&mut out, sender, time, body)?;
        out.flush().map_err(write_failed)
    }
}

/// What must be written before the next From line.
fn missing_end(mut file: &File) -> io::Result<&'static [u8]> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(3)))?;
    file.take(3).read_to_end(&mut tail)?;
    Ok(match &tail[..] {
        [] | [.., b'\n', b'\n'] | [b'\n', b'\r', b'\n'] => b"",
        [.., b'\n'] => b"\n",
        _ => b"\n\n",
    })
}

/// Writes one message as it stands in an mbox: From line, quoted message, empty line. See [`MboxWriter::append`].
///
/// # Errors
///
/// [`Error::Invalid`] if the sender does not fit in a From line, before anything is written; [`Error::Io`] if `body` or
/// `out` fails.
pub fn write_message(out: &mut dyn Write, sender: &str, time: u32, body: &mut dyn Read) -> Result<()> {
    let sender = if sender.is_empty() { NO_SENDER } else { sender };
    if sender.len() > LONGEST_SENDER || sender.trim() != sender || sender.contains(char::is_control) {
        return Err(Error::Invalid {
            what: "a sender is one line of at most 1024 bytes, without space around it",
        });
    }
    writeln!(out, "From {sender} {}", asctime(time)).map_err(write_failed)?;

    let mut quoting = Quoting { at_start: Some(0), newline_last: true };
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = read_some(body, &mut chunk)?;
        if n == 0 {
            break;
        }
        quoting.write(out, &chunk[..n]).map_err(write_failed)?;
    }
    quoting.end(out).map_err(write_failed)
}

fn write_failed(source: io::Error) -> Error {
    Error::Io { doing: "write an mbox", path: None, offset: None, source }
}

/// Quotes a message that comes in pieces.
struct Quoting {
    /// Within the `>` and `From ` that may begin a line: how much of `From ` was there, which is not written yet.
    at_start: Option<usize>,
    newline_last: bool,
}

impl Quoting {
    fn write(&mut self, out: &mut dyn Write, mut piece: &[u8]) -> io::Result<()> {
        if let Some(last) = piece.last() {
            self.newline_last = *last == b'\n';
        }
        while let Some(&byte) = piece.first() {
            match self.at_start {
                Some(0) if byte == b'>' => {
                    out.write_all(b">")?;
                    piece = &piece[1..];
                }
                Some(n) if byte == FROM[n] => {
                    piece = &piece[1..];
                    self.at_start = Some(n + 1);
                    if n + 1 == FROM.len() {
                        out.write_all(b">")?;
                        out.write_all(FROM)?;
                        self.at_start = None;
                    }
                }
                Some(n) => {
                    out.write_all(&FROM[..n])?;
                    self.at_start = None;
                }
                None => {
                    let line_end = piece.iter().position(|&b| b == b'\n');
                    let (line, rest) = piece.split_at(line_end.map_or(piece.len(), |end| end + 1));
                    out.write_all(line)?;
                    piece = rest;
                    self.at_start = line_end.map(|_| 0);
                }
            }
        }
        Ok(())
    }

    fn end(self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&FROM[..self.at_start.unwrap_or(0)])?;
        out.write_all(if self.newline_last { b"\n" } else { b"\n\n" })
    }
}

/// A time as `asctime` writes it, in UTC: `Thu Jan  1 00:00:00 1970`.
fn asctime(time: u32) -> String {
    let (days, seconds) = (time / 86_400, time % 86_400);
    let weekday = DAYS[(days % 7) as usize];

    // Years of 365.2425 days that begin on 1 March, in eras of 400: the leap day comes last, so it disturbs nothing.
    let day = days + 719_468; // since 1 March of the year 0
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 is March
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + u32::from(month >= 10);
    let month = MONTHS[((month + 2) % 12) as usize];

    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{weekday} {month} {day:2} {hour:02}:{minute:02}:{second:02} {year}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::io::Cursor;

    const A: &str = "From a@example.com Thu Jan  1 00:00:00 1970\n";
    const B: &str = "From b@example.net Fri Jan  2 00:00:00 1970\n";

    /// A stream that breaks.
    #[derive(Debug)]
    pub(crate) struct Fails;

    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the line is dead"))
        }
    }

    /// A stream that comes in pieces of so many bytes, with interruptions.
    struct Pieces<'a>(&'a [u8], usize, bool);

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.2 = !self.2;
            if self.2 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let n = self.1.min(out.len());
            self.0.read(&mut out[..n])
        }
    }

    type Read1 = (String, u64, Vec<u8>);

    fn rest<R: Read>(mbox: &mut MboxReader<R>) -> Vec<Read1> {
        let mut all = Vec::new();
        while let Some(mut message) = mbox.next_message().unwrap() {
            let mut body = Vec::new();
            message.read_to_end(&mut body).unwrap();
            all.push((message.sender().to_owned(), message.offset(), body));
        }
        assert!(mbox.next_message().unwrap().is_none(), "the end stays the end");
        all
    }

    fn bodies(file: impl AsRef<[u8]>) -> Vec<String> {
        let all = rest(&mut MboxReader::new(file.as_ref()));
        all.into_iter().map(|(_, _, body)| String::from_utf8(body).unwrap()).collect()
    }

    fn written(messages: &[(&str, &[u8])]) -> Vec<u8> {
        let mut file = Vec::new();
        for (sender, body) in messages {
            write_message(&mut file, sender, 7, &mut &body[..]).unwrap();
        }
        file
    }

    fn with_final_newline(body: &[u8]) -> Vec<u8> {
        let newline: &[u8] = if body.is_empty() || body.ends_with(b"\n") { b"" } else { b"\n" };
        [body, newline].concat()
    }

    #[test]
    fn a_message_is_what_stands_between_from_line_and_empty_line() {
        assert_eq!(bodies(format!("{A}S: x\n\nhi\n\n{B}S: y\n\n\n\n")), ["S: x\n\nhi\n", "S: y\n\n\n"]);
        assert_eq!(bodies(format!("{A}\n{B}\n\n")), ["", "\n"]);
    }

    #[test]
    fn empty_lines_and_line_ends_may_be_missing() {
        assert_eq!(bodies(format!("\n\r\n{A}x\n{B}y")), ["x\n", "y"]);
        assert_eq!(bodies(format!("{A}x\n")), ["x\n"]);
        assert_eq!(bodies(A), [""]);
        assert_eq!(bodies("From "), [""]);
        assert_eq!(bodies("From \n"), [""]);
        assert_eq!(bodies("From a\n\n\nx\r"), ["\n\nx\r"]);
    }

    #[test]
    fn an_empty_file_is_an_mbox_without_messages() {
        assert!(bodies("").is_empty());
        assert!(bodies("\n\n\r\n").is_empty());
    }

    #[test]
    fn lines_may_end_in_crlf_and_stay_as_they_are() {
        let file = format!("{A}S: x\n\n>From me\n\n{B}y\n\n").replace('\n', "\r\n");
        assert_eq!(bodies(&file), ["S: x\r\n\r\nFrom me\r\n", "y\r\n"]);
        let senders: Vec<_> = rest(&mut MboxReader::new(file.as_bytes())).into_iter().map(|m| m.0).collect();
        assert_eq!(senders, ["a@example.com", "b@example.net"]);
    }

    #[test]
    fn what_is_no_mbox_is_said_with_its_offset() {
        for (file, at) in
            [("Subject: x\n\n", 0), ("From", 0), ("from a\n", 0), ("\n\nx", 2), (">From a\n", 0), ("\0", 0)]
        {
            let error = MboxReader::new(file.as_bytes()).next_message().unwrap_err();
            assert!(matches!(error, Error::NotAMailbox { .. }), "{file:?}: {error}");
            assert_eq!(error.offset(), Some(at), "{file:?}");
        }
    }

    #[test]
    fn one_quote_goes_and_only_before_from() {
        let quoted = ">From a\n>>From b\n>>>>>>>>>>From c\n>Fromage\n> From d\n>>\n>\n>from e\nx >From f\n";
        let plain = "From a\n>From b\n>>>>>>>>>From c\n>Fromage\n> From d\n>>\n>\n>from e\nx >From f\n";
        assert_eq!(bodies(format!("{A}{quoted}\n")), [plain]);
        let quotes = ">".repeat(3 * CHUNK);
        assert_eq!(
            bodies(format!("{A}{quotes}>From x\n{quotes}From\n\n")),
            [format!("{quotes}From x\n{quotes}From\n")]
        );
    }

    #[test]
    fn a_line_that_only_begins_like_a_from_line_is_no_message() {
        for line in [
            "From now on:",
            "From 10:30 to 11:00",
            "From Jan to Dec 2020",
            "From a Jan 1 9:5 2020",
            "From a Jan 1 10:00 20",
            "From ",
        ] {
            let body = format!("x\n\n{line}\n");
            assert_eq!(bodies(format!("{A}{body}\n")), [body]);
        }
    }

    #[test]
    fn from_lines_of_many_programs_begin_messages() {
        for (line, sender) in [
            ("From - Mon Feb 03 09:05:07 2020", ""),
            ("From MAILER-DAEMON Fri Jul  8 12:08:34 2011", ""),
            ("From 163@xxx Thu Apr 02 20:49:51 +0000 2015", "163@xxx"),
            ("From <a@b.c> Tue Jan  2 03:04:05 2024", "a@b.c"),
            ("From <> Tue Jan  2 03:04:05 2024", ""),
            ("From a@b.c  Tue Jan  2 3:04:05 UTC 2024", "a@b.c"),
            ("From a@b.c Tue, 2 Jan 2024 03:04 +0100", "a@b.c"),
            ("From \"Mon Jan\"@b.c Tue Jan  2 03:04:05 2024", "\"Mon Jan\"@b.c"),
            ("From a@b.c Tue Jan  2 03:04:05 2024 remote from uucp", "a@b.c"),
            ("From jürgen@b.c Tue Jan  2 03:04:05 2024\r", "jürgen@b.c"),
            ("From  Tue Jan  2 03:04:05 2024", ""),
        ] {
            let all = rest(&mut MboxReader::new(format!("{A}x\n{line}\ny\n").as_bytes()));
            assert_eq!(all.len(), 2, "{line}");
            assert_eq!(all[1].0, sender, "{line}");
        }
    }

    #[test]
    fn a_message_that_is_not_read_is_passed_over() {
        let file = format!("{A}{}\n\n{B}y\n\n{A}z\n\n", "x".repeat(3 * CHUNK));
        let mut mbox = MboxReader::new(file.as_bytes());
        drop(mbox.next_message().unwrap());
        let mut second = mbox.next_message().unwrap().unwrap();
        assert_eq!(second.read(&mut [0]).unwrap(), 1);
        let mut third = mbox.next_message().unwrap().unwrap();
        let mut body = String::new();
        third.read_to_string(&mut body).unwrap();
        assert_eq!(body, "z\n");
        assert_eq!(third.read(&mut [0; 9]).unwrap(), 0, "a message that is over stays over");
    }

    #[test]
    fn a_line_of_any_length_passes_through_a_window_of_one_size() {
        const LENGTH: u64 = 10 << 20;
        let file = A.as_bytes().chain(io::repeat(b'x').take(LENGTH)).chain(&b"\nFrom "[..]);
        let file = file.chain(io::repeat(b'y').take(LENGTH)).chain(B.as_bytes());
        let mut mbox = MboxReader::new(file);
        let mut message = mbox.next_message().unwrap().unwrap();
        assert_eq!(io::copy(&mut message, &mut io::sink()).unwrap(), 2 * LENGTH + 6 + B.len() as u64);
        assert!(mbox.next_message().unwrap().is_none());
        assert_eq!((mbox.window.buffer.len(), mbox.window.buffer.capacity()), (CHUNK, CHUNK));
    }

    #[test]
    fn a_from_line_of_any_length_is_passed_over() {
        let file = b"From ".chain(io::repeat(b'x').take(10 << 20)).chain(&b"\nbody\n"[..]);
        let all = rest(&mut MboxReader::new(file));
        assert_eq!(all[0].2, b"body\n");
        assert!(all[0].0.len() < FROM_LINE);
    }

    #[test]
    fn reading_resumes_at_any_message() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("mbox");
        let file =
            written(&[("a@b.c", b"x\n"), ("", b""), ("d@e.f", b"\nFrom \n>From x\n"), ("g@h.i", b"z")]);
        fs::write(&path, &file).unwrap();
        let all = rest(&mut MboxReader::new(&file[..]));
        assert_eq!(all.len(), 4);
        for (i, (_, offset, _)) in all.iter().enumerate() {
            let mut resumed = MboxReader::resume(Cursor::new(&file), *offset).unwrap();
            assert_eq!(rest(&mut resumed), all[i..]);
            assert_eq!(rest(&mut MboxReader::open_at(&path, *offset).unwrap()), all[i..]);
        }
    }

    #[test]
    fn where_no_message_begins_nothing_resumes() {
        let file = written(&[("a@b.c", b"x\nFrom here\n"), ("d@e.f", b"y\n")]);
        let starts: Vec<u64> = rest(&mut MboxReader::new(&file[..])).iter().map(|m| m.1).collect();
        // At the very end there is nothing left, which is no error.
        for offset in
            (0..=file.len() as u64 + 9).filter(|at| !starts.contains(at) && *at != file.len() as u64)
        {
            let resumed = MboxReader::resume(Cursor::new(&file), offset);
            let error = resumed.and_then(|mut mbox| mbox.next_message().map(|_| ())).unwrap_err();
            assert!(matches!(error, Error::NotAMailbox { .. }), "{offset}: {error}");
            assert_eq!(error.offset(), Some(offset));
        }
    }

    #[test]
    fn an_input_that_fails_is_an_error_and_not_an_end() {
        let mut mbox = MboxReader::new(A.as_bytes().chain(&b"half a li"[..]).chain(Fails));
        let error = mbox.next_message().unwrap_err();
        assert!(matches!(error, Error::Io { offset: Some(0), .. }), "{error}");

        let long = "x".repeat(2 * CHUNK);
        let mut mbox = MboxReader::new(A.as_bytes().chain(long.as_bytes()).chain(Fails));
        let mut message = mbox.next_message().unwrap().unwrap();
        let mut body = Vec::new();
        assert!(message.read_to_end(&mut body).is_err());
        assert_eq!(body.len(), long.len());
        assert!(matches!(mbox.next_message(), Err(Error::Io { .. })));
    }

    #[test]
    fn a_sender_that_is_no_line_is_refused_before_anything_is_written() {
        let long = "x".repeat(LONGEST_SENDER + 1);
        for sender in ["a\nb", "a\r", " a", "a ", "a\0", long.as_str()] {
            let mut out = Vec::new();
            let error = write_message(&mut out, sender, 0, &mut &b"x"[..]).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{error}");
            assert!(out.is_empty());
        }
        let longest = "x".repeat(LONGEST_SENDER);
        let all = rest(&mut MboxReader::new(&written(&[("", b"x\n"), (&longest, b"y\n")])[..]));
        assert_eq!((all[0].0.as_str(), all[1].0.as_str()), ("", longest.as_str()));
    }

    #[test]
    fn the_written_form_is_mboxrd() {
        let file = written(&[("a@b.c", b"S: x\r\n\nFrom me\n>From\n>>From you"), ("", b"")]);
        let wanted = "From a@b.c Thu Jan  1 00:00:07 1970\nS: x\r\n\n>From me\n>From\n>>>From you\n\n\
            From MAILER-DAEMON Thu Jan  1 00:00:07 1970\n\n";
        assert_eq!(String::from_utf8(file).unwrap(), wanted);
    }

    #[test]
    fn times_are_written_as_asctime_writes_them_in_utc() {
        for (time, text) in [
            (0, "Thu Jan  1 00:00:00 1970"),
            (86_399, "Thu Jan  1 23:59:59 1970"),
            (951_782_400, "Tue Feb 29 00:00:00 2000"),
            (951_868_800, "Wed Mar  1 00:00:00 2000"),
            (1_000_000_000, "Sun Sep  9 01:46:40 2001"),
            (1_735_689_599, "Tue Dec 31 23:59:59 2024"),
            (1_709_164_800, "Thu Feb 29 00:00:00 2024"),
            (2_147_483_648, "Tue Jan 19 03:14:08 2038"),
            (u32::MAX, "Sun Feb  7 06:28:15 2106"),
        ] {
            assert_eq!(asctime(time), text);
        }
    }

    #[test]
    fn every_day_has_the_date_that_counting_gives_it() {
        let (mut year, mut month, mut day) = (1970, 0, 1);
        for days in 0..=u32::MAX / 86_400 {
            let wanted = format!("{} {} {day:2} 00:00:00 {year}", DAYS[days as usize % 7], MONTHS[month]);
            assert_eq!(asctime(days * 86_400), wanted);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month];
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month == 12 {
                (month, year) = (0, year + 1);
            }
        }
    }

    #[test]
    fn what_is_appended_is_there_with_what_was_there() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("mbox");
        for (before, count) in
            [("", 0), ("\n", 0), (A, 1), ("From a\nx", 1), ("From a\nx\n", 1), ("From a\r\nx\r\n\r\n", 1)]
        {
            fs::write(&path, before).unwrap();
            let old = bodies(before);
            let mut mbox = MboxWriter::open(&path).unwrap();
            let offset = mbox.append("b@c.d", 0, &mut &b"one\n"[..]).unwrap();
            mbox.append("b@c.d", 0, &mut &b"two\n"[..]).unwrap();
            mbox.sync().unwrap();

            let all = rest(&mut MboxReader::open(&path).unwrap());
            assert_eq!(all.len(), count + 2, "{before:?}");
            assert_eq!(
                (all[count].1, &all[count].2[..], &all[count + 1].2[..]),
                (offset, &b"one\n"[..], &b"two\n"[..])
            );
            if let Some(old) = old.first() {
                assert_eq!(all[0].2, with_final_newline(old.as_bytes()), "{before:?}");
            }
        }
    }

    #[test]
    fn an_append_that_fails_leaves_the_file_as_it_was() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("mbox");
        let mut mbox = MboxWriter::open(&path).unwrap();
        mbox.append("a@b.c", 0, &mut &b"one\n"[..]).unwrap();
        let before = fs::read(&path).unwrap();

        let long = vec![b'x'; 3 * CHUNK];
        let error = mbox.append("a@b.c", 0, &mut (&long[..]).chain(Fails)).unwrap_err();
        assert!(matches!(error, Error::Io { doing: "read the message", .. }), "{error}");
        assert!(mbox.append("a\nb", 0, &mut &b"x"[..]).is_err());
        assert_eq!(fs::read(&path).unwrap(), before);
        mbox.append("a@b.c", 0, &mut &b"two\n"[..]).unwrap();
        assert_eq!(bodies(fs::read(&path).unwrap()), ["one\n", "two\n"]);
    }

    #[test]
    fn what_is_no_mbox_or_somebody_elses_is_not_appended_to() {
        let tmp = tempfile::tempdir().unwrap();
        let notes = tmp.path().join("notes");
        fs::write(&notes, "Dear diary,\n").unwrap();
        assert!(matches!(MboxWriter::open(&notes), Err(Error::NotAMailbox { .. })));
        assert_eq!(fs::read(&notes).unwrap(), b"Dear diary,\n");

        let path = tmp.path().join("mbox");
        let first = MboxWriter::open(&path).unwrap();
        let error = MboxWriter::open(&path).unwrap_err();
        assert!(
            matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock),
            "{error}"
        );
        drop(first);
        assert!(MboxWriter::open(&path).is_ok());
    }

    #[test]
    fn the_example_mailbox_is_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/example.mbox");
        let all = rest(&mut MboxReader::open(path).unwrap());
        assert_eq!(all.len(), 12);
        for (sender, offset, body) in all {
            let text = String::from_utf8(body).unwrap();
            assert!(text.contains("\nTo: ") && text.contains("\n\n"), "message at {offset}");
            assert!(sender.is_empty() || sender.contains('@'), "message at {offset}");
        }
    }

    /// Bodies of the pieces that matter here, or of anything.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: &[&str] = &["From ", ">", "From", "F", "\n", "\r\n", "\r", "\n\n", "x", "\0", B, " "];
        let made =
            prop::collection::vec(prop::sample::select(PIECES), 0..24).prop_map(|p| p.concat().into_bytes());
        prop_oneof![3 => made, 1 => prop::collection::vec(any::<u8>(), 0..200)]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(messages in prop::collection::vec(body(), 0..5), piece in 1usize..20) {
            let mut file = Vec::new();
            for body in &messages {
                write_message(&mut file, "a b@c.d", 7, &mut Pieces(body, piece, false)).unwrap();
            }
            let all = rest(&mut MboxReader::new(Pieces(&file, piece, false)));
            prop_assert_eq!(all.len(), messages.len());
            for ((sender, offset, read), body) in all.iter().zip(&messages) {
                prop_assert_eq!(sender, "a b@c.d");
                prop_assert!(file[*offset as usize..].starts_with(b"From a b@c.d Thu Jan  1 00:00:07 1970\n"));
                prop_assert_eq!(read, &with_final_newline(body));
            }
        }

        #[test]
        fn any_bytes_are_messages_or_an_error_and_resume_alike(file in body(), piece in 1usize..20) {
            let file = [B.as_bytes(), &file].concat();
            let all = rest(&mut MboxReader::new(Pieces(&file, piece, false)));
            for (i, (_, offset, _)) in all.iter().enumerate() {
                let mut resumed = MboxReader::resume(Cursor::new(&file), *offset).unwrap();
                prop_assert_eq!(&rest(&mut resumed)[..], &all[i..]);
            }
            let mut beheaded = MboxReader::new(&file[1..]);
            prop_assert!(beheaded.next_message().is_err());
        }
    }
}
