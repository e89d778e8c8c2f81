//! The command: a thin shell around the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let builtins = [bakehouse::provision::BUILTINS, bakehouse::contents::hygiene::BUILTINS].concat();
    bakehouse::sandbox::entry(&builtins);
    bakehouse::provision::inside();
    bakehouse::cli::main()
}
