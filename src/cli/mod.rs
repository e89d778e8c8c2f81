//! One file a subcommand: flags in, result out on stdout, everything else on stderr.

pub mod validate;
