//! Bakes on a root that is a logical volume, ended on EC2's road: what is mapped of the attached volume's partitions
//! goes with the process, so that the sweep can detach and delete the volume.

use super::kill::{Ending, matrix_at};
use super::points::{Goes, Point};
use super::site::{On, Places, Site, fill_tiny};
use crate::support::host::{has, run};
use crate::support::lvm::{FSTAB, lvm_disk, needed, ranges};
use crate::support::standin::Options;

/// A site whose base has its root and `/srv` on logical volumes.
fn site() -> Site {
    Site::on_base(On::Ec2, &Options::default(), |file| {
        let disk = lvm_disk(|root| {
            fill_tiny(root);
            std::fs::write(root.join("etc/fstab"), FSTAB).unwrap();
        });
        run("cp", &["--sparse=always", disk.path().to_str().unwrap(), file.to_str().unwrap()]);
        let table = run("sfdisk", &["--json", file.to_str().unwrap()]);
        let table: serde_json::Value = serde_json::from_str(&table).unwrap();
        let partition = table["partitiontable"]["partitions"][1]["start"].as_u64().unwrap() * 512;
        let begin = |volume| disk.with_node(2, |node| ranges(node, volume)[0].0);
        Places(vec![partition + begin("data"), partition + begin("root")], "/marker")
    })
}

/// What changes something on EC2, and where volumes are mounted: between those are all mappings.
fn is_about_volumes(goes: Goes, point: &Point) -> bool {
    goes != Goes::Replaces
        && match point {
            Point::Api { action, .. } => !action.starts_with("Describe") && !action.starts_with("IMDS"),
            Point::Kernel { call, .. } => ["mount", "umount2"].contains(call),
        }
}

fn matrix(ending: Ending, name: &str) {
    if needed() && has(&["busybox"]) {
        matrix_at(&site, ending, name, is_about_volumes);
    }
}

#[test]
fn a_bake_on_lvm_is_killed_where_its_volumes_are_and_swept() {
    matrix(Ending::Kill, "ec2, LVM, kill -9 and gc");
}

#[test]
fn a_bake_on_lvm_is_stopped_where_its_volumes_are() {
    matrix(Ending::Term, "ec2, LVM, SIGTERM");
}
