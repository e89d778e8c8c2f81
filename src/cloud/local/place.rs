//! Who and what this host is.

use anyhow::{Context as _, Result};

use crate::cloud::binfmt;
use crate::plan::{Arch, Place};

/// This host as a builder.
pub(super) fn here() -> Result<Place> {
    let name = nix::sys::utsname::uname().context("asking the kernel its name")?;
    let machine = name.machine().to_string_lossy().into_owned();
    let arch = Arch::parse(&machine)
        .with_context(|| format!("this host's architecture, {machine}, is not one that images have"))?;
    Ok(Place {
        cloud: "local".to_owned(),
        region: "local".to_owned(),
        zone: None,
        builder: name.nodename().to_string_lossy().into_owned(),
        arch,
        account: None,
        runs: binfmt::runs(arch),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_runs_its_own_architecture_first() {
        let place = here().unwrap();
        assert_eq!(place.runs.first(), Some(&place.arch));
        assert!(!place.builder.is_empty());
    }
}
