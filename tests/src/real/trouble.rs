//! Trouble for other processes, made by the system's own means: strace, limits, file systems of our own, power cuts.
//!
//! All mounts are made in a mount namespace of this process, so that they are gone with it, however it ends, and their
//! loop devices with them. Nothing is touched that was not made here.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

/// Set in processes that have a mount namespace of their own.
const APART: &str = "JLOG_FAULTS_APART";

/// Starts the program again in a mount namespace of its own, if it may. Call it first.
pub fn go_apart() {
    if !is_root() || is_apart() {
        return;
    }
    let mut again = Command::new("unshare");
    again.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
    again.args(std::env::args_os().skip(1)).env(APART, "1");
    // Where that is not allowed, it goes on here, and what needs mounts is skipped.
    let allowed = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    if allowed.is_ok_and(|status| status.success()) {
        panic!("unshare: {}", again.exec());
    }
}

fn is_apart() -> bool {
    std::env::var_os(APART).is_some()
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Whether a program is installed.
pub fn has(program: &str) -> bool {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&dirs).any(|dir| dir.join(program).is_file())
}

/// Why file systems cannot be mounted here, if they cannot.
pub fn no_mounts() -> Option<&'static str> {
    match () {
        () if !is_root() => Some("not root"),
        () if !is_apart() => Some("no mount namespace of its own"),
        () if !Path::new("/dev/loop-control").exists() => Some("no /dev/loop-control"),
        () => None,
    }
}

/// Where trouble is made: a directory in memory if there is one, gone with this value.
pub struct Field {
    dir: TempDir,
    next: AtomicU64,
    /// A copy of this program that everybody may run.
    exe: PathBuf,
}

impl Field {
    /// In memory.
    pub fn in_memory() -> Field {
        let memory = PathBuf::from("/dev/shm");
        Field::below(&if memory.is_dir() { memory } else { std::env::temp_dir() })
    }

    /// On the disk that holds temporary files.
    pub fn on_disk() -> Field {
        Field::below(&std::env::temp_dir())
    }

    fn below(dir: &Path) -> Field {
        let dir = tempfile::Builder::new().prefix("jlog-faults-").tempdir_in(dir).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let exe = dir.path().join("program");
        fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
        Field { dir, next: AtomicU64::new(0), exe }
    }

    /// A new directory for one trial.
    pub fn place(&self) -> Place {
        let dir = self.dir.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&dir).unwrap();
        Place { dir, exe: self.exe.clone() }
    }
}

/// The directory of one trial, emptied with this value.
pub struct Place {
    dir: PathBuf,
    exe: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Place {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A part of this program, run under others.
    pub fn part(&self, under: &[&str], words: &[&str]) -> Command {
        let mut line: Vec<&str> = under.to_vec();
        let exe = self.exe.to_str().unwrap();
        line.extend([exe, "part"]);
        line.extend(words);
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).stdin(Stdio::null()).env("RUST_BACKTRACE", "0");
        command
    }

    /// Runs a part to its end, or to the end of a minute.
    pub fn run(&self, under: &[&str], words: &[&str]) -> Ended {
        let under: Vec<&str> = ["timeout", "-k", "5", "60"].iter().chain(under).copied().collect();
        Ended(self.part(&under, words).output().unwrap())
    }

    /// Runs the check of what a part has left in `log`, by its `notes`.
    pub fn check(&self, kind: &str, log: &Path, notes: &Path) -> Result<String, String> {
        let ended = self.run(&[], &["check", kind, log.to_str().unwrap(), notes.to_str().unwrap()]);
        if ended.code() == Some(0) { Ok(ended.told()) } else { Err(format!("{kind}: {}", ended.said())) }
    }
}

/// How a part ended.
pub struct Ended(pub Output);

impl Ended {
    pub fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    /// Killed; `timeout` and `strace` tell of it in their own ways.
    pub fn was_killed(&self) -> bool {
        self.0.status.signal() == Some(9) || self.code() == Some(137)
    }

    pub fn told(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).trim().to_owned()
    }

    /// Its last words, in one line.
    pub fn said(&self) -> String {
        let words = String::from_utf8_lossy(&self.0.stderr);
        let hang = if self.code() == Some(124) { "it hangs; " } else { "" };
        let words: Vec<&str> = words.split_whitespace().collect();
        format!("{hang}{}: {}", self.0.status, words.join(" "))
    }
}

/// A file system of our own, unmounted with this value.
pub struct Mount {
    pub dir: PathBuf,
}

impl Mount {
    pub fn new(dir: PathBuf, arguments: &[&str]) -> Result<Mount, String> {
        fs::create_dir_all(&dir).unwrap();
        must(Command::new("mount").args(arguments).arg(&dir))?;
        Ok(Mount { dir })
    }

    /// A file system in an image file, on a loop device.
    pub fn image(image: &Path, dir: PathBuf, options: &str) -> Result<Mount, String> {
        let options = if options.is_empty() { "loop".to_owned() } else { format!("loop,{options}") };
        Mount::new(dir, &["-o", &options, image.to_str().unwrap()])
    }

    /// Unmounts it, which has to succeed: nobody is to have anything open in it.
    pub fn end(self) -> Result<(), String> {
        let dir = self.dir.clone();
        std::mem::forget(self);
        must(Command::new("umount").arg(&dir)).map(drop).inspect_err(|_| {
            let _ = Command::new("umount").arg("-l").arg(&dir).status();
        })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}

/// What tells one start of the machine from another, in a file of ours, for as long as this value is there: a power cut
/// that the machine survives is none to those who ask whether it was started again.
pub struct Boot {
    file: PathBuf,
    _mount: Mount,
}

const BOOT: &str = "/proc/sys/kernel/random/boot_id";

impl Boot {
    pub fn pretended(file: &Path) -> Result<Boot, String> {
        let boot = fs::read(BOOT).map_err(|error| format!("{BOOT}: {error}"))?;
        fs::write(file, boot).unwrap();
        must(Command::new("mount").args(["--bind", file.to_str().unwrap(), BOOT]))?;
        Ok(Boot { file: file.to_owned(), _mount: Mount { dir: BOOT.into() } })
    }

    /// Another start.
    pub fn again(&self, number: u64) {
        fs::write(&self.file, format!("{:08x}-0000-4000-8000-000000000000\n", number as u32)).unwrap();
    }
}

/// Runs a command that has to succeed.
pub fn must(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// Makes an image with a file system in it.
pub fn make_image(image: &Path, file_system: &str, megabytes: u64) -> Result<(), String> {
    fs::File::create(image).unwrap().set_len(megabytes << 20).unwrap();
    let mut make = Command::new(format!("mkfs.{file_system}"));
    match file_system {
        "ext4" => make.args(["-q", "-F", "-m", "0"]),
        _ => make.args(["-q", "-f"]),
    };
    must(make.arg(image)).map(drop)
}

/// Cuts a file system off from its disk, without writing its journal: what is not on the disk now is lost. The same as
/// `xfs_io -x -c shutdown`, by the perl that every Debian has.
pub fn shut_down(dir: &Path) -> Result<(), String> {
    // EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN: _IOR('X', 125, u32); 2 is NOLOGFLUSH.
    let script = r#"sysopen(my $dir, $ARGV[0], 0) or die "$!"; my $how = pack("L", 2); ioctl($dir, 0x8004587d, $how) or die "$!""#;
    must(Command::new("perl").args(["-e", script]).arg(dir)).map(drop)
}
