//! What rpm prints.

use super::Package;

/// Asks for every package: name, architecture and version a line, parted by tabs.
pub(super) const QUERY: [&str; 4] =
    ["rpm", "-qa", "--queryformat", "%{NAME}\\t%{ARCH}\\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\\n"];

/// Asks for every file of every package, a line each.
pub(super) const FILES: [&str; 3] = ["rpm", "-qa", "--list"];

/// The packages in [`QUERY`]'s output. The signing keys that rpm keeps as packages are no packages.
pub(super) fn parse(output: &str) -> Vec<Package> {
    let package = |line: &str| {
        let mut fields = line.split('\t');
        let (name, arch, version) = (fields.next()?, fields.next()?, fields.next()?);
        let arch = if arch == "(none)" { "" } else { arch };
        (!name.is_empty() && name != "gpg-pubkey").then(|| Package {
            name: name.into(),
            arch: arch.into(),
            version: version.into(),
        })
    };
    output.lines().filter_map(package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_listed_without_keys_and_noise() {
        let output = "gpg-pubkey\t(none)\t18b8e74c-62f2920f\nbash\tx86_64\t5.2.15-1.amzn2023.0.2\n\
                      warning: something\nopenssl-libs\tx86_64\t1:3.0.8-1.amzn2023.0.11\n";
        let found: Vec<String> =
            parse(output).iter().map(|p| format!("{} {} {}", p.name, p.arch, p.version)).collect();
        assert_eq!(
            found,
            ["bash x86_64 5.2.15-1.amzn2023.0.2", "openssl-libs x86_64 1:3.0.8-1.amzn2023.0.11"]
        );
    }
}
