//! Which architectures this host can run: its own, and those that binfmt_misc serves.

use std::path::Path;

use crate::plan::Arch;

/// Where the kernel lists the interpreters for programs of other architectures.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// The builder's own architecture first, then those that an interpreter serves inside any root.
pub(super) fn runs(own: Arch) -> Vec<Arch> {
    let others = interpreted(Path::new(BINFMT)).into_iter().filter(|other| *other != own);
    std::iter::once(own).chain(others).collect()
}

/// The architectures that registered interpreters serve. None when the list cannot be read.
fn interpreted(folder: &Path) -> Vec<Arch> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        // `register` cannot be read, `status` does not parse as an interpreter.
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        if let Some(arch) = served(&text)
            && !found.contains(&arch)
        {
            found.push(arch);
        }
    }
    found
}

/// The architecture that one entry of binfmt_misc serves inside any root: it must be enabled, and have the flag
/// `F`, with which the kernel opens the interpreter once at registration instead of looking it up in the root.
/// See the kernel's Documentation/admin-guide/binfmt-misc.rst.
fn served(entry: &str) -> Option<Arch> {
    let mut lines = entry.lines();
    if lines.next() != Some("enabled") {
        return None;
    }
    let value = |key: &str| entry.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    if !value("flags:")?.contains('F') || value("offset").is_some_and(|offset| offset != "0") {
        return None;
    }
    let magic = value("magic")?;
    // An ELF header's e_machine is at byte 18, little-endian here: two hexadecimal digits a byte.
    match (magic.get(..8), magic.get(36..40)) {
        (Some("7f454c46"), Some("b700")) => Some(Arch::Arm64),
        (Some("7f454c46"), Some("3e00")) => Some(Arch::X86_64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AARCH64: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n\
                           magic 7f454c460201010000000000000000000200b700\n\
                           mask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn an_interpreter_counts_when_it_works_inside_any_root() {
        assert_eq!(served(AARCH64), Some(Arch::Arm64));
        assert_eq!(served(&AARCH64.replace("POCF", "POC")), None);
        assert_eq!(served(&AARCH64.replace("enabled", "disabled")), None);
        assert_eq!(served(&AARCH64.replace("b700", "3e00")), Some(Arch::X86_64));
        assert_eq!(served("enabled\ninterpreter /usr/bin/python3\nflags: F\noffset 0\nmagic 0a0d\n"), None);
        assert_eq!(served("enabled\n"), None);
    }
}
