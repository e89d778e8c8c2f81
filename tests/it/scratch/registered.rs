//! What reaches EC2 of an image from scratch, by the way it boots, and that its disk boots so.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{BOOTSTRAP, bakery, can_fill, until};
use crate::shape::attributes::{has as sent_so, mappings, sent};
use crate::support::debian_roots::with_grub;
use crate::support::host::{has, run};
use crate::support::machine::Machine;
use crate::support::standin::{Options, Standin};

/// Unpacks a root with GRUB, which says on the serial line what started it. What is in its kernel is nothing to
/// GRUB's files.
const UNPACK: &str = r#"#!/bin/sh
set -eu
tar --extract --file "$1" --directory "$BAKEHOUSE_ROOT" --exclude='./dev/*'
cd "$BAKEHOUSE_ROOT"
echo kernel > boot/vmlinuz-1
printf 'GRUB_TIMEOUT=0\nGRUB_TERMINAL=serial\nGRUB_SERIAL_COMMAND="serial --speed=115200"\n' > etc/default/grub.d/10_serial.cfg
printf '#!/bin/sh\necho insmod echo\necho "echo the GRUB of this image, for \\$grub_platform."\n' > etc/grub.d/06_say
chmod +x etc/grub.d/06_say
"#;

fn recipe(name: &str, image: &str, scratch: &str, base: &str) -> String {
    format!(
        "[image]\nname = \"{name}\"\n{image}[disk]\nsize = \"1GiB\"\n[base]\n{base}\
         scratch = {{ bootstrap = \"bootstrap.sh\", {scratch} }}\n"
    )
}

/// The partitions of a raw disk: number and where it begins, in bytes.
fn partitions(disk: &Path) -> Vec<(u32, u64)> {
    let name = disk.to_str().unwrap();
    let table: Value = serde_json::from_str(&run("sfdisk", &["--json", name])).unwrap();
    let listed = table["partitiontable"]["partitions"].as_array().unwrap().iter();
    let mut found: Vec<(u32, u64)> = listed
        .map(|each| {
            let number = each["node"].as_str().unwrap().strip_prefix(name).unwrap().trim_start_matches('p');
            (number.parse().unwrap(), each["start"].as_u64().unwrap() * 512)
        })
        .collect();
    found.sort_unstable();
    found
}

fn begins_with_code(disk: &Path, at: u64) -> bool {
    let mut bytes = [0; 440];
    fs::File::open(disk).unwrap().read_exact_at(&mut bytes, at).unwrap();
    bytes.iter().any(|byte| *byte != 0)
}

#[test]
fn each_firmware_is_registered_with_its_boot_mode_and_finds_its_boot_loader() {
    if !can_fill() || !has(&["mmdebstrap", "tar", "mdir", "qemu-system-x86_64", "qemu-img"]) {
        return;
    }
    let standin = Standin::start(&Options { arch: Some("x86_64".into()), ..Options::default() });
    let bakery = bakery(Some(&standin), UNPACK);
    let archive = with_grub();
    let archive = archive.to_str().unwrap();
    // Firmware, what more the recipe says of image and base; the boot mode, partitions, IMDS, TPM, ENA and the root.
    for (firmware, image, base, mode, numbers, imds, tpm, ena, root) in [
        ("bios", "", "", "legacy-bios", vec![1, 14], None, None, "true", "/dev/xvda"),
        (
            "uefi",
            "imds = \"v2.0\"\ntpm = \"v2.0\"\n",
            "",
            "uefi",
            vec![1, 15],
            Some("v2.0"),
            Some("v2.0"),
            "true",
            "/dev/xvda",
        ),
        (
            "both",
            "ena = false\n",
            "root_device = \"/dev/sda1\"\n",
            "uefi-preferred",
            vec![1, 14, 15],
            None,
            None,
            "false",
            "/dev/sda1",
        ),
    ] {
        standin.clear_requests();
        let scratch = format!("args = [\"{archive}\"], firmware = \"{firmware}\"");
        let ran = bakery.bake(&recipe(firmware, image, &scratch, base), &[]);
        let told = ran.told();
        let id = ran.id();

        let volume = sent(&standin, "CreateVolume");
        let wanted = [("SnapshotId", None), ("Size", Some("1")), ("VolumeType", Some("gp3"))];
        sent_so(&volume, &wanted);
        let registered = sent(&standin, "RegisterImage");
        sent_so(
            &registered,
            &[
                ("BootMode", Some(mode)),
                ("Architecture", Some("x86_64")),
                ("VirtualizationType", Some("hvm")),
                ("EnaSupport", Some(ena)),
                ("ImdsSupport", imds),
                ("TpmSupport", tpm),
                ("SriovNetSupport", None),
                ("UefiData", None),
                ("RootDeviceName", Some(root)),
            ],
        );
        let made = standin.find("images", "ImageId", &id).unwrap();
        let snapshot = made["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].as_str().unwrap();
        assert_eq!(
            mappings(&registered),
            [format!("{root} DeleteOnTermination=true SnapshotId={snapshot} VolumeSize=1 VolumeType=gp3")]
        );

        // The disk that is registered so.
        let file = standin.find("snapshots", "SnapshotId", snapshot).unwrap();
        let file = Path::new(file["File"].as_str().unwrap());
        let partitions = partitions(file);
        assert_eq!(partitions.iter().map(|(number, _)| *number).collect::<Vec<_>>(), numbers, "{told}");
        let begin = |number| partitions.iter().find(|(found, _)| *found == number).map(|(_, begin)| *begin);
        assert_eq!(begins_with_code(file, 0), firmware != "uefi", "{firmware}: the boot sector");
        if let Some(core) = begin(14) {
            assert!(begins_with_code(file, core), "{firmware}: GRUB's core");
        }
        if let Some(esp) = begin(15) {
            let esp = format!("{}@@{esp}", file.display());
            assert!(run("mdir", &["-b", "-i", &esp, "::/EFI/BOOT"]).contains("BOOTX64.EFI"), "{firmware}");
        }

        // And it does.
        bakery.bakehouse(&["local", "import", file.to_str().unwrap(), "--name", firmware]).good();
        for (by, platform) in [("bios", "pc"), ("uefi", "efi")] {
            if firmware == by || firmware == "both" {
                let boot = ["local", "boot", firmware, "--memory", "256", "--firmware", by];
                let command = bakery.command(&[], &[&boot[..], &["--", "-monitor", "none"]].concat());
                Machine::boot(command).wait_for(&format!("the GRUB of this image, for {platform}."));
            }
        }
    }

    // A root without what boots it is seen when GRUB is to be installed, and the volume goes.
    standin.clear_requests();
    for (lacks, says) in [
        ("boot/vmlinuz-1", "the root has no kernel"),
        ("usr/sbin/grub-install", "the root has no grub-install"),
        ("usr/lib/grub/i386-pc", "the root has no GRUB for a BIOS"),
        ("usr/lib/grub/x86_64-efi", "the root has no GRUB for UEFI"),
    ] {
        bakery.put("bootstrap.sh", format!("{UNPACK}rm -r \"$BAKEHOUSE_ROOT/{lacks}\"\n"));
        let text = recipe("never", "", &format!("args = [\"{archive}\"]"), "");
        bakery
            .bake(&text, &[])
            .refused(9, &[says, "what to do: the bootstrap must bring a kernel, GRUB and udev"]);
    }
    assert!(!standin.counts().contains_key("CreateSnapshot"));
    assert_eq!(standin.state()["volumes"], json!([]));
    bakery.assert_nothing_left();
    standin.stop();
}

#[test]
fn without_a_boot_loader_the_recipe_says_how_it_boots() {
    if !can_fill() {
        return;
    }
    let standin = Standin::start(&Options { arch: Some("x86_64".into()), ..Options::default() });
    let bakery = bakery(Some(&standin), BOOTSTRAP);
    let plain = "args = [\"x\"], boot_loader = false";
    bakery.bake(&recipe("unknown", "", plain, ""), &[]).good();
    let wanted = [
        ("BootMode", None),
        ("Architecture", Some("x86_64")),
        ("EnaSupport", Some("true")),
        ("ImdsSupport", None),
        ("TpmSupport", None),
    ];
    sent_so(&sent(&standin, "RegisterImage"), &wanted);

    // All that a recipe can say of the volume and of further devices, where there is no base to inherit from.
    standin.clear_requests();
    let image = "boot_mode = \"uefi\"\nuefi_data = \"QU1aTlVFRkk=\"\nsriov = true\nimds = \"v2.0\"\n";
    let more = "[[device]]\nname = \"/dev/sdb\"\nsize = \"20GiB\"\nencrypted = true\n\
                [[device]]\nname = \"/dev/sdc\"\nephemeral = \"ephemeral0\"\n\
                [disk.bake]\ntype = \"gp3\"\nthroughput = 500\n";
    let disk = "size = \"8GiB\"\ntype = \"io2\"\niops = 500\ndelete_on_termination = false\nkms_key = \"alias/images\"\n";
    let text = recipe("whole", image, plain, "arch = \"x86_64\"\n").replace("size = \"1GiB\"\n", disk);
    let id = bakery.bake(&format!("{text}{more}"), &[]).id();
    let volume = sent(&standin, "CreateVolume");
    sent_so(
        &volume,
        &[
            ("SnapshotId", None),
            ("Size", Some("8")),
            ("VolumeType", Some("gp3")),
            ("Throughput", Some("500")),
            ("Encrypted", Some("true")),
            ("KmsKeyId", Some("alias/images")),
        ],
    );
    let registered = sent(&standin, "RegisterImage");
    sent_so(
        &registered,
        &[
            ("BootMode", Some("uefi")),
            ("UefiData", Some("QU1aTlVFRkk=")),
            ("ImdsSupport", Some("v2.0")),
            ("SriovNetSupport", Some("simple")),
            ("Architecture", Some("x86_64")),
        ],
    );
    let made = standin.find("images", "ImageId", &id).unwrap();
    let root = &made["BlockDeviceMappings"][0]["Ebs"];
    let snapshot = root["SnapshotId"].as_str().unwrap();
    assert_eq!(
        mappings(&registered),
        [
            format!(
                "/dev/xvda DeleteOnTermination=false Iops=500 SnapshotId={snapshot} VolumeSize=8 VolumeType=io2"
            ),
            "/dev/sdb Encrypted=true VolumeSize=20 VolumeType=gp3".to_owned(),
            "/dev/sdc VirtualName=ephemeral0".to_owned(),
        ]
    );
    assert_eq!(root["Encrypted"], true);
    assert_eq!(standin.state()["volumes"], json!([]));
    bakery.assert_nothing_left();
    standin.stop();
}

#[test]
fn a_boot_mode_that_the_disk_cannot_have_is_refused_before_anything_is_made() {
    if !can_fill() {
        return;
    }
    let standin = Standin::start(&Options { arch: Some("x86_64".into()), ..Options::default() });
    let bakery = bakery(Some(&standin), BOOTSTRAP);
    for (image, scratch, base, says) in [
        (
            "boot_mode = \"uefi\"\n",
            "firmware = \"bios\"",
            "",
            "the boot mode is uefi, and the disk boots by a BIOS",
        ),
        (
            "boot_mode = \"uefi-preferred\"\n",
            "firmware = \"bios\"",
            "",
            "the boot mode is uefi-preferred, and the disk boots by a BIOS",
        ),
        (
            "boot_mode = \"legacy-bios\"\n",
            "firmware = \"uefi\"",
            "",
            "the boot mode is legacy-bios, and the disk boots by UEFI",
        ),
        ("tpm = \"v2.0\"\n", "firmware = \"bios\"", "", "a TPM needs UEFI, and the boot mode is legacy-bios"),
        ("", "firmware = \"both\"", "arch = \"arm64\"\n", "machines of arm64 have no BIOS"),
    ] {
        bakery.bake(&recipe("never", image, scratch, base), &[]).refused(3, &[says]);
    }
    // What the command line lays over a recipe that is right in itself.
    let text = recipe("never", "", "firmware = \"bios\"", "");
    let says = ["the boot mode is uefi, and the disk boots by a BIOS alone"];
    bakery.bake(&text, &["--boot-mode", "uefi"]).refused(3, &says);
    // Where it can be either, one alone may be said.
    let text = recipe("never", "boot_mode = \"uefi\"\n", "firmware = \"both\"", "");
    let plan = bakery.bake(&text, &["--dry-run"]).good();
    assert!(plan.out.contains("boot mode    uefi (base: uefi-preferred)"), "{}", plan.told());
    assert!(!standin.counts().contains_key("CreateVolume"));
    assert!(!standin.counts().contains_key("CreateSnapshot"));
    bakery.assert_nothing_left();
    standin.stop();
}

#[test]
fn a_blank_volume_whose_bake_is_killed_goes_with_the_sweep() {
    if !can_fill() {
        return;
    }
    let standin = Standin::start(&Options { arch: Some("x86_64".into()), ..Options::default() });
    let sleeps =
        "#!/bin/sh\necho \"$BAKEHOUSE_ROOT_DEVICE\" > \"$1.new\"\nmv \"$1.new\" \"$1\"\nsleep 1000\n";
    let bakery = bakery(Some(&standin), sleeps);
    let mark = bakery.path("mark");
    let scratch = format!("args = [{:?}], boot_loader = false", mark.to_str().unwrap());
    bakery.put("recipe.toml", recipe("killed", "", &scratch, ""));
    let mut bake = bakery.command(&[], &["bake", "recipe.toml"]);
    let mut child = bake.stderr(std::process::Stdio::null()).spawn().unwrap();
    let device = until("the bootstrap runs", || fs::read_to_string(&mark).ok());
    assert!(Path::new(device.trim()).exists(), "{device}");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let bake = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(bake), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    let volumes = standin.state()["volumes"].as_array().unwrap().len();
    assert_eq!(volumes, 1, "what was killed undoes nothing");
    bakery.bakehouse(&["gc", "--yes"]).good();
    assert_eq!(standin.state()["volumes"], json!([]));
    bakery.assert_nothing_left();
    standin.stop();
}
