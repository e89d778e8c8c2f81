//! Rights beyond those of whoever runs a program: set-id bits and file capabilities.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::ByPath;

/// Where distributions keep programs, and how deep: a base's set-id programs are noted there alone, since
/// looking at every file of a volume that is loaded from afar would take many seconds.
const PLACES: [(&str, u32); 10] = [
    ("bin", 1),
    ("sbin", 1),
    ("lib", 3),
    ("usr/bin", 1),
    ("usr/sbin", 1),
    ("usr/lib", 3),
    ("usr/libexec", 3),
    ("usr/games", 1),
    ("usr/local/bin", 1),
    ("usr/local/sbin", 1),
];

/// Folders of libraries and of kernels' modules: large, and without programs.
const NOT_DEEPER: [&str; 6] = ["modules", "firmware", "python3", "locale", "gcc", "debug"];

/// The rights of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rights {
    /// The set-id bits, where it is executable by somebody.
    set_id: u32,
    /// Whom they are for.
    owner: (u32, u32),
    /// `security.capability`.
    capabilities: Option<Vec<u8>>,
}

impl Rights {
    /// Those of a regular file that `meta` is of; none where it has none beyond the ordinary.
    pub(super) fn of(path: &Path, meta: &std::fs::Metadata) -> Option<Self> {
        if !meta.is_file() {
            return None;
        }
        let set_id = set_id(meta.mode());
        // A filesystem without extended attributes has no capabilities either.
        let capabilities = if meta.mode() & 0o111 == 0 {
            None
        } else {
            xattr::get(path, "security.capability").ok().flatten()
        };
        (set_id != 0 || capabilities.is_some()).then(|| Self {
            set_id,
            owner: (meta.uid(), meta.gid()),
            capabilities,
        })
    }

    /// In words: `set-uid root`.
    pub(super) fn words(&self) -> String {
        let mut words = Vec::new();
        let name = |id: u32| if id == 0 { "root".to_owned() } else { id.to_string() };
        if self.set_id & 0o4000 != 0 {
            words.push(format!("set-uid {}", name(self.owner.0)));
        }
        if self.set_id & 0o2000 != 0 {
            words.push(format!("set-gid {}", name(self.owner.1)));
        }
        if self.capabilities.is_some() {
            words.push("file capabilities".to_owned());
        }
        words.join(", ")
    }

    /// Whether it is of capabilities alone.
    pub(super) fn only_capabilities(&self) -> bool {
        self.set_id == 0
    }
}

/// The set-id bits that give somebody something: set-gid without the group's execute bit is a lock's mark.
fn set_id(mode: u32) -> u32 {
    let uid = if mode & 0o111 != 0 { mode & 0o4000 } else { 0 };
    let gid = if mode & 0o010 != 0 { mode & 0o2000 } else { 0 };
    uid | gid
}

/// The programs of the base that have such rights.
pub(super) fn programs(root: &Path) -> Result<ByPath<Rights>> {
    let mut found = ByPath::new();
    for (place, depth) in PLACES {
        let inner = PathBuf::from(place);
        // Merged /usr: /bin is a link, and its target is a place of its own.
        if super::tree::plain_folder(root, &inner).is_some() {
            look(root, &inner, depth, &mut found)?;
        }
    }
    Ok(found)
}

fn look(root: &Path, inner: &Path, depth: u32, found: &mut ByPath<Rights>) -> Result<()> {
    let what = || format!("reading /{}", inner.display());
    for entry in std::fs::read_dir(root.join(inner)).with_context(what)? {
        let entry = entry.with_context(what)?;
        let kind = entry.file_type().with_context(what)?;
        let name = entry.file_name();
        if kind.is_file() {
            let meta = entry.metadata().with_context(what)?;
            if let Some(rights) = Rights::of(&entry.path(), &meta) {
                found.insert(inner.join(name), rights);
            }
        } else if kind.is_dir() && depth > 1 && !NOT_DEEPER.contains(&&*name.to_string_lossy()) {
            look(root, &inner.join(name), depth - 1, found)?;
        }
    }
    Ok(())
}
