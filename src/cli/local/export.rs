//! `bakehouse local export`: an image of the store to a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;

use crate::cli::settings::Output;
use crate::cli::{Context, print};
use crate::error::{Failure, Kind};
use crate::program::Program;
use crate::stop::Stop;

/// What goes where.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The image, by name or id
    pub image: String,
    /// The file; the end of its name tells the format: .raw, .qcow2 or .vmdk
    pub file: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    pub force: bool,
    /// Compress (qcow2)
    #[arg(long)]
    pub compress: bool,
}

/// Runs it.
///
/// # Errors
/// [`Kind::Base`] when there is no such image, [`Kind::Usage`] when the file is there.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let store = super::store(context)?;
    let record = store.image(&args.image)?;
    let format = super::format_of(&args.file)?;
    if args.compress && format != "qcow2" {
        let message = format!("--compress is for qcow2, and {} is {format}", args.file.display());
        return Err(Failure::new(Kind::Usage, message).into());
    }
    if !args.force && args.file.symlink_metadata().is_ok() {
        return Err(there(&args.file).into());
    }
    let disk = store.disk_of(&record);
    context.reporter.phase("export", &format!("{} to {}", record.name, args.file.display()));
    let (args, stop) = (args.clone(), context.stop.clone());
    let file = args.file.clone();
    super::work(context, "the export", move || export(&disk, format, &args, &stop))?;
    match context.output {
        Output::Text => print(&file.display().to_string())?,
        Output::Json => print(&document(&record.id, &file, format).to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn document(image: &str, file: &Path, format: &str) -> serde_json::Value {
    serde_json::json!({ "image": image, "file": file.display().to_string(), "format": format })
}

/// A file that is being written, beside the wanted one.
enum Part {
    /// Without a name: it goes with this process, however that ends.
    Nameless(File),
    /// Where the filesystem has no such files (NFS, FAT).
    Named(tempfile::NamedTempFile),
}

impl Part {
    fn new(folder: &Path) -> Result<Self> {
        let making = || format!("making a file in {}", folder.display());
        let nameless =
            OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(folder);
        match nameless {
            Ok(file) => Ok(Self::Nameless(file)),
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)) =>
            {
                let file = tempfile::Builder::new().prefix(".bakehouse-export-").tempfile_in(folder);
                file.map(Self::Named).with_context(making)
            }
            Err(error) => Err(error).with_context(making),
        }
    }

    fn file(&self) -> &File {
        match self {
            Self::Nameless(file) => file,
            Self::Named(named) => named.as_file(),
        }
    }

    /// By which another program finds it.
    fn path(&self) -> PathBuf {
        match self {
            Self::Nameless(file) => format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into(),
            Self::Named(named) => named.path().to_owned(),
        }
    }

    /// Gives it its name, which nothing may have.
    fn persist(self, target: &Path) -> io::Result<()> {
        match self {
            Self::Nameless(file) => {
                let from = format!("/proc/self/fd/{}", file.as_raw_fd());
                linkat(AT_FDCWD, from.as_str(), AT_FDCWD, target, AtFlags::AT_SYMLINK_FOLLOW)
                    .map_err(io::Error::from)
            }
            Self::Named(named) => named.persist_noclobber(target).map(drop).map_err(|error| error.error),
        }
    }

    /// Gives it its name, whatever has it.
    fn replace(self, target: &Path, folder: &Path) -> Result<()> {
        let naming = || format!("naming {}", target.display());
        // A file without a name can take none that is taken: it takes another first.
        let inner =
            tempfile::Builder::new().prefix(".bakehouse-export-").tempdir_in(folder).with_context(naming)?;
        let whole = inner.path().join("whole");
        self.persist(&whole).and_then(|()| std::fs::rename(&whole, target)).with_context(naming)
    }
}

/// Converts into a file beside the wanted one, which takes its name once it is whole.
fn export(disk: &Path, format: &str, args: &Args, stop: &Stop) -> Result<()> {
    let target =
        std::path::absolute(&args.file).with_context(|| format!("finding {}", args.file.display()))?;
    let folder = target.parent().unwrap_or(Path::new("/"));
    let part = Part::new(folder)?;
    let mut program = super::tied(Program::new("qemu-img")).args(["convert", "-f", "raw", "-O", format]);
    program = match format {
        "raw" => program.args(["-S", "4k"]),
        "qcow2" if args.compress => program.arg("-c"),
        // What OVF packages and EC2's image import take.
        "vmdk" => program.args(["-o", "subformat=streamOptimized"]),
        _ => program,
    };
    program
        .arg(disk)
        .arg(part.path())
        .run(stop, &mut |_| {})
        .with_context(|| format!("writing {}", target.display()))?;
    let owner = std::fs::metadata(folder).with_context(|| format!("looking at {}", folder.display()))?;
    // It may hold secrets: for its owner alone, who under sudo is whoever has the folder.
    fchown(part.file(), Some(owner.uid()), Some(owner.gid()))
        .and_then(|()| part.file().sync_all())
        .with_context(|| format!("finishing {}", target.display()))?;
    if args.force {
        return part.replace(&target, folder);
    }
    part.persist(&target).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => anyhow::Error::from(there(&target)),
        _ => anyhow::Error::from(error).context(format!("naming {}", target.display())),
    })
}

fn there(file: &Path) -> Failure {
    Failure::new(Kind::Usage, format!("{} is there already", file.display()))
        .hint("choose another name, or write over it with --force")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_name_is_not_utf_8_is_told_as_any_other() {
        use std::os::unix::ffi::OsStrExt as _;
        let name = Path::new(std::ffi::OsStr::from_bytes(b"w\xe9b.raw"));
        assert_eq!(document("img-1", name, "raw")["file"], "w\u{fffd}b.raw");
    }
}
