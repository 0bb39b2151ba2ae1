//! `jlog`: daily work with a log.

use std::process::ExitCode;

fn main() -> ExitCode {
    jlog_tools::daily::main()
}
