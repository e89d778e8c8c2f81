//! A step's folder on the builder, seen inside read-only as `/run/bakehouse/step`.

use std::fs::{DirBuilder, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::template::{self, Words};
use super::{cache, download};
use crate::error::{Failure, Kind};
use crate::provisioner::{STEP_FOLDER, StagedFile, StepPlan, param_files};
use crate::sandbox::Bind;
use crate::stop::Stop;

/// A step's folder.
pub(super) struct Staged {
    folder: PathBuf,
    /// What makes it seen inside.
    pub(super) binds: Vec<Bind>,
    /// Empty folders that something is mounted on inside.
    mount_points: Vec<PathBuf>,
}

impl Staged {
    /// Removes it. The empty folders first and not recursively: were one of the builder's own folders still
    /// mounted there, nothing of that may be touched.
    pub(super) fn remove(self) -> Result<()> {
        let what = |path: &Path| format!("removing {}", path.display());
        for folder in self.mount_points.iter().rev() {
            std::fs::remove_dir(folder).with_context(|| what(folder))?;
        }
        std::fs::remove_dir_all(&self.folder).with_context(|| what(&self.folder))
    }
}

/// Writes `step`'s folder at `folder`, which must not be there, and says what is to be bound for it. The builder's
/// own files are copied where they must become executable, filled in where they are templates, and else bound, so that nothing is ever moved or written to. Blocking:
/// fetches what has a URL.
pub(super) fn stage(step: &StepPlan, folder: &Path, words: &Words, stop: &Stop) -> Result<Staged> {
    let what = || format!("making the step's folder {}", folder.display());
    make_folder(folder).with_context(what)?;
    for file in &step.files {
        write(&within(&folder.join("provisioner"), &file.path)?, &file.content, file.mode & 0o777)?;
    }
    for (path, content) in param_files(&step.params) {
        write(&within(folder, &path)?, &content, 0o644)?;
    }
    make_folder(&folder.join("files")).with_context(what)?;
    let mut mount_points = Vec::new();
    let mut binds =
        vec![Bind { source: folder.to_owned(), target: PathBuf::from(STEP_FOLDER), writable: false }];
    for staged in &step.staged {
        let bind = stage_file(staged, folder, words, stop)
            .with_context(|| format!("staging {}", staged.from.display()))?;
        if bind.as_ref().is_some_and(|bind| bind.source.is_dir()) {
            mount_points.push(folder.join("files").join(&staged.to));
        }
        binds.extend(bind);
    }
    Ok(Staged { folder: folder.to_owned(), binds, mount_points })
}

fn stage_file(staged: &StagedFile, folder: &Path, words: &Words, stop: &Stop) -> Result<Option<Bind>> {
    let place = within(&folder.join("files"), &staged.to)?;
    match (&staged.url, &staged.sha256) {
        // It was fetched before the bake began, as a rule: what is there is only looked at.
        (Some(_), _) => download::fetch_staged(staged, stop)?,
        (None, Some(sha256)) => {
            let file = File::open(&staged.from).context("opening it")?;
            download::check(&staged.from.display().to_string(), sha256, &cache::digest_of(file)?)?;
        }
        (None, None) => {}
    }
    let source = std::fs::canonicalize(&staged.from).map_err(|error| {
        Failure::new(Kind::Recipe, format!("{} cannot be used: {error}", staged.from.display()))
            .hint("see whether it is still there: it was when the recipe was checked")
    })?;
    let meta = std::fs::metadata(&source).context("looking at it")?;
    let parent = place.parent().unwrap_or(folder);
    make_folder(parent)?;
    if staged.template {
        template::render(&source, &place, words)?;
        return Ok(None);
    }
    if meta.is_file() && staged.executable {
        std::fs::copy(&source, &place).context("copying it")?;
        std::fs::set_permissions(&place, Permissions::from_mode(0o755)).context("making it executable")?;
        return Ok(None);
    }
    // Something to mount on.
    if meta.is_dir() {
        make_folder(&place)?;
    } else if meta.is_file() {
        write(&place, b"", 0o644)?;
    } else {
        bail!("it is neither a file nor a folder");
    }
    let target = Path::new(STEP_FOLDER).join("files").join(&staged.to);
    Ok(Some(Bind { source, target, writable: false }))
}

/// `inner` below `folder`; plain names alone.
fn within(folder: &Path, inner: &Path) -> Result<PathBuf> {
    if inner.as_os_str().is_empty() || inner.components().any(|part| !matches!(part, Component::Normal(_))) {
        bail!("{} is not a path below a step's folder", inner.display());
    }
    Ok(folder.join(inner))
}

fn make_folder(path: &Path) -> Result<()> {
    // The umask of whoever calls us must not hide it from programs that are not root inside.
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.is_dir()).collect();
    for above in missing.into_iter().rev() {
        DirBuilder::new().mode(0o755).create(above)?;
        std::fs::set_permissions(above, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let what = || format!("writing {}", path.display());
    if let Some(parent) = path.parent() {
        make_folder(parent).with_context(what)?;
    }
    let mut file = File::create(path).with_context(what)?;
    file.write_all(content).with_context(what)?;
    file.set_permissions(Permissions::from_mode(mode)).with_context(what)
}
