//! Whole bakes on EC2's road by the command itself, against the stand-in: nothing is set but what the SDK's own
//! standard variables say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bake::{can_bake, offline_base, web_package};
use crate::support::bakery::{Bakery, Ran, look_into, small_disk};
use crate::support::host::has;
use crate::support::images::Image;
use crate::support::standin::{INSTANCE, Options, REGION, Standin, ZONE};
use crate::support::{not_root, skipped};

mod lvm;

pub const RECIPE: &str = r#"
[image]
name = "small-{arch}"
tags = { team = "web" }
[base]
name = "base-*"
owner = "self"
[disk]
size = "8GiB"
type = "gp3"
iops = 4000
throughput = 200
[[step]]
use = "script"
script = "setup.sh"
[[check]]
run = ["/bin/sh", "-c", "read -r mark < /srv/mark && [ \"$mark\" = baked ]"]
"#;

/// What is done while a call is held, and whether it was the call that was meant.
pub type Meanwhile<'a> = &'a mut dyn FnMut() -> bool;

/// Such a builder, whose base is a small disk.
pub struct Builder {
    pub standin: Standin,
    pub bakery: Bakery,
    pub ami: String,
    pub snapshot: String,
    pub disk: Image,
}

impl Builder {
    pub fn start(options: &Options, about: Value) -> Option<Self> {
        if skipped(not_root()) || !has(&["sfdisk", "mkfs.ext4", "ldd", "timeout"]) {
            return None;
        }
        Some(Self::on(options, about, small_disk()))
    }

    /// One whose base is another disk.
    pub fn on(options: &Options, about: Value, disk: Image) -> Self {
        let standin = Standin::start(options);
        let bakery = Bakery::on_ec2(&standin);
        let mut base = json!({"name": "base-1", "tags": {"appversion": "base-1.0"}});
        base.as_object_mut().unwrap().extend(about.as_object().unwrap().clone());
        let (ami, snapshot) = standin.seed(disk.path(), base);
        bakery.put("setup.sh", "#!/bin/sh\necho baked > /srv/mark\n");
        bakery.put("recipe.toml", RECIPE);
        Self { standin, bakery, ami, snapshot, disk }
    }

    /// Runs the command, and does something while a call that it makes is held.
    pub fn while_held(&self, call: Value, arguments: &[&str], meanwhile: impl FnOnce()) -> Ran {
        let mut once = Some(meanwhile);
        let mut meanwhile = || {
            once.take().unwrap()();
            true
        };
        self.while_held_in_turn(arguments, &mut [(call, &mut meanwhile)])
    }

    /// Runs the command, and does something each time that a call which it makes is held, until that says that it was
    /// the one; then the next in the list begins, and the call goes on.
    pub fn while_held_in_turn(&self, arguments: &[&str], turns: &mut [(Value, Meanwhile<'_>)]) -> Ran {
        thread::scope(|scope| {
            let mut running = None;
            let mut last = Value::Null;
            for (call, meanwhile) in turns {
                call["kind"] = json!("hold");
                self.standin.fault(call.clone());
                match running {
                    Some(_) => self.standin.release(false),
                    None => running = Some(scope.spawn(|| self.bakery.bakehouse(arguments))),
                }
                loop {
                    last = self.next_held(&last).unwrap_or_else(|| panic!("{call}: not reached"));
                    if meanwhile() {
                        break;
                    }
                    self.standin.release(false);
                }
            }
            self.standin.release(false);
            running.unwrap().join().unwrap()
        })
    }

    /// The number of a held call, once there is another than `last`, which may be about to go on.
    fn next_held(&self, last: &Value) -> Option<Value> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let held = self.standin.held(Duration::from_secs(1));
            if let Some(call) = held.iter().find(|call| call["request"] != *last) {
                return Some(call["request"].clone());
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// How many volumes, snapshots and images there are, the base's own left out.
    pub fn left(&self) -> (usize, usize, usize) {
        let state = self.standin.state();
        let count = |kind: &str| state[kind].as_array().unwrap().len();
        (count("volumes"), count("snapshots") - 1, count("images") - 1)
    }
}

fn tags(thing: &Value) -> BTreeMap<String, String> {
    let pairs = thing["Tags"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    pairs.map(|pair| (text(&pair["Key"]), text(&pair["Value"]))).collect()
}

/// The file with the content of a snapshot.
fn file_of(standin: &Standin, snapshot: &str) -> PathBuf {
    let found = standin.find("snapshots", "SnapshotId", snapshot).unwrap();
    PathBuf::from(found["File"].as_str().unwrap())
}

#[test]
fn one_line_bakes_a_package_and_tells_every_call() {
    if !can_bake(&[]) {
        return;
    }
    let standin = Standin::start(&Options::default());
    let bakery = Bakery::on_ec2(&standin);
    let base = offline_base(&bakery.path(""));
    let (ami, _) =
        standin.seed(&base, json!({"name": "debian-12-amd64-1", "tags": {"appversion": "debian-12"}}));
    web_package(&bakery.path(""));
    let package = fs::read_dir(bakery.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.ends_with(".deb"))
        .unwrap();

    let ran = bakery.bakehouse(&["bake", "--base", &ami, &format!("./{package}"), "--output", "json"]);
    let told = ran.told();
    let first = ran.err.lines().next().unwrap_or_default().to_owned();
    assert!(
        first.contains("ec2") && first.contains("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
        "says which cloud and why: {told}"
    );
    let baked = ran.json();
    let (image, snapshot) = (baked["image"].as_str().unwrap(), baked["snapshot"].as_str().unwrap());
    assert!(image.starts_with("ami-") && snapshot.starts_with("snap-"), "{baked:#}");
    assert!(baked["name"].as_str().unwrap().starts_with("web-1.4.2-"), "{baked:#}");
    assert_eq!((&baked["region"], &baked["base"]), (&json!(REGION), &json!(ami)));

    let counted: BTreeMap<String, usize> = serde_json::from_value(baked["api_calls"].clone()).unwrap();
    assert_eq!(counted, standin.counts(), "each call is told\n{told}");
    eprintln!("{} calls: {counted:?}; seconds {}", counted.values().sum::<usize>(), baked["seconds"]);
    for verb in
        ["CreateVolume", "AttachVolume", "DetachVolume", "DeleteVolume", "CreateSnapshot", "RegisterImage"]
    {
        assert_eq!(counted.get(verb), Some(&1), "{verb} once: {counted:?}");
    }
    assert!(!counted.contains_key("CreateTags"), "tags are set at creation: {counted:?}");

    look_into(&file_of(&standin, snapshot), 1, "ext4", |root| {
        let status = fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
        assert!(status.contains("Package: web\nStatus: install ok installed\n"), "{told}");
        assert!(root.join("var/lib/web/configured").is_file());
        assert!(!root.join("var/lib/web/started").exists());
        assert!(!root.join("usr/sbin/policy-rc.d").exists());
    });
    assert_eq!(standin.state()["volumes"], json!([]));
    bakery.assert_nothing_left();
    standin.stop();
}

#[test]
fn what_is_made_is_tagged_at_creation_and_inherits_from_the_base() {
    let about = json!({
        "boot_mode": "uefi-preferred", "tpm_support": "v2.0", "imds_support": "v2.0", "ena_support": true,
        "sriov_net_support": "simple", "root_device_name": "/dev/sda1",
        "mappings": [{"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"}],
    });
    let Some(builder) = Builder::start(&Options::default(), about) else { return };
    let Builder { standin, bakery, .. } = &builder;
    let ran = bakery.bakehouse(&["bake", "recipe.toml"]);
    let told = ran.told();
    let id = ran.id();
    let image = standin.find("images", "ImageId", &id).unwrap();
    for (key, value) in [
        ("BootMode", "uefi-preferred"),
        ("TpmSupport", "v2.0"),
        ("ImdsSupport", "v2.0"),
        ("SriovNetSupport", "simple"),
        ("RootDeviceName", "/dev/sda1"),
        ("VirtualizationType", "hvm"),
    ] {
        assert_eq!(image[key], value, "{key}: {image:#}\n{told}");
    }
    assert_eq!(image["EnaSupport"], true);
    let mappings = image["BlockDeviceMappings"].as_array().unwrap();
    assert!(mappings.iter().any(|each| each["VirtualName"] == "ephemeral0"), "{mappings:#?}");
    let root = mappings.iter().find(|each| each["DeviceName"] == "/dev/sda1").unwrap();
    assert_eq!(root["Ebs"]["VolumeSize"], 8);
    assert!(
        image["Description"].as_str().unwrap().contains("ancestor_name=base-1, ancestor_id=ami-"),
        "{image:#}"
    );

    // Each at creation: none is ever there without them.
    for (action, parts) in [("CreateVolume", 1), ("CreateSnapshot", 1), ("RegisterImage", 1)] {
        let requests = standin.requests();
        let request = requests.iter().find(|each| each["action"] == action).unwrap().to_string();
        for word in ["bakehouse:bake", "team", "creator", "TagSpecification"] {
            assert!(request.matches(word).count() >= parts, "{action} without {word}: {request}");
        }
    }
    let own = tags(&image);
    assert_eq!((own["team"].as_str(), own["base_ami_version"].as_str()), ("web", "base-1.0"), "{own:?}");
    assert_eq!(own["bakehouse:builder"], INSTANCE);
    let snapshot = root["Ebs"]["SnapshotId"].as_str().unwrap();
    assert_eq!(
        tags(&standin.find("snapshots", "SnapshotId", snapshot).unwrap())["bakehouse:bake"],
        own["bakehouse:bake"]
    );
    let volume = standin.requests_of("CreateVolume", 1, Duration::ZERO)[0].clone();
    let parameters = volume.to_string();
    for word in ["gp3", "4000", "200", ZONE, "ClientToken"] {
        assert!(parameters.contains(word), "{word}: {parameters}");
    }
    assert_eq!(builder.left(), (0, 1, 1), "{told}");
    bakery.assert_nothing_left();

    // The name is taken now: that is seen before any volume is made.
    bakery.bakehouse(&["bake", "recipe.toml"]).refused(12, &["small-", &id]);
    assert_eq!(standin.counts()["CreateVolume"], 1);
    let images = bakery.bakehouse(&["images"]).good();
    assert!(images.out.contains(&id) && images.out.contains("small-"), "{}", images.told());
}

#[test]
fn devices_are_found_by_xen_names_too() {
    let options = Options { xen: true, ..Options::default() };
    let Some(builder) = Builder::start(&options, json!({})) else { return };
    let id = builder.bakery.bakehouse(&["bake", "recipe.toml"]).id();
    assert!(builder.standin.find("images", "ImageId", &id).is_some());
    assert_eq!(builder.left(), (0, 1, 1));
    builder.bakery.assert_nothing_left();
}

#[test]
fn a_base_is_named_by_id_parameter_snapshot_or_name() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, ami, snapshot, disk } = &builder;
    standin.seed(disk.path(), json!({"name": "base-0", "created": 1_600_000_000}));
    standin.parameter("/bases/debian", ami);
    for (name, base) in
        [("id", ami.as_str()), ("parameter", "/bases/debian"), ("newest", "base-*"), ("snapshot", snapshot)]
    {
        let ran =
            bakery.bakehouse(&["bake", "--base", base, "--name", &format!("by-{name}"), "--output", "json"]);
        let told = ran.told();
        let baked = ran.json();
        let wanted = if name == "snapshot" { snapshot } else { ami };
        assert_eq!(baked["base"], *wanted, "{name}: {told}");
    }
    assert_eq!(standin.state()["volumes"], json!([]));
    bakery.assert_nothing_left();
}

#[test]
fn eight_bakes_at_once_each_have_their_own_device() {
    let latencies = [("create-volume", 0.2), ("attach", 0.1), ("detach", 0.1), ("snapshot", 0.5)];
    let options = Options {
        latencies: latencies.map(|(name, seconds)| (name.to_owned(), seconds)).into(),
        ..Options::default()
    };
    let Some(builder) = Builder::start(&options, json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put(
        "setup.sh",
        "#!/bin/sh\necho baked > /srv/mark\nread -r a b < /proc/uptime; echo \"$WHO\" > /srv/who\n",
    );
    let baked: Vec<Value> = thread::scope(|scope| {
        let bakes: Vec<_> = (0..8)
            .map(|number| {
                scope.spawn(move || {
                    let name = format!("at-once-{number}");
                    bakery.bakehouse(&["bake", "recipe.toml", "--name", &name, "--output", "json"]).json()
                })
            })
            .collect();
        bakes.into_iter().map(|bake| bake.join().unwrap()).collect()
    });
    for one in &baked {
        look_into(&file_of(standin, one["snapshot"].as_str().unwrap()), 1, "ext4", |root: &Path| {
            assert_eq!(fs::read_to_string(root.join("srv/mark")).unwrap(), "baked\n");
        });
    }
    let slowest = baked.iter().map(|one| one["seconds"]["total"].as_f64().unwrap()).fold(0.0, f64::max);
    eprintln!("the slowest of eight took {slowest} s");
    assert_eq!(builder.left(), (0, 8, 8));
    bakery.assert_nothing_left();
}

#[test]
fn a_failed_step_leaves_nothing_on_ec2() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("setup.sh", "#!/bin/sh\necho this is why\nexit 3\n");
    bakery.bakehouse(&["bake", "recipe.toml"]).refused(9, &["this is why", "exit status 3"]);
    assert_eq!(builder.left(), (0, 0, 0));
    assert!(!standin.counts().contains_key("CreateSnapshot"));
    bakery.assert_nothing_left();

    // Kept when asked for, and gone by gc.
    let kept = bakery
        .bakehouse(&["bake", "recipe.toml", "--on-error", "keep"])
        .refused(9, &["kept, as asked: ", "vol-"]);
    assert_eq!(builder.left(), (1, 0, 0), "{}", kept.told());
    let shown = bakery.bakehouse(&["gc"]).good();
    assert!(shown.out.contains("vol-") || shown.err.contains("vol-"), "{}", shown.told());
    assert_eq!(builder.left(), (1, 0, 0), "shown only");
    bakery.bakehouse(&["gc", "--yes", "--kept-older-than", "0s"]).good();
    assert_eq!(builder.left(), (0, 0, 0));
    bakery.assert_nothing_left();
}

#[test]
fn a_bake_that_ends_early_and_cannot_let_its_volume_go_is_no_success() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    standin.fault(json!({"action": "DeleteVolume", "kind": "denied", "times": 0}));
    let until = ["bake", "recipe.toml", "--until", "1"];
    bakery.bakehouse(&until).refused(14, &["after step 1 of 1", "still there: ", "vol-", "bakehouse gc"]);
    standin.clear_faults();
    bakery.bakehouse(&["gc", "--yes"]).good();
    assert_eq!(builder.left(), (0, 0, 0));
    bakery.bakehouse(&until).good();
    bakery.assert_nothing_left();
}
