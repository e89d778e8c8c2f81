//! Bases from scratch: what is on the disk that began blank, what EC2 was asked for, and that it boots.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::bakery::{Bakery, look_into};
use crate::support::host::{has, run};
use crate::support::machine::Machine;
use crate::support::standin::{Options, Standin};

mod confined;
mod registered;

/// Fills a root with this host's shell, and notes what it was told.
pub const BOOTSTRAP: &str = r#"#!/bin/sh
set -eu
cd "$BAKEHOUSE_ROOT"
mkdir -p bin dev etc proc run sys tmp var/tmp root usr/lib srv
for file in /bin/sh $(ldd /bin/sh | tr ' \t' '\n\n' | grep '^/'); do
    mkdir -p ".$(dirname "$file")"
    cp -L "$file" ".$file"
done
printf 'ID=own\nVERSION_ID=1\n' > etc/os-release
env | grep '^BAKEHOUSE_' | sort > srv/told
echo "$1" > srv/argument
# What it leaves behind ends with it.
sleep 1000 > /dev/null 2>&1 &
echo "the root is filled"
"#;

fn recipe(scratch: &str, more: &str) -> String {
    format!(
        "[image]\nname = \"own-{{time}}\"\n[disk]\nsize = \"512MiB\"\n[base]\n{more}scratch = {{ {scratch} }}\n\
         [[step]]\nuse = \"script\"\nrun = [\"/bin/sh\", \"-c\", \"echo baked > /srv/mark\"]\n"
    )
}

fn script(more: &str) -> String {
    format!("bootstrap = \"./bootstrap.sh\", args = [\"an argument\"], boot_loader = false{more}")
}

fn bakery(standin: Option<&Standin>, bootstrap: &str) -> Bakery {
    let bakery = standin.map_or_else(Bakery::new, Bakery::on_ec2);
    let path = bakery.put("bootstrap.sh", bootstrap);
    run("chmod", &["+x", path.to_str().unwrap()]);
    bakery
}

pub fn can_fill() -> bool {
    has(&["sfdisk", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "mkfs.vfat", "mcopy", "setpriv", "ldd", "timeout"])
}

#[test]
fn a_script_fills_any_filesystem_and_firmwares_layout_on_the_local_store() {
    if !can_fill() {
        return;
    }
    for (filesystem, firmware, partitions) in
        [("ext4", "both", vec![1, 14, 15]), ("xfs", "bios", vec![1, 14]), ("btrfs", "uefi", vec![1, 15])]
    {
        let bakery = bakery(None, BOOTSTRAP);
        let with = script(&format!(", filesystem = \"{filesystem}\", firmware = \"{firmware}\""));
        let ran = bakery.bake(&recipe(&with, ""), &[]);
        let told = ran.told();
        assert!(told.contains("the root is filled"), "{told}");
        let id = ran.id();
        let store = bakery.store();
        let disk = store.disk_of(&store.image(&id).unwrap());
        assert_eq!(fs::metadata(&disk).unwrap().len(), 512 << 20);
        let table: serde_json::Value =
            serde_json::from_str(&run("sfdisk", &["--json", disk.to_str().unwrap()])).unwrap();
        let nodes = table["partitiontable"]["partitions"].as_array().unwrap().iter();
        let mut numbers: Vec<u32> = nodes
            .map(|each| {
                let node = each["node"].as_str().unwrap();
                node.strip_prefix(disk.to_str().unwrap()).unwrap().parse().unwrap()
            })
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, partitions, "{table:#}");
        bakery.look(&id, 1, filesystem, |root| {
            let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
            assert_eq!(read("srv/mark"), "baked\n");
            assert_eq!(read("srv/argument"), "an argument\n");
            let said = read("srv/told");
            for word in
                [format!("BAKEHOUSE_FILESYSTEM={filesystem}"), format!("BAKEHOUSE_FIRMWARE={firmware}")]
            {
                assert!(said.contains(&word), "{said}");
            }
            assert_eq!(said.contains("BAKEHOUSE_ESP_DEVICE="), partitions.contains(&15), "{said}");
            let uuid = said.lines().find_map(|line| line.strip_prefix("BAKEHOUSE_ROOT_UUID=")).unwrap();
            let fstab = read("etc/fstab");
            assert!(fstab.starts_with(&format!("UUID={uuid} / {filesystem} ")), "{fstab}");
            assert_eq!(fstab.contains("/boot/efi vfat"), partitions.contains(&15), "{fstab}");
        });
        bakery.assert_nothing_left();
    }
}

#[test]
fn a_blank_volume_is_asked_for_and_registered_with_its_boot_mode() {
    if !can_fill() {
        return;
    }
    let standin = Standin::start(&Options::default());
    let bakery = bakery(Some(&standin), BOOTSTRAP);
    let text = recipe(
        "bootstrap = \"bootstrap.sh\", args = [\"x\"], firmware = \"both\", boot_loader = false",
        "root_device = \"/dev/sda1\"\n",
    )
    .replace("512MiB", "1GiB");
    // Without a boot loader nothing is known of how it boots.
    let id = bakery.bake(&text, &[]).id();
    assert_eq!(standin.find("images", "ImageId", &id).unwrap()["BootMode"], json!(null));
    let created = standin.requests_of("CreateVolume", 1, Duration::ZERO)[0].to_string();
    assert!(!created.contains("SnapshotId") && created.contains("Size"), "{created}");
    let registered = standin.requests_of("RegisterImage", 1, Duration::ZERO)[0].to_string();
    for word in ["/dev/sda1", "hvm", "x86_64", "gp3"] {
        assert!(registered.contains(word) || word == "x86_64", "{word}: {registered}");
    }
    let image = standin.find("images", "ImageId", &id).unwrap();
    let snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"].as_str().unwrap().to_owned();
    assert_eq!((&image["RootDeviceName"], &image["EnaSupport"]), (&json!("/dev/sda1"), &json!(true)));
    let file =
        standin.find("snapshots", "SnapshotId", &snapshot).unwrap()["File"].as_str().unwrap().to_owned();
    look_into(file.as_ref(), 1, "ext4", |root| {
        assert_eq!(fs::read_to_string(root.join("srv/mark")).unwrap(), "baked\n");
    });

    // How it would boot is in the plan, which makes nothing.
    let before = standin.counts();
    let boots = text.replace(", boot_loader = false", "");
    bakery.put("boots.toml", boots);
    let plan = bakery.bakehouse(&["bake", "boots.toml", "--dry-run"]).good().out;
    for word in [
        "from scratch: GPT, ext4 root, filled by",
        "GRUB for BIOS and UEFI",
        "1GiB, gp3, blank",
        "uefi-preferred",
    ] {
        assert!(plan.contains(word), "{word}: {plan}");
    }
    let json = bakery.bakehouse(&["bake", "boots.toml", "--dry-run", "--output", "json"]).json();
    assert_eq!(json["disk"]["scratch"]["filesystem"], "ext4", "{json:#}");
    assert_eq!(json["base"]["inherited"]["BootMode"], "uefi-preferred", "{json:#}");
    let effects = |counts: &std::collections::BTreeMap<String, usize>| counts.get("CreateVolume").copied();
    assert_eq!(effects(&before), effects(&standin.counts()));

    // A bootstrap that fails leaves nothing there.
    bakery.put("bootstrap.sh", "#!/bin/sh\necho no luck >&2\nexit 3\n");
    bakery.bake(&text, &[]).refused(9, &["bootstrapping the root by bootstrap.sh", "no luck"]);
    assert_eq!(standin.state()["volumes"], json!([]));
    bakery.assert_nothing_left();
    standin.stop();
}

#[test]
fn a_bootstrap_that_goes_wrong_is_a_failed_step_and_leaves_nothing() {
    if !can_fill() {
        return;
    }
    for (bootstrap, more, status, words) in [
        ("#!/bin/sh\nmkdir \"$BAKEHOUSE_ROOT/srv\"\n", "", 9, "left a root without /etc/os-release"),
        ("#!/bin/sh\nsetsid sleep 1000\n", ", timeout = \"1s\"", 9, "took longer than 1 s"),
        ("#!/bin/sh\ncd /\nsetsid sleep 1000 2>/dev/null &\nexit 7\n", "", 9, "exit status: 7"),
    ] {
        let bakery = bakery(None, bootstrap);
        bakery.bake(&recipe(&script(more), ""), &[]).refused(status, &[words]);
        bakery.assert_nothing_left();
    }
    // What is seen before anything is made.
    let bakery = bakery(None, BOOTSTRAP);
    run("chmod", &["-x", bakery.path("bootstrap.sh").to_str().unwrap()]);
    bakery.bake(&recipe(&script(""), ""), &[]).refused(3, &["is not executable", "chmod +x"]);
    bakery.bake(&recipe("bootstrap = \"./gone.sh\"", ""), &[]).refused(3, &["no such file: ./gone.sh"]);
    bakery.bakehouse(&["bake", "--base", "scratch:debian-12"]).refused(3, &["how large the blank disk"]);
    bakery.bakehouse(&["bake", "--base", "scratch:debian-21", "--size", "4GiB"]).refused(3, &["debian-12"]);
    let plan =
        bakery.bakehouse(&["bake", "--base", "scratch:debian-12", "--size", "4GiB", "--dry-run"]).good();
    assert!(plan.out.contains("filled by debian-12"), "{}", plan.out);
    bakery.assert_nothing_left();
}

#[test]
fn a_bake_that_is_killed_takes_its_bootstrap_with_it() {
    if !can_fill() {
        return;
    }
    let sleeps = "#!/bin/sh\necho > \"$1\"\nsetsid sh -c 'sleep 1000; true' \"$1\" &\nsleep 1000\n";
    let bakery = bakery(None, sleeps);
    let mark = bakery.path("mark");
    let with = script("").replace("an argument", mark.to_str().unwrap());
    bakery.put("recipe.toml", recipe(&with, ""));
    let mut child = bakery.command(&[], &["bake", "recipe.toml"]).spawn().unwrap();
    let number = |text: String| text.trim().parse::<i32>().ok();
    until("the bootstrap runs", || (mark.exists() && of_it(&mark) >= 2).then_some(()));
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let bake = number(fs::read_to_string(children).unwrap()).unwrap();
    kill(Pid::from_raw(bake), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    until("the bootstrap ends", || (of_it(&mark) == 0).then_some(()));
    // What the kernel still closes of the killed process.
    bakery.until_nothing_is_held();
    bakery.bakehouse(&["gc", "--yes"]).good();
    bakery.assert_nothing_left();
}

/// How many processes of this host have that path among their arguments.
fn of_it(path: &std::path::Path) -> usize {
    let word = path.to_str().unwrap().as_bytes();
    let lines = fs::read_dir("/proc").unwrap().flatten().map(|entry| fs::read(entry.path().join("cmdline")));
    lines.flatten().filter(|line| line.split(|byte| *byte == 0).any(|argument| argument == word)).count()
}

fn until<T>(what: &str, mut met: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = met() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_release_from_scratch_boots_by_bios_and_by_uefi() {
    let needed = ["mmdebstrap", "qemu-system-x86_64", "mdir"];
    if !can_fill() || !has(&needed) {
        return;
    }
    let mut bakery = Bakery::new().patient("600");
    // The packages stay for the next time.
    let cache = crate::support::bases::packages();
    bakery.set("BAKEHOUSE_CACHE", Some(cache.to_str().unwrap()));
    let recipe = "[image]\nname = \"whole\"\n[disk]\nsize = \"3GiB\"\n[base]\nscratch = \"debian-12\"\n\
        [[step]]\nuse = \"script\"\nrun = [\"/bin/sh\", \"-c\", \"echo from scratch > /etc/issue\"]\n";
    let id = bakery.bake(recipe, &[]).id();
    let store = bakery.store();
    let disk = store.disk_of(&store.image(&id).unwrap());
    let esp = format!("{}@@4M", disk.display());
    assert!(run("mdir", &["-b", "-i", &esp, "::/EFI/BOOT"]).contains("BOOTX64.EFI"));
    for firmware in ["bios", "uefi"] {
        let command = bakery.command(
            &[],
            &["local", "boot", &id, "--memory", "512", "--firmware", firmware, "--", "-monitor", "none"],
        );
        let said = Machine::boot(command).wait_for("debian login:").to_owned();
        assert!(said.contains("from scratch"), "{said}");
        assert_eq!(said.contains("efi: EFI v"), firmware == "uefi", "{said}");
    }
    bakery.assert_nothing_left();
}
