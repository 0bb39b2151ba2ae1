//! The numbers that C programs know: error codes and their names, and which of them an error of the engine becomes.

use jlog_core::{Error, ErrorKind};

/// Declares the error codes in the order of `jlog_err`, and their names.
macro_rules! codes {
    ($($name:ident = $number:literal),* $(,)?) => {
        // Some of them this engine never has cause for; their numbers are the interface's.
        $(#[allow(dead_code)] pub(crate) const $name: i32 = $number;)*

        /// The name of a code, as `jlog_err_string` gives it.
        pub(crate) fn name(code: i32) -> &'static std::ffi::CStr {
            let name = match code {
                $($number => concat!("JLOG_ERR_", stringify!($name), "\0"),)*
                _ => "",
            };
            // libjlog has no names for two of them.
            let is_named = !matches!(code, CREATE_PRE_COMMIT | PRE_COMMIT_OPEN);
            let name = std::ffi::CStr::from_bytes_with_nul(name.as_bytes()).ok();
            name.filter(|_| is_named).unwrap_or(c"Unknown")
        }
    };
}

codes! {
    SUCCESS = 0,
    ILLEGAL_INIT = 1,
    ILLEGAL_OPEN = 2,
    OPEN = 3,
    NOTDIR = 4,
    CREATE_PATHLEN = 5,
    CREATE_EXISTS = 6,
    CREATE_MKDIR = 7,
    CREATE_META = 8,
    CREATE_PRE_COMMIT = 9,
    LOCK = 10,
    IDX_OPEN = 11,
    IDX_SEEK = 12,
    IDX_CORRUPT = 13,
    IDX_WRITE = 14,
    IDX_READ = 15,
    FILE_OPEN = 16,
    FILE_SEEK = 17,
    FILE_CORRUPT = 18,
    FILE_READ = 19,
    FILE_WRITE = 20,
    META_OPEN = 21,
    PRE_COMMIT_OPEN = 22,
    ILLEGAL_WRITE = 23,
    ILLEGAL_CHECKPOINT = 24,
    INVALID_SUBSCRIBER = 25,
    ILLEGAL_LOGID = 26,
    SUBSCRIBER_EXISTS = 27,
    CHECKPOINT = 28,
    NOT_SUPPORTED = 29,
    CLOSE_LOGID = 30,
}

/// Why a call failed: what `jlog_ctx_err`, `jlog_ctx_errno` and `jlog_ctx_err_detail` tell afterwards.
#[derive(Debug)]
pub(crate) struct Failure {
    /// `None`: the call fails, and what an earlier call has left as the error stays, as in libjlog.
    pub(crate) told: Option<(i32, i32)>,
    pub(crate) detail: String,
    /// Where in these sources it was found: what libjlog's callback is told first.
    pub(crate) line: i32,
}

/// The outcome of a call before it becomes a C return value.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure with a code and an errno of the caller's choice.
    #[track_caller]
    pub(crate) fn new(code: i32, errno: i32) -> Failure {
        let line = i32::try_from(std::panic::Location::caller().line()).unwrap_or(0);
        Failure { told: Some((code, errno)), detail: String::new(), line }
    }

    /// A failure that leaves the context's last error as it is.
    pub(crate) fn untold() -> Failure {
        Failure { told: None, detail: String::new(), line: 0 }
    }

    /// With words for who asks for them.
    pub(crate) fn because(mut self, detail: impl Into<String>) -> Failure {
        self.detail = detail.into();
        self
    }

    /// An error of the operating system.
    pub(crate) fn of_system(code: i32, error: &std::io::Error) -> Failure {
        Failure::new(code, error.raw_os_error().unwrap_or(libc::EIO)).because(error.to_string())
    }
}

/// Gives the engine's errors the code that the call has for them.
pub(crate) trait Coded<T> {
    fn code(self, code: i32) -> Outcome<T>;
    /// A failure that leaves the context's last error as it is.
    fn untold(self) -> Outcome<T>;
}

impl<T> Coded<T> for jlog_core::Result<T> {
    fn code(self, code: i32) -> Outcome<T> {
        self.map_err(|error| {
            let code = if error.kind() == ErrorKind::Busy { LOCK } else { code };
            Failure::new(code, errno_of(&error)).because(error.to_string())
        })
    }

    fn untold(self) -> Outcome<T> {
        self.map_err(|error| Failure::untold().because(error.to_string()))
    }
}

impl<T> Coded<T> for std::io::Result<T> {
    fn code(self, code: i32) -> Outcome<T> {
        self.map_err(|error| Failure::of_system(code, &error))
    }

    fn untold(self) -> Outcome<T> {
        self.map_err(|error| Failure::untold().because(error.to_string()))
    }
}

/// The errno of an error: the system's own where there is one.
pub(crate) fn errno_of(error: &Error) -> i32 {
    error.os_error().unwrap_or(match error.kind() {
        ErrorKind::NotFound | ErrorKind::UnknownSubscriber | ErrorKind::NoSuchRecord => libc::ENOENT,
        ErrorKind::AlreadyExists | ErrorKind::SubscriberExists => libc::EEXIST,
        ErrorKind::NotALog => libc::ENOTDIR,
        ErrorKind::Permission => libc::EACCES,
        ErrorKind::NoSpace => libc::ENOSPC,
        ErrorKind::Busy => libc::EAGAIN,
        ErrorKind::Invalid => libc::EINVAL,
        ErrorKind::TooLarge => libc::EFBIG,
        ErrorKind::Unsupported => libc::ENOTSUP,
        // Poisoned, Damaged, Io, and whatever is added.
        _ => libc::EIO,
    })
}
