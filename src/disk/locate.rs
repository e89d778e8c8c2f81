//! An attached volume's device, found by the volume's id.
//!
//! Nitro shows EBS volumes as NVMe: the serial number is the volume id without its dash, and udev makes
//! links of it. Xen shows no id at all: there the name asked for at attachment is the device, with `xvd` for
//! `sd` ("Device names for volumes", Amazon EBS User Guide). Nothing is ever guessed from an NVMe device's name.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::block::Block;
use super::wait;
use crate::error::{Failure, Kind};
use crate::sys;

/// The model that EBS volumes give as theirs.
const MODEL: &str = "Amazon Elastic Block Store";

/// Where this host keeps what is looked at; tests have their own.
#[derive(Debug, Clone, Copy)]
struct Places<'a> {
    dev: &'a Path,
    nvme: &'a Path,
}

/// Waits until the device of a volume is there.
pub(super) fn volume(id: &str, device_name: &str, at_most: Duration) -> Result<Block> {
    let places = Places { dev: Path::new("/dev"), nvme: Path::new("/sys/class/block") };
    let serial = serial_of(id)?;
    let found = wait::until(at_most, || {
        // A node may go away between its listing and the look at it.
        Ok(candidates(places, &serial, device_name)
            .iter()
            .filter_map(|node| Block::of(node).ok())
            .find(|block| block.node.exists() && verified(places, block, &serial, device_name)))
    })?;
    found.ok_or_else(|| {
        let message = format!("the device of {id} did not appear within {} s", at_most.as_secs());
        Failure::new(Kind::Disk, message)
            .hint(format!("it was attached as {device_name}; see lsblk -o NAME,SERIAL, and dmesg"))
            .into()
    })
}

/// The id of the EBS volume that an NVMe device says it is.
pub(super) fn volume_id(name: &str) -> Option<String> {
    volume_id_in(Places { dev: Path::new("/dev"), nvme: Path::new("/sys/class/block") }, name)
}

fn volume_id_in(places: Places<'_>, name: &str) -> Option<String> {
    if !name.starts_with("nvme") || attribute(places, name, "model").as_deref() != Some(MODEL) {
        return None;
    }
    let serial = attribute(places, name, "serial")?;
    let digits = serial.strip_prefix("vol")?;
    Some(format!("vol-{}", digits.strip_prefix('-').unwrap_or(digits)))
}

/// `vol-0abc` → `vol0abc`.
fn serial_of(id: &str) -> Result<String> {
    let digits = id
        .strip_prefix("vol-")
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    match digits {
        Some(digits) => Ok(format!("vol{digits}")),
        None => Err(Failure::new(Kind::Disk, format!("{id:?} is not the id of a volume")).into()),
    }
}

/// The nodes that may be the volume's, the most telling first.
fn candidates(places: Places<'_>, serial: &str, device_name: &str) -> Vec<PathBuf> {
    let by_id = places.dev.join("disk/by-id");
    // Newer udev adds the namespace's number.
    ["", "_1", "-ns-1"]
        .iter()
        .map(|suffix| by_id.join(format!("nvme-Amazon_Elastic_Block_Store_{serial}{suffix}")))
        .filter(|link| link.exists())
        .chain(by_serial(places, serial))
        .chain(by_name(places, device_name))
        .collect()
}

fn attribute(places: Places<'_>, name: &str, attribute: &str) -> Option<String> {
    let text = std::fs::read_to_string(places.nvme.join(name).join("device").join(attribute)).ok()?;
    Some(text.trim().to_owned())
}

/// The names of the whole NVMe disks.
fn nvme_disks(places: Places<'_>) -> Vec<String> {
    let entries = std::fs::read_dir(places.nvme).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("nvme") && !places.nvme.join(name).join("partition").exists())
        .collect();
    names.sort();
    names
}

fn by_serial(places: Places<'_>, serial: &str) -> Option<PathBuf> {
    let name =
        nvme_disks(places).into_iter().find(|name| is_serial(attribute(places, name, "serial"), serial))?;
    Some(places.dev.join(name))
}

/// Some kernels have shown the serial with its dash.
fn is_serial(shown: Option<String>, serial: &str) -> bool {
    shown.is_some_and(|shown| shown.replacen("vol-", "vol", 1) == serial)
}

/// Xen's names of a requested name.
fn by_name(places: Places<'_>, device_name: &str) -> Option<PathBuf> {
    // Where EBS is NVMe, a link of the requested name may be there before it is right.
    if nvme_disks(places).iter().any(|name| attribute(places, name, "model").as_deref() == Some(MODEL)) {
        return None;
    }
    let name = device_name.strip_prefix("/dev/").unwrap_or(device_name);
    if name.contains('/') || name.is_empty() {
        return None;
    }
    let xen = name.strip_prefix("sd").map(|letters| format!("xvd{letters}"));
    xen.iter().map(String::as_str).chain([name]).map(|name| places.dev.join(name)).find(|node| node.exists())
}

/// Whether a device is the volume's, as far as it can tell: NVMe devices must say so themselves.
fn verified(places: Places<'_>, block: &Block, serial: &str, device_name: &str) -> bool {
    if !block.name.starts_with("nvme") {
        return true;
    }
    match attribute(places, &block.name, "serial") {
        Some(shown) if !is_serial(Some(shown.clone()), serial) => {
            tracing::debug!(
                "{} says that it is {shown}, not {serial}: a link is out of date",
                block.node.display()
            );
            return false;
        }
        Some(_) => {}
        None => tracing::debug!("sysfs shows no serial of {}", block.node.display()),
    }
    match identify(&block.node) {
        Ok(identity) if !is_serial(Some(identity.serial.clone()), serial) => {
            tracing::debug!("{} identifies itself as {}", block.node.display(), identity.serial);
            false
        }
        Ok(identity) => {
            let asked = device_name.strip_prefix("/dev/").unwrap_or(device_name);
            if !identity.device_name.is_empty() && identity.device_name != asked {
                tracing::warn!("{serial} was attached as {asked}, and says {}", identity.device_name);
            }
            true
        }
        // The serial in sysfs was right, or its link was; without the ioctl nothing speaks against them.
        Err(error) => {
            tracing::debug!("{error:#}");
            true
        }
    }
}

/// What an NVMe controller says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    serial: String,
    /// The name asked for at attachment, without `/dev/`.
    device_name: String,
}

fn identify(node: &Path) -> Result<Identity> {
    let identifying = || format!("asking {} to identify itself", node.display());
    let file = File::open(node).with_context(identifying)?;
    let data = sys::nvme_identify_controller(file.as_fd()).with_context(identifying)?;
    parse_identity(&data).with_context(identifying)
}

/// Reads Identify Controller's data: the serial number in bytes 4 to 23; in the vendor's part, from 3072 on, 32
/// bytes of the name asked for (amazon-ec2-utils, ebsnvme-id).
fn parse_identity(data: &[u8]) -> Option<Identity> {
    let text = |range: std::ops::Range<usize>| -> Option<String> {
        let bytes = data.get(range)?;
        Some(String::from_utf8_lossy(bytes).trim_matches([' ', '\0']).to_owned())
    };
    let name = text(3072..3104)?;
    Some(Identity {
        serial: text(4..24)?,
        device_name: name.strip_prefix("/dev/").unwrap_or(&name).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder.path().join("dev/disk/by-id")).unwrap();
            std::fs::create_dir_all(folder.path().join("sys")).unwrap();
            Self(folder)
        }

        fn node(&self, name: &str) -> &Self {
            std::fs::write(self.0.path().join("dev").join(name), "").unwrap();
            self
        }

        fn nvme(&self, name: &str, serial: &str, model: &str) -> &Self {
            let device = self.0.path().join("sys").join(name).join("device");
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("serial"), format!("{serial}  \n")).unwrap();
            std::fs::write(device.join("model"), format!("{model}   \n")).unwrap();
            self.node(name)
        }

        fn find(&self, serial: &str, device_name: &str) -> Option<String> {
            let (dev, nvme) = (self.0.path().join("dev"), self.0.path().join("sys"));
            let found =
                candidates(Places { dev: &dev, nvme: &nvme }, serial, device_name).into_iter().next()?;
            Some(found.strip_prefix(&dev).unwrap().display().to_string())
        }
    }

    #[test]
    fn nitro_is_found_by_link_then_by_serial() {
        let host = Host::new();
        host.nvme("nvme0n1", "vol0aaa", MODEL).nvme("nvme1n1", "vol0bbb", MODEL);
        assert_eq!(host.find("vol0bbb", "/dev/sdf").as_deref(), Some("nvme1n1"));
        host.node("disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0bbb");
        assert_eq!(
            host.find("vol0bbb", "/dev/sdf").as_deref(),
            Some("disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0bbb")
        );
    }

    #[test]
    fn a_nitro_device_tells_its_volume_and_an_instance_store_none() {
        let host = Host::new();
        host.nvme("nvme0n1", "vol0abc1234def567890", MODEL)
            .nvme("nvme1n1", "vol-0abc1234def567891", MODEL)
            .nvme("nvme2n1", "AWS1234", "Amazon EC2 NVMe Instance Storage");
        let (dev, nvme) = (host.0.path().join("dev"), host.0.path().join("sys"));
        let told = |name: &str| volume_id_in(Places { dev: &dev, nvme: &nvme }, name);
        assert_eq!(told("nvme0n1").as_deref(), Some("vol-0abc1234def567890"));
        assert_eq!(told("nvme1n1").as_deref(), Some("vol-0abc1234def567891"), "some kernels keep the dash");
        assert_eq!((told("nvme2n1"), told("xvdf")), (None, None));
    }

    #[test]
    fn nitro_is_never_guessed_from_a_name() {
        let host = Host::new();
        host.nvme("nvme0n1", "vol0aaa", MODEL).node("sdf").node("xvdf");
        assert_eq!(host.find("vol0ccc", "/dev/sdf"), None);
    }

    #[test]
    fn xen_is_found_by_the_name_asked_for() {
        let host = Host::new();
        // An instance store may be NVMe on Xen too.
        host.nvme("nvme0n1", "AWS1234", "Amazon EC2 NVMe Instance Storage");
        assert_eq!(host.find("vol0ccc", "/dev/sdf"), None);
        host.node("sdf");
        assert_eq!(host.find("vol0ccc", "/dev/sdf").as_deref(), Some("sdf"));
        host.node("xvdf");
        assert_eq!(host.find("vol0ccc", "/dev/sdf").as_deref(), Some("xvdf"));
        assert_eq!(host.find("vol0ccc", "xvdf").as_deref(), Some("xvdf"));
        assert_eq!(host.find("vol0ccc", "/dev/../etc/passwd"), None);
    }

    #[test]
    fn a_stale_link_is_not_believed() {
        let host = Host::new();
        host.nvme("nvme1n1", "vol0bbb", MODEL);
        let (dev, nvme) = (host.0.path().join("dev"), host.0.path().join("sys"));
        let block = Block { name: "nvme1n1".into(), node: dev.join("nvme1n1") };
        let places = Places { dev: &dev, nvme: &nvme };
        assert!(verified(places, &block, "vol0bbb", "/dev/sdf"));
        assert!(!verified(places, &block, "vol0aaa", "/dev/sdf"));
    }

    #[test]
    fn identity_is_read() {
        let mut data = vec![0_u8; 4096];
        data[4..24].copy_from_slice(b"vol0123456789abcdef0");
        data[3072..3104].copy_from_slice(b"/dev/sdf                        ");
        let identity = parse_identity(&data).unwrap();
        assert_eq!(
            (identity.serial.as_str(), identity.device_name.as_str()),
            ("vol0123456789abcdef0", "sdf")
        );
        assert_eq!(parse_identity(&data[..3000]), None);
    }

    #[test]
    fn ids_are_checked() {
        assert_eq!(serial_of("vol-0abc").unwrap(), "vol0abc");
        for bad in ["", "vol-", "vol-../../x", "snap-0abc", "vol0abc"] {
            assert!(serial_of(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_identity_or_none(bytes: Vec<u8>) {
            let _identity = parse_identity(&bytes);
        }
    }
}
