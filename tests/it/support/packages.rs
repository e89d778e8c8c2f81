//! Packages made by the real tools.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::host::run;

/// A Debian package to be built.
#[derive(Default)]
pub struct Deb<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Further lines of its control file.
    pub control: &'a str,
    /// Path in the package, content, mode.
    pub files: &'a [(&'a str, &'a str, u32)],
    /// Name (`postinst`) and content.
    pub scripts: &'a [(&'a str, &'a str)],
}

impl Deb<'_> {
    /// Builds it in `folder`; its path.
    pub fn build(&self, folder: &Path) -> PathBuf {
        let tree = tempfile::tempdir_in(folder).unwrap();
        let put = |path: &str, content: &str, mode: u32| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let (name, version) = (self.name, self.version);
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Test <test@example.org>\n{}Description: a test\n",
            self.control
        );
        put("DEBIAN/control", &control, 0o644);
        for (path, content, mode) in self.files {
            put(path, content, *mode);
        }
        for (script, content) in self.scripts {
            put(&format!("DEBIAN/{script}"), content, 0o755);
        }
        std::fs::set_permissions(tree.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.join(format!("{name}_{version}_all.deb"));
        let arguments = [
            "--root-owner-group",
            "-Znone",
            "--build",
            tree.path().to_str().unwrap(),
            file.to_str().unwrap(),
        ];
        run("dpkg-deb", &arguments);
        file
    }
}
