//! The disk room on real loop devices and real filesystems.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bakehouse::disk::{Disk, MountOptions, MountedRoot};
use bakehouse::error::{Kind, failure_of, kind_of};
use bakehouse::plan::Locator;

use crate::support::host::loops_of;
use crate::support::images::Image;

mod closing;
mod layouts;
mod lvm;
mod mounts;
mod parallel;
pub mod refusals;

const WAIT: Duration = Duration::from_secs(10);
const ROOT_GUID: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
const BIOS_GUID: &str = "21686148-6449-6E6F-744E-656564454649";
const ESP_GUID: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";

fn open(image: &Image) -> Disk {
    Disk::open(&Locator::File(image.path().to_owned()), WAIT).unwrap()
}

fn options(image: &Image) -> MountOptions {
    MountOptions { partition: None, grow: true, target: image.target() }
}

fn mount(image: &Image) -> MountedRoot {
    open(image).mount(&options(image)).unwrap()
}

fn refusal(image: &Image, partition: Option<u32>) -> (String, String) {
    let error = open(image).mount(&MountOptions { partition, ..options(image) }).unwrap_err();
    assert_eq!(kind_of(&error), Kind::Disk, "{error:#}");
    assert_eq!(loops_of(image.path()), [""; 0]);
    assert!(fs::read_dir(image.target()).unwrap().next().is_none(), "something is still mounted");
    let hint = failure_of(&error).unwrap().hint.clone().unwrap_or_default();
    (format!("{error:#}"), hint)
}

fn size_of(path: &Path) -> u64 {
    let stat = nix::sys::statvfs::statvfs(path).unwrap();
    stat.blocks() * stat.fragment_size()
}
