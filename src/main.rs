//! The command: a thin shell around the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    bakehouse::sandbox::entry(bakehouse::provision::BUILTINS);
    bakehouse::cli::main()
}
