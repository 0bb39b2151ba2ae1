//! `jlog-repair`: mends a damaged log, by a plan.

use std::process::ExitCode;

fn main() -> ExitCode {
    jlog_tools::repair::main()
}
