//! Many bakes at once on one host.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use bakehouse::disk::loopdev::LoopDevice;
use bakehouse::disk::{Disk, Filesystem};
use bakehouse::error::{Kind, kind_of};
use bakehouse::plan::Locator;

use super::{WAIT, mount, open, options};
use crate::support::host::{has, in_own_mounts, loops_of, own_mounts};
use crate::support::images::Image;

const AT_ONCE: usize = 8;

fn at_once(work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                scope.spawn({
                    let work = &work;
                    move || work(number)
                })
            })
            .collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

#[test]
fn loop_devices_do_not_collide() {
    if !has(&[]) {
        return;
    }
    let images: Vec<Image> = (0..AT_ONCE).map(|_| Image::empty(8)).collect();
    let open_together = std::sync::Barrier::new(AT_ONCE);
    at_once(|number| {
        open_together.wait();
        for _ in 0..20 {
            let disk = open(&images[number]);
            let name = disk.node().file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(loops_of(images[number].path()), [name]);
            disk.release().unwrap();
        }
    });
}

/// More than there are loop devices at first, all asked for in the same moment, again and again.
#[test]
fn dozens_of_loop_devices_are_taken_at_once() {
    if !has(&[]) {
        return;
    }
    const MANY: usize = 24;
    let images: Vec<Image> = (0..MANY).map(|_| Image::empty(1)).collect();
    let together = std::sync::Barrier::new(MANY);
    std::thread::scope(|scope| {
        for image in &images {
            let together = &together;
            scope.spawn(move || {
                for _ in 0..5 {
                    together.wait();
                    let device = LoopDevice::attach(image.path());
                    // Before anything can panic: the others wait here.
                    together.wait();
                    let device = device.unwrap();
                    let loops = loops_of(image.path()).len();
                    device.detach().unwrap();
                    assert_eq!(loops, 1);
                }
            });
        }
    });
}

/// As others on the host do for a moment: a partition tool, a filesystem check of the wrong device.
#[test]
fn one_who_claims_the_device_for_a_moment_fails_no_bake() {
    if !has(&["sfdisk", "mkfs.ext4", "mkfs.xfs"]) {
        return;
    }
    in_own_mounts(|| {
        for (filesystem, mib) in [(Filesystem::Ext, 64), (Filesystem::Xfs, 320)] {
            let image = Image::partitioned(mib, "label: gpt\ntype=linux\n");
            image.with_root(1, filesystem, "");
            let mut disk = open(&image);
            disk.survey().unwrap();
            let claim = || fs::OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(disk.node());
            let claimed = claim().unwrap();
            let passing = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(300));
                drop(claimed);
            });
            let root = disk.mount(&options(&image)).unwrap();
            passing.join().unwrap();
            root.provisioned().close().unwrap();
        }
    });
}

/// A device of the user's, which every bake could have as soon as the root of the one before is unmounted.
#[test]
fn a_closed_device_is_nobody_elses_until_it_is_captured() {
    if !has(&["sfdisk", "mkfs.ext4"]) {
        return;
    }
    in_own_mounts(|| {
        let image = Image::partitioned(64, "label: gpt\ntype=linux\n");
        image.with_root(1, Filesystem::Ext, "");
        image.with_node(0, |node| {
            let locator = Locator::Device(node.to_owned());
            let open = || Disk::open(&locator, WAIT);
            let root = open().unwrap().mount(&options(&image)).unwrap();
            let closed = root.provisioned().close().unwrap();
            let error = open().unwrap_err();
            assert_eq!(kind_of(&error), Kind::Disk, "{error:#}");
            assert!(format!("{error:#}").contains("locked by another process"), "{error:#}");
            let (_proof, held) = closed.proof();
            drop(held);
            open().unwrap().release().unwrap();
        });
    });
}

/// Copies of one base, mounted all at the same time.
fn copies(filesystem: Filesystem, mib: u64) {
    in_own_mounts(move || {
        let base = Image::partitioned(mib, "label: gpt\ntype=linux\n");
        base.with_root(1, filesystem, "");
        let images: Vec<Image> = (0..AT_ONCE).map(|_| base.copy()).collect();
        let all_mounted = std::sync::Barrier::new(AT_ONCE);
        at_once(|number| {
            own_mounts();
            let mounted = open(&images[number]).mount(&options(&images[number]));
            // Reached by all, also by those that failed: the others would wait for ever.
            all_mounted.wait();
            let root = mounted.unwrap();
            fs::write(root.path().join("srv/number"), number.to_string()).unwrap();
            root.provisioned().close().unwrap();
        });
        for (number, image) in images.iter().enumerate() {
            let root = mount(image);
            assert_eq!(fs::read_to_string(root.path().join("srv/number")).unwrap(), number.to_string());
            root.abandon().unwrap();
        }
    });
}

#[test]
fn copies_of_one_ext4() {
    if has(&["sfdisk", "mkfs.ext4"]) {
        copies(Filesystem::Ext, 64);
    }
}

#[test]
fn copies_of_one_xfs() {
    if has(&["sfdisk", "mkfs.xfs"]) {
        copies(Filesystem::Xfs, 320);
    }
}

#[test]
fn copies_of_one_btrfs() {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let old = (version < (6, 7)).then_some("kernels before 6.7 cannot mount two copies of one Btrfs");
    if !crate::support::skipped(old) && has(&["sfdisk", "mkfs.btrfs"]) {
        copies(Filesystem::Btrfs, 160);
    }
}
