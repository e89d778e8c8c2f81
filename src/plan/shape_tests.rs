use super::*;
use crate::recipe::{Recipe, Source};

fn recipe(rest: &str) -> Recipe {
    let text = format!("[image]\nname = 'web'\n{rest}\n[base]\nami = 'ami-0abc1234def567890'\n");
    crate::recipe::parse(&Source { name: "web.toml".into(), text }).unwrap()
}

fn base() -> Shape {
    let volume = |snapshot: Option<&str>, kind: &str| Ebs {
        snapshot_id: snapshot.map(str::to_owned),
        volume_size: Some(8),
        volume_type: Some(kind.to_owned()),
        iops: Some(3000),
        throughput: Some(125),
        delete_on_termination: Some(false),
        encrypted: None,
    };
    let mapping =
        |name: &str, ebs| Mapping { device_name: name.into(), ebs: Some(ebs), ..Mapping::default() };
    Shape {
        architecture: "x86_64".into(),
        virtualization_type: "hvm".into(),
        root_device_name: "/dev/xvda".into(),
        block_device_mappings: vec![
            mapping("/dev/xvda", volume(Some("snap-root"), "gp3")),
            mapping("/dev/sdb", volume(Some("snap-data"), "gp2")),
            Mapping {
                device_name: "/dev/sdc".into(),
                virtual_name: Some("ephemeral0".into()),
                ..Mapping::default()
            },
        ],
        ena_support: Some(true),
        boot_mode: Some("legacy-bios".into()),
        ..Shape::default()
    }
}

fn shaped(base: &Shape, rest: &str) -> Result<Shape, Failure> {
    let recipe = recipe(rest);
    let size = recipe.disk.size.unwrap_or(8 << 30);
    let said = Said { disk: &recipe.disk, size, devices: &recipe.devices, shape: &recipe.image.shape };
    base.with(said, Arch::X86_64)
}

#[test]
fn what_is_not_said_is_inherited() {
    let mut wanted = base();
    wanted.block_device_mappings[0].ebs.as_mut().unwrap().snapshot_id = None;
    assert_eq!(shaped(&base(), "").unwrap(), wanted);
}

#[test]
fn attributes_are_said_over_the_bases_and_taken_away() {
    let said = "boot_mode = 'uefi'\ntpm = 'v2.0'\nimds = 'v2.0'\nena = false\nsriov = true\nuefi_data = 'QU1aTlVFRkk='";
    let full = shaped(&base(), said).unwrap();
    assert_eq!(full.boot_mode.as_deref(), Some("uefi"));
    assert_eq!((full.tpm_support.as_deref(), full.imds_support.as_deref()), (Some("v2.0"), Some("v2.0")));
    assert_eq!((full.ena_support, full.sriov_net_support.as_deref()), (Some(false), Some("simple")));
    assert_eq!(full.uefi_data.as_deref(), Some("QU1aTlVFRkk="));
    assert_eq!(shaped(&full, "").unwrap().tpm_support.as_deref(), Some("v2.0"));
    let none = "boot_mode = 'legacy-bios'\ntpm = 'none'\nimds = 'none'\nsriov = false\nuefi_data = 'none'";
    let none = shaped(&full, none).unwrap();
    assert_eq!((none.tpm_support, none.imds_support), (None, None));
    assert_eq!((none.sriov_net_support, none.uefi_data), (None, None));
}

#[test]
fn what_does_not_go_together_is_refused_before_anything_is_made() {
    let uefi = shaped(&base(), "boot_mode = 'uefi'\ntpm = 'v2.0'\nuefi_data = 'QU1aTlVFRkk='").unwrap();
    let mut encrypted = base();
    encrypted.block_device_mappings[0].ebs.as_mut().unwrap().encrypted = Some(true);
    for (base, said, why) in [
        (base(), "tpm = 'v2.0'", "a TPM needs UEFI, and the boot mode is legacy-bios"),
        (Shape { boot_mode: None, ..base() }, "tpm = 'v2.0'", "the boot mode is not said"),
        (base(), "uefi_data = 'QU1aTlVFRkk='", "UEFI data needs UEFI"),
        (uefi.clone(), "boot_mode = 'legacy-bios'\nuefi_data = 'none'", "a TPM needs UEFI"),
        (base(), "root_device = '/dev/sdb'", "/dev/sdb is the root's name and another device's"),
        (base(), "[[device]]\nname = '/dev/xvda'\nsize = '9GiB'", "is the root's name"),
        (base(), "[[device]]\nname = '/dev/sdd'\ntype = 'gp3'", "the device /dev/sdd has no size"),
        (
            base(),
            "[[device]]\nname = '/dev/sdb'\nencrypted = true",
            "is of snap-data, whose encryption it has",
        ),
        (base(), "[[device]]\nname = '/dev/sdb'\niops = 4000", "gp2 takes no `iops`"),
        (base(), "[[device]]\nname = '/dev/sdc'\nsize = '8GiB'\ntype = 'io2'", "io2 needs `iops`"),
        (encrypted.clone(), "[disk]\nencrypted = false", "the base is encrypted"),
    ] {
        let recipe = recipe(said);
        let size = recipe.disk.size.unwrap_or(8 << 30);
        let said = Said { disk: &recipe.disk, size, devices: &recipe.devices, shape: &recipe.image.shape };
        let failure = base.with(said, Arch::X86_64).unwrap_err();
        assert_eq!(failure.kind, Kind::Recipe);
        assert!(failure.message.contains(why) && failure.hint.is_some(), "{failure}");
    }
    let arm = shaped(&Shape { boot_mode: None, ..base() }, "").unwrap();
    let recipe = recipe("boot_mode = 'legacy-bios'");
    let said = Said { disk: &recipe.disk, size: 1 << 33, devices: &[], shape: &recipe.image.shape };
    assert!(arm.with(said, Arch::Arm64).unwrap_err().message.contains("arm64"));
}

#[test]
fn another_volume_type_does_not_take_the_old_ones_figures_along() {
    let image = shaped(&base(), "[disk]\ntype = 'io2'\niops = 5000\ndelete_on_termination = true").unwrap();
    let root = image.root().unwrap().ebs.clone().unwrap();
    assert_eq!((root.volume_type.as_deref(), root.iops, root.throughput), (Some("io2"), Some(5000), None));
    assert_eq!(root.delete_on_termination, Some(true));
}

#[test]
fn the_bakes_volume_is_not_the_images() {
    let image =
        shaped(&base(), "[disk.bake]\niops = 4000\nthroughput = 1000\ninitialization_rate = 300").unwrap();
    let root = image.root().unwrap().ebs.clone().unwrap();
    assert_eq!((root.iops, root.throughput), (Some(3000), Some(125)), "as the base had it");
    let recipe = recipe("[disk]\ntype = 'io2'\niops = 500\n[disk.bake]\ntype = 'gp3'\nthroughput = 500");
    let baking = recipe.disk.while_baking();
    assert_eq!(baking.volume_type.as_deref(), Some("gp3"));
    assert_eq!((baking.iops, baking.throughput), (None, Some(500)));
}

#[test]
fn devices_are_added_changed_and_dropped() {
    let said = "[[device]]\nname = '/dev/sdb'\nsize = '20GiB'\ntype = 'gp3'\niops = 4000\n\
        [[device]]\nname = '/dev/sdc'\ndrop = true\n\
        [[device]]\nname = '/dev/sdd'\nsize = '100GiB'\nencrypted = true\n\
        [[device]]\nname = '/dev/sde'\nephemeral = 'ephemeral1'\n\
        [[device]]\nname = '/dev/sdf'\ndrop = true\n";
    let image = shaped(&base(), said).unwrap();
    let names: Vec<_> = image.others().map(|mapping| mapping.device_name.as_str()).collect();
    assert_eq!(names, ["/dev/sdb", "/dev/sdd", "/dev/sde"]);
    let changed = image.mapping("/dev/sdb").unwrap().ebs.clone().unwrap();
    assert_eq!(changed.snapshot_id.as_deref(), Some("snap-data"), "what is not said stays");
    assert_eq!((changed.volume_size, changed.iops, changed.throughput), (Some(20), Some(4000), None));
    assert_eq!(changed.delete_on_termination, Some(false));
    let blank = image.mapping("/dev/sdd").unwrap().ebs.clone().unwrap();
    assert_eq!((blank.snapshot_id, blank.volume_type.as_deref()), (None, Some("gp3")));
    assert_eq!((blank.volume_size, blank.encrypted), (Some(100), Some(true)));
    assert_eq!(image.mapping("/dev/sde").unwrap().virtual_name.as_deref(), Some("ephemeral1"));
}

#[test]
fn the_root_gets_another_name() {
    let image = shaped(&base(), "root_device = '/dev/sda1'").unwrap();
    assert_eq!(image.root_device_name, "/dev/sda1");
    assert_eq!(image.block_device_mappings.len(), 3);
    assert!(image.mapping("/dev/xvda").is_none());
}

#[test]
fn sizes_round_up_to_gib() {
    for (bytes, whole) in [(0, 0), (1, 1), (GIB, 1), (GIB + 1, 2), (u64::MAX, i32::MAX)] {
        assert_eq!(gib(bytes), whole);
    }
}
