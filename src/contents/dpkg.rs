//! dpkg's status file.

use super::Package;

/// The packages of a status file that are unpacked at least (a removed package's configuration files are
/// listed there too). Stanzas that make no sense are passed over.
pub(super) fn parse_status(text: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    for stanza in text.split("\n\n") {
        let (mut name, mut arch, mut version, mut installed) = (None, None, None, false);
        for line in stanza.lines() {
            let Some((field, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            // Continuation lines begin with a space, so that no field's name can match one.
            match field.to_ascii_lowercase().as_str() {
                "package" => name = Some(value),
                "architecture" => arch = Some(value),
                "version" => version = Some(value),
                // `want error status`: see dpkg(1), "package states".
                "status" => {
                    let state = value.split_ascii_whitespace().nth(2);
                    installed = state.is_some_and(|state| !matches!(state, "not-installed" | "config-files"));
                }
                _ => {}
            }
        }
        if let (Some(name), Some(version), true) = (name, version, installed) {
            let arch = arch.unwrap_or_default();
            packages.push(Package { name: name.into(), arch: arch.into(), version: version.into() });
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Stanzas of a Debian 12 root, shortened.
    const STATUS: &str = "\
Package: adduser
Status: install ok installed
Priority: important
Section: admin
Installed-Size: 686
Architecture: all
Multi-Arch: foreign
Version: 3.134
Depends: passwd
Conffiles:
 /etc/adduser.conf d7b2a3
 /etc/deluser.conf 5a8d1f
Description: add and remove users and groups
 This package includes the 'adduser' and 'deluser' commands.
 .
 Version: this is no field

Package: nginx-common
Status: deinstall ok config-files
Architecture: all
Version: 1.22.1-9
Config-Version: 1.22.1-9

Package: libc6
Status: install ok half-configured
Architecture: amd64
Multi-Arch: same
Version: 2.36-9+deb12u10

Package: gone
Status: purge ok not-installed
Architecture: amd64
";

    #[test]
    fn installed_packages_are_listed_and_no_others() {
        let found: Vec<String> =
            parse_status(STATUS).iter().map(|p| format!("{} {} {}", p.name, p.arch, p.version)).collect();
        assert_eq!(found, ["adduser all 3.134", "libc6 amd64 2.36-9+deb12u10"]);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed(text in "(Package|Version|Status|Architecture|:|\n|\n\n|[a-z ]|install ok installed){0,60}") {
            for package in parse_status(&text) {
                prop_assert!(!package.name.contains('\n') && !package.version.contains('\n'));
            }
        }
    }
}
