//! `jlog-inspect`: looks at a log, and changes nothing.

use std::process::ExitCode;

fn main() -> ExitCode {
    jlog_tools::inspect::main()
}
