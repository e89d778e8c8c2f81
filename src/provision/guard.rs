//! What stands in the root only while steps run: the guard against services, what answers for GRUB's probe, and a
//! provisioner's own temporary files. Put there and taken back by this binary inside the sandbox, so that the image's links
//! lead nowhere else.
//!
//! What the image has at such a path is renamed aside, in its own folder, and renamed back afterwards: its
//! content, owner, mode and every attribute stay with it. Nothing is mounted over the files, because dpkg
//! could not replace them then. Where the root has dpkg, the guarded programs are also diverted, so that an
//! upgrade of their packages lands on the file aside. rpm has no such thing: there an upgrade puts the new
//! program in the guard's place, and the new program stays.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::diversions;

/// Added to a path for the name aside.
const ASIDE: &str = ".bakehouse";

/// A file to be put in place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Placement {
    /// Absolute, inside. Others are further names of it by which a package may own it.
    paths: Vec<PathBuf>,
    /// The content, or the file inside that has it.
    content: Content,
    /// Permission bits.
    mode: u32,
    /// Only where the image has something there.
    only_instead: bool,
    /// dpkg is told that the path is diverted.
    divert: bool,
}

/// Where a placement's content comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Content {
    Text(String),
    File(PathBuf),
}

/// A file that was put in place: all that taking it back needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Placed {
    /// With links of its folder resolved.
    path: PathBuf,
    /// SHA-256 of what was put there, hexadecimal.
    sha256: String,
    /// Folders that were made for it, outermost first.
    made: Vec<PathBuf>,
}

/// What the builtins are told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) place: Vec<Placement>,
    /// What an order before this one answered.
    pub(super) before: Answer,
    /// Folders that must be there, for something to be mounted on.
    pub(super) folders: Vec<PathBuf>,
}

impl Answer {
    /// Whether everything that was put there is there still, looked at from the builder.
    pub(super) fn holds(&self, root: &Path) -> bool {
        !self.placed.is_empty()
            && self.placed.iter().all(|placed| {
                let content = crate::beneath::read(root, &placed.path);
                content.is_ok_and(|content| content.is_some_and(|content| digest(&content) == placed.sha256))
            })
    }
}

/// What [`put`] answers, as one line of JSON.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) placed: Vec<Placed>,
    /// Paths that dpkg was told are diverted.
    pub(super) diverted: Vec<PathBuf>,
    /// Folders that were made, outermost first.
    pub(super) made: Vec<PathBuf>,
}

/// The guard: what starts and stops services answers that all is well, and does nothing.
pub(super) fn services() -> Vec<Placement> {
    let quiet = |message: &str| format!("#!/bin/sh\necho \"bakehouse: {message}\" >&2\nexit 0\n");
    vec![
        Placement {
            paths: vec![PathBuf::from("/usr/sbin/policy-rc.d")],
            // 101: action not allowed (invoke-rc.d's interface).
            content: Content::Text("#!/bin/sh\nexit 101\n".to_owned()),
            mode: 0o755,
            only_instead: false,
            divert: true,
        },
        program("service", quiet("services do not start while an image is baked: service $*")),
        program("initctl", quiet("services do not start while an image is baked: initctl $*")),
        program(
            "start-stop-daemon",
            quiet("services do not start while an image is baked: start-stop-daemon $*"),
        ),
        program("systemctl", SYSTEMCTL.to_owned()),
    ]
}

/// systemctl with the verbs that need a running system taken out; enabling and its like work as ever.
/// `@REAL@` is the image's own.
const SYSTEMCTL: &str = r#"#!/bin/sh
SYSTEMD_OFFLINE=1
export SYSTEMD_OFFLINE
case ${0##*/} in
systemctl) ;;
*) exit 0 ;;
esac
skip=
for word in "$@"; do
    if [ -n "$skip" ]; then skip=; continue; fi
    case $word in
    -t | -p | -P | -n | -o | -s | -H | -M | --type | --state | --property | --lines | --output | --signal | --host | --machine | --root | --image | --job-mode | --kill-whom | --preset-mode | --what | --timestamp | --when) skip=1 ;;
    -*) ;;
    start | stop | restart | reload | try-restart | reload-or-restart | try-reload-or-restart | reload-or-try-restart | force-reload | condrestart | condreload | condstop | isolate | kill | freeze | thaw | clean | reset-failed | daemon-reload | daemon-reexec | default | rescue | emergency | halt | poweroff | reboot | soft-reboot | kexec | exit | switch-root | suspend | hibernate | hybrid-sleep | suspend-then-hibernate)
        echo "bakehouse: services do not start while an image is baked: systemctl $*" >&2
        exit 0
        ;;
    *) break ;;
    esac
done
if [ -x @REAL@ ]; then exec @REAL@ "$@"; fi
exit 0
"#;

/// A program in place of the image's own, where it has one. `@REAL@` in it is the image's own.
pub(super) fn program(name: &str, content: String) -> Placement {
    Placement {
        // Where the folders are one (merged /usr), these are names of one file.
        paths: ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
            .iter()
            .map(|folder| Path::new(folder).join(name))
            .collect(),
        content: Content::Text(content),
        mode: 0o755,
        only_instead: true,
        divert: true,
    }
}

/// A provisioner's temporary file, whose content is at `source` inside.
pub(super) fn temporary(path: &Path, source: PathBuf, mode: u32) -> Placement {
    let content = Content::File(source);
    Placement { paths: vec![path.to_owned()], content, mode, only_instead: false, divert: false }
}

/// The builtin that puts an [`Order`]'s files in place. What is in place already stays.
pub(super) fn put(argument: serde_json::Value) -> Result<()> {
    let order: Order = serde_json::from_value(argument).context("reading the order")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let mut answer = order.before;
    for folder in &order.folders {
        make_folders(folder, &mut answer.made)?;
    }
    // Settled first, so that one file known by several names is put once.
    let mut diverted = Vec::new();
    for placement in &order.place {
        let mut paths: Vec<PathBuf> = Vec::new();
        for given in &placement.paths {
            let path = settled(given)?;
            if placement.divert && (!placement.only_instead || exists(&path)) {
                diverted.push(given.clone());
            }
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        for path in paths {
            let before = answer.placed.iter().position(|placed| placed.path == path);
            if before.is_some_and(|index| answer.placed.get(index).is_some_and(is_ours)) {
                continue;
            }
            // Something took its place since: what is there now is the image's.
            let before = before.map(|index| answer.placed.remove(index));
            if let Some(before) = &before {
                take_back_one(before)?;
            }
            if let Some(placed) = place(placement, path)? {
                answer.placed.push(placed);
            }
        }
    }
    answer.diverted.extend(diversions::add(&diverted, ASIDE)?);
    println!("{}", serde_json::to_string(&answer).context("writing the answer")?);
    Ok(())
}

/// The builtin that takes everything of an [`Answer`] back.
pub(super) fn take_back(argument: serde_json::Value) -> Result<()> {
    let answer: Answer = serde_json::from_value(argument).context("reading the order")?;
    diversions::remove(&answer.diverted, ASIDE)?;
    for placed in answer.placed.iter().rev() {
        take_back_one(placed).with_context(|| format!("putting {} back as it was", placed.path.display()))?;
    }
    remove_folders(&answer.made)
}

/// The path with its folder's links resolved; the file itself may be a link.
fn settled(path: &Path) -> Result<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{} has no name", path.display());
    };
    Ok(std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned()).join(name))
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

fn aside_of(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(ASIDE);
    PathBuf::from(aside)
}

fn place(placement: &Placement, path: PathBuf) -> Result<Option<Placed>> {
    let what = || format!("putting {} in place for the steps", path.display());
    let there = match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => bail!("{} is a folder in the image", path.display()),
        Ok(_) => true,
        Err(_) if placement.only_instead => return Ok(None),
        Err(_) => false,
    };
    let aside = aside_of(&path);
    if exists(&aside) {
        bail!("{} is there already: the base was left in the middle of a bake", aside.display());
    }
    let content = match &placement.content {
        Content::Text(text) => text.replace("@REAL@", &aside.to_string_lossy()).into_bytes(),
        Content::File(source) => {
            std::fs::read(source).with_context(|| format!("reading {}", source.display()))?
        }
    };
    let mut made = Vec::new();
    if let Some(folder) = path.parent() {
        make_folders(folder, &mut made)?;
    }
    let mut new = aside.clone().into_os_string();
    new.push("-new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).with_context(what)?;
    file.write_all(&content).with_context(what)?;
    file.set_permissions(std::fs::Permissions::from_mode(placement.mode)).with_context(what)?;
    drop(file);
    if there {
        std::fs::rename(&path, &aside).with_context(what)?;
    }
    std::fs::rename(&new, &path).with_context(what)?;
    let sha256 = digest(&content);
    Ok(Some(Placed { path, sha256, made }))
}

fn digest(content: &[u8]) -> String {
    format!("{:x}", Sha256::digest(content))
}

/// Whether what was put there is there still.
fn is_ours(placed: &Placed) -> bool {
    std::fs::symlink_metadata(&placed.path).is_ok_and(|meta| meta.is_file())
        && std::fs::read(&placed.path).is_ok_and(|content| digest(&content) == placed.sha256)
}

fn take_back_one(placed: &Placed) -> Result<()> {
    let path = &placed.path;
    let aside = aside_of(path);
    match (is_ours(placed), exists(&aside)) {
        // The image's own, or what a package put there meanwhile by way of the diversion.
        (true, true) => {
            std::fs::rename(&aside, path).with_context(|| format!("renaming {}", aside.display()))?
        }
        (true, false) => {
            std::fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?
        }
        // A step wrote or removed the file itself: that is what would be there without us.
        (false, true) => {
            std::fs::remove_file(&aside).with_context(|| format!("removing {}", aside.display()))?
        }
        (false, false) => {}
    }
    remove_folders(&placed.made)
}

fn make_folders(folder: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|above| !above.is_dir()).collect();
    for above in missing.into_iter().rev() {
        std::fs::create_dir(above).with_context(|| format!("making the folder {}", above.display()))?;
        std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("making the folder {}", above.display()))?;
        made.push(above.to_owned());
    }
    Ok(())
}

/// Removes folders that were made, where nothing was put into them.
fn remove_folders(made: &[PathBuf]) -> Result<()> {
    for folder in made.iter().rev() {
        match std::fs::remove_dir(folder) {
            Err(error)
                if !matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                return Err(error).with_context(|| format!("removing {}", folder.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes `content` to `path` in one move, with the owner and mode that `path` has.
pub(super) fn replace(path: &Path, content: &str) -> Result<()> {
    let what = || format!("writing {}", path.display());
    let mut new = path.as_os_str().to_owned();
    new.push(".bakehouse-new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new).with_context(what)?;
    file.write_all(content.as_bytes()).with_context(what)?;
    if let Ok(meta) = std::fs::metadata(path) {
        lchown(&new, Some(meta.uid()), Some(meta.gid())).with_context(what)?;
        file.set_permissions(std::fs::Permissions::from_mode(meta.mode() & 0o7777)).with_context(what)?;
    }
    std::fs::rename(&new, path).with_context(what)
}
