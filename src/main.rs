//! The command: a thin shell around the library.

fn main() {
    bakehouse::sandbox::entry(&[]);
}
