//! The shipped provisioners, embedded from the repository's `provisioners/`.

use std::path::PathBuf;

use super::ScriptFile;

macro_rules! embedded {
    ($($mode:literal $path:literal)*) => {
        &[$(($path, $mode, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/provisioners/", $path)))),*]
    };
}

/// Every file of every shipped provisioner: path below `provisioners/`, permission bits, content. A test holds
/// it against the folder.
#[rustfmt::skip]
const FILES: &[(&str, u32, &[u8])] = embedded! {
    0o644 "ansible/connection/bakehouse.py"
    0o644 "ansible/provisioner.toml"
    0o755 "ansible/run"
    0o644 "apt/apt.conf"
    0o644 "apt/provisioner.toml"
    0o755 "apt/query"
    0o755 "apt/run"
    0o644 "apt/sources.sh"
    0o644 "chef/provisioner.toml"
    0o755 "chef/run"
    0o644 "dnf/provisioner.toml"
    0o755 "dnf/query"
    0o644 "dnf/repositories.sh"
    0o755 "dnf/run"
    0o644 "files/provisioner.toml"
    0o644 "package/provisioner.toml"
    0o644 "puppet/modules/image/lib/puppet/provider/service/systemd.rb"
    0o644 "puppet/provisioner.toml"
    0o755 "puppet/run"
    0o644 "salt/provisioner.toml"
    0o755 "salt/run"
    0o644 "script/provisioner.toml"
    0o644 "system/accounts"
    0o644 "system/boot"
    0o644 "system/lib"
    0o644 "system/locale"
    0o644 "system/provisioner.toml"
    0o755 "system/run"
    0o644 "system/units"
};

/// The files of a shipped provisioner, sorted by path; none where there is no such one.
pub(super) fn files(name: &str) -> Vec<ScriptFile> {
    let mut files: Vec<ScriptFile> = FILES
        .iter()
        .filter_map(|(path, mode, content)| {
            let (folder, path) = path.split_once('/')?;
            let file = || ScriptFile { path: PathBuf::from(path), mode: *mode, content: content.to_vec() };
            (folder == name).then(file)
        })
        .collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

/// The names of the shipped provisioners.
pub(super) fn names() -> Vec<String> {
    let names = FILES.iter().filter_map(|(path, _, _)| path.strip_suffix("/provisioner.toml"));
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    fn list(folder: &Path, below: &str, found: &mut Vec<(String, u32)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{below}{}", entry.file_name().to_str().unwrap());
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                list(&entry.path(), &format!("{path}/"), found);
            } else if path.contains('/') {
                // The executable bit is all that git keeps of a mode.
                let mode = if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
                found.push((path, mode));
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_embedded_with_its_mode() {
        let mut found = Vec::new();
        list(&Path::new(env!("CARGO_MANIFEST_DIR")).join("provisioners"), "", &mut found);
        found.sort();
        let lines = |files: &[(String, u32)]| -> String {
            files.iter().map(|(path, mode)| format!("    0o{mode:o} {path:?}\n")).collect()
        };
        let mut embedded: Vec<_> = FILES.iter().map(|(path, mode, _)| ((*path).to_owned(), *mode)).collect();
        embedded.sort();
        assert!(embedded == found, "the list in shipped.rs should be:\n{}", lines(&found));
    }
}
