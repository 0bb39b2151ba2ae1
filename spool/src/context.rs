//! The contexts of a message: ordered pairs of a name and a value, one set for the connection and one for the message.
//!
//! A key is text: policies name it. A value is bytes: an MTA puts there what it was sent, in whatever character set,
//! and gets back the same; [`Context::text`] is for who wants text. Both are shared by reference when a context is
//! cloned, as the copies of a message for its recipients are.
//!
//! On disk: the number of pairs (u32, little-endian), then key and value of each, in order, as length-prefixed fields.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use indexmap::map::Entry;

use crate::decode::{DecodeError, Input};
use crate::wire::{put_sized, put_u32};

/// The bytes that a pair takes on disk at least: two lengths.
const SMALLEST_PAIR: usize = 8;

/// Pairs in the order in which their keys first came, and a version that changes whenever they do.
#[derive(Clone, Default)]
pub struct Context {
    pairs: IndexMap<Arc<str>, Arc<[u8]>>,
    /// Counts the changes. Whoever changes `pairs` adds one; nobody else does.
    version: u64,
}

impl Context {
    /// A context without pairs, at version 0. It allocates nothing.
    pub fn new() -> Context {
        Context::default()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.pairs.get(key).map(|value| &**value)
    }

    /// The value of `key` as text; what of it is not UTF-8 is replaced, as `String::from_utf8_lossy` does.
    pub fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.get(key).map(String::from_utf8_lossy)
    }

    /// Whether there is a value for `key`, the empty one included.
    pub fn contains_key(&self, key: &str) -> bool {
        self.pairs.contains_key(key)
    }

    /// Sets the value of `key` and says whether that changed anything. A key that is there keeps its place.
    ///
    /// As with Momentum, a pair that is there already is not stored again. Nor is one that could never be written: a
    /// key or value of 4 GiB or more.
    pub fn insert(&mut self, key: impl AsRef<str>, value: impl AsRef<[u8]>) -> bool {
        let (key, value) = (key.as_ref(), value.as_ref());
        if [key.len(), value.len(), self.pairs.len()].iter().any(|&length| length >= u32::MAX as usize) {
            return false;
        }
        match self.pairs.get_mut(key) {
            Some(old) if **old == *value => return false,
            Some(old) => *old = Arc::from(value),
            None => _ = self.pairs.insert(Arc::from(key), Arc::from(value)),
        }
        self.version += 1;
        true
    }

    /// Takes `key` out and gives its value, if it was there. The others keep their order, which costs a move of those
    /// behind it.
    pub fn remove(&mut self, key: &str) -> Option<Arc<[u8]>> {
        let value = self.pairs.shift_remove(key)?;
        self.version += 1;
        Some(value)
    }

    /// Takes every pair out and says whether there was one.
    pub fn clear(&mut self) -> bool {
        let changed = !self.is_empty();
        self.pairs.clear();
        self.version += u64::from(changed);
        changed
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The pairs, in the order in which their keys came.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.pairs.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Makes the pairs those of `other`, in its order, and says whether that changed anything. The version goes on
    /// counting this context's changes; `other`'s is not taken over.
    pub fn copy_from(&mut self, other: &Context) -> bool {
        let changed = self != other;
        if changed {
            self.pairs.clone_from(&other.pairs);
            self.version += 1;
        }
        changed
    }

    /// Counts the changes of the content: two equal versions of one context mean that nothing is to be written.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Appends the pairs as bytes. The version is not among them.
    pub fn serialize(&self, out: &mut Vec<u8>) {
        put_u32(out, u32::try_from(self.len()).expect("insert keeps the number of pairs below this"));
        for (key, value) in self.iter() {
            put_sized(out, key.as_bytes());
            put_sized(out, value);
        }
    }

    /// The context that [`serialize`](Self::serialize) made these bytes of, at version 0.
    ///
    /// # Errors
    ///
    /// When a length passes the end, bytes are left over, a key is not UTF-8, or a key comes twice. No more memory is
    /// taken than a small multiple of the bytes given.
    pub fn unserialize(bytes: &[u8]) -> Result<Context, DecodeError> {
        let mut input = Input::new(bytes);
        let count = input.u32()? as usize;
        if count > input.left() / SMALLEST_PAIR {
            return Err(input.refuse("more pairs than there are bytes for"));
        }
        let mut pairs = IndexMap::with_capacity(count);
        for _ in 0..count {
            let twice = input.refuse("a key that was there before");
            let (key, value) = (input.text()?, input.field()?);
            match pairs.entry(Arc::from(key)) {
                Entry::Vacant(place) => _ = place.insert(Arc::from(value)),
                Entry::Occupied(_) => return Err(twice),
            }
        }
        input.end()?;
        Ok(Context { pairs, version: 0 })
    }
}

/// Equal when the pairs and their order are; the version does not count.
impl PartialEq for Context {
    fn eq(&self, other: &Context) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Context {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(key, value)| (key, value.escape_ascii().to_string())))
            .finish()
    }
}

impl<K: AsRef<str>, V: AsRef<[u8]>> FromIterator<(K, V)> for Context {
    /// Inserts the pairs one after the other: of a key that comes twice, the last value stays.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Context {
        let mut context = Context::new();
        for (key, value) in pairs {
            context.insert(key, value);
        }
        context
    }
}

/// Which keys are left out when a message goes out of memory: Momentum's `exclude_vctx_conn` and `exclude_vctx_mess`.
///
/// A pattern is a key, or the beginning of keys and a `*`. Keys that begin with `#` are always kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContextFilter {
    keys: Vec<String>,
    beginnings: Vec<String>,
}

impl ContextFilter {
    /// A filter of these patterns; of none, it keeps every key. A `*` that is not last stands for itself.
    pub fn new<I: IntoIterator<Item: AsRef<str>>>(patterns: I) -> ContextFilter {
        let mut filter = ContextFilter::default();
        for pattern in patterns {
            match pattern.as_ref().strip_suffix('*') {
                Some(beginning) => filter.beginnings.push(beginning.to_owned()),
                None => filter.keys.push(pattern.as_ref().to_owned()),
            }
        }
        filter
    }

    /// Whether `key` is written.
    pub fn keeps(&self, key: &str) -> bool {
        let listed = || self.keys.iter().any(|listed| listed == key);
        let begins = || self.beginnings.iter().any(|beginning| key.starts_with(beginning.as_str()));
        key.starts_with('#') || !(listed() || begins())
    }

    /// Whether it leaves nothing out.
    pub fn keeps_all(&self) -> bool {
        self.keys.is_empty() && self.beginnings.is_empty()
    }

    /// The pairs of `context` that are kept, in their order and at its version: what is to be written of it.
    pub fn apply(&self, context: &Context) -> Context {
        let mut kept = context.clone();
        kept.pairs.retain(|key, _| self.keeps(key));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(context: &Context) -> Vec<&str> {
        context.iter().map(|(key, _)| key).collect()
    }

    fn bytes_of(context: &Context) -> Vec<u8> {
        let mut bytes = Vec::new();
        context.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn pairs_keep_the_order_in_which_their_keys_came() {
        let mut context = Context::from_iter([("b", "1"), ("a", "2"), ("c", "3")]);
        context.insert("b", "4");
        assert_eq!(keys(&context), ["b", "a", "c"]);
        context.remove("b");
        context.insert("b", "5");
        assert_eq!(keys(&context), ["a", "c", "b"]);
        assert_eq!(context.get("b"), Some(&b"5"[..]));
    }

    #[test]
    fn the_version_changes_with_the_content_and_with_nothing_else() {
        let mut context = Context::new();
        assert_eq!((context.insert("k", "v"), context.version()), (true, 1));
        assert_eq!((context.insert("k", "v"), context.version()), (false, 1));
        assert_eq!((context.insert("k", ""), context.version()), (true, 2));
        assert_eq!((context.remove("other"), context.version()), (None, 2));
        assert_eq!((context.remove("k").as_deref(), context.version()), (Some(&b""[..]), 3));
        assert_eq!((context.clear(), context.version()), (false, 3));
        let other = Context::from_iter([("a", "1"), ("b", "2")]);
        assert_eq!((context.copy_from(&other), context.version()), (true, 4));
        assert_eq!((context.copy_from(&other), context.version()), (false, 4));
        assert!(context == other && context.version() != other.version());
        assert_eq!((context.clear(), context.version(), context.len()), (true, 5, 0));
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let context = Context::from_iter([("k", "")]);
        assert!(context.contains_key("k") && !context.contains_key("other"));
        assert_eq!((context.get("k"), context.get("other")), (Some(&b""[..]), None));
    }

    #[test]
    fn a_value_that_is_no_text_comes_back_as_it_was() {
        let context = Context::from_iter([("helo", b"m\xfcller\0\r\n")]);
        let again = Context::unserialize(&bytes_of(&context)).unwrap();
        assert_eq!(again.get("helo"), Some(&b"m\xfcller\0\r\n"[..]));
        assert_eq!(again.text("helo").as_deref(), Some("m\u{fffd}ller\0\r\n"));
    }

    #[test]
    fn a_changed_clone_leaves_the_original_alone() {
        let original = Context::from_iter([("k", "v")]);
        let mut clone = original.clone();
        clone.insert("k", "w");
        assert_eq!((original.get("k"), original.version()), (Some(&b"v"[..]), 1));
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        let mut bytes = bytes_of(&Context::from_iter([("a", "1"), ("b", "2")]));
        bytes[18] = b'a';
        let error = Context::unserialize(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "a key that was there before at byte 14");
    }

    #[test]
    fn a_count_beyond_the_bytes_takes_no_memory_and_is_refused() {
        let error = Context::unserialize(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).unwrap_err();
        assert_eq!(error.what, "more pairs than there are bytes for");
    }

    #[test]
    fn a_key_that_is_no_text_is_refused() {
        let mut bytes = bytes_of(&Context::from_iter([("a", "1")]));
        bytes[8] = 0xff;
        assert_eq!(Context::unserialize(&bytes).unwrap_err().at, 4);
    }

    #[test]
    fn bytes_cut_short_or_longer_are_refused() {
        let mut bytes = bytes_of(&Context::from_iter([("key", "value"), ("another", "")]));
        for length in 0..bytes.len() {
            assert!(Context::unserialize(&bytes[..length]).is_err(), "{length} bytes");
        }
        bytes.push(0);
        assert!(Context::unserialize(&bytes).is_err());
    }

    #[test]
    fn a_filter_leaves_out_keys_and_beginnings_and_never_a_number_sign() {
        let filter = ContextFilter::new(["secret", "tmp_*", "#*", "a*b"]);
        for kept in ["secrets", "secre", "tmp", "#keep", "#", "ab", "axb", ""] {
            assert!(filter.keeps(kept), "{kept:?}");
        }
        for left_out in ["secret", "tmp_", "tmp_x", "a*b"] {
            assert!(!filter.keeps(left_out), "{left_out:?}");
        }
        let all = ContextFilter::new(["*"]);
        assert!(!all.keeps("") && !all.keeps("x") && all.keeps("#x"));
        assert!(ContextFilter::default().keeps("x"));
    }

    #[test]
    fn what_a_filter_keeps_is_in_order_and_of_the_same_version() {
        let context =
            Context::from_iter([("tmp_1", "1"), ("b", "2"), ("#tmp", "3"), ("tmp_2", "4"), ("a", "5")]);
        let kept = ContextFilter::new(["tmp_*"]).apply(&context);
        assert_eq!(keys(&kept), ["b", "#tmp", "a"]);
        assert_eq!((kept.version(), context.len()), (context.version(), 5));
    }

    proptest! {
        #[test]
        fn pairs_round_trip_through_bytes(pairs: Vec<(String, Vec<u8>)>) {
            let context = Context::from_iter(pairs);
            prop_assert_eq!(Context::unserialize(&bytes_of(&context)), Ok(context));
        }

        #[test]
        fn any_bytes_are_refused_or_are_what_is_written_of_them(bytes: Vec<u8>) {
            if let Ok(context) = Context::unserialize(&bytes) {
                prop_assert_eq!(bytes_of(&context), bytes);
            }
        }
    }
}
