//! Images taken out of use: never one that something still refers to, and all that is shown is what is done.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::bakery::Bakery;
use crate::support::standin::{ACCOUNT, INSTANCE, Options, Standin};
use crate::support::{not_root, skipped};

mod local;
mod referred;
mod shown;
mod stopped;

/// A stand-in with images of bakes, and a builder that looks after them.
pub struct Shop {
    pub standin: Standin,
    pub bakery: Bakery,
    disk: PathBuf,
}

impl Shop {
    pub fn open() -> Option<Self> {
        if skipped(not_root()) {
            return None;
        }
        let standin = Standin::start(&Options::default());
        let bakery = Bakery::on_ec2(&standin);
        let disk = bakery.path("disk.raw");
        File::create(&disk).unwrap().set_len(1 << 20).unwrap();
        Some(Self { standin, bakery, disk })
    }

    /// An image of this account that bake `web-N` made N days ago; its id and its snapshot's.
    pub fn image(&self, name: &str, days: u32, about: Value) -> (String, String) {
        let family = name.rsplit_once('-').map_or(name, |(family, _)| family);
        let now = jiff::Timestamp::now().as_second() as f64;
        let mut tags = json!({
            "bakehouse:bake": format!("bake-{name}"), "bakehouse:builder": INSTANCE, "bakehouse:family": family,
        });
        if let Some(more) = about.get("tags") {
            tags.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        }
        let mut all = json!({
            "name": name, "owner": ACCOUNT, "public": false, "created": now - f64::from(days) * 86_400.0 - 60.0,
        });
        all.as_object_mut().unwrap().extend(about.as_object().unwrap().clone());
        all["snapshot_tags"] = tags.clone();
        all["tags"] = tags;
        self.standin.seed(&self.disk, all)
    }

    pub fn prune(&self, arguments: &[&str]) -> BTreeMap<String, (String, String)> {
        let told = self.bakery.bakehouse(&[&["prune", "--output", "json"], arguments].concat()).json();
        verdicts(&told)
    }

    pub fn images(&self) -> Vec<String> {
        names(&self.standin.state()["images"], "Name")
    }

    fn snapshots(&self) -> Vec<String> {
        names(&self.standin.state()["snapshots"], "SnapshotId")
    }
}

fn names(list: &Value, key: &str) -> Vec<String> {
    let mut names: Vec<_> =
        list.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Name and Region of each image, to its verdict and why.
pub fn verdicts(told: &Value) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |image: &Value| {
        let why: Vec<_> = image["why"].as_array().unwrap().iter().map(text).collect();
        let key = match image["region"].as_str().unwrap() {
            "eu-west-1" | "local" => text(&image["name"]),
            region => format!("{} in {region}", text(&image["name"])),
        };
        (key, (text(&image["verdict"]), why.join("; ")))
    };
    told["images"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn what_nothing_refers_to_goes_with_its_snapshots_and_all_else_stays_with_its_reason() {
    let Some(shop) = Shop::open() else { return };
    let image = |name: &str, days: u32| shop.image(name, days, json!({}));
    let (newest, _) = image("web-9", 1);
    let (run, _) = image("web-8", 8);
    let (template, _) = image("web-7", 9);
    let (configuration, _) = image("web-6", 10);
    let (parameter, _) = image("web-5", 11);
    let (base, base_snapshot) = image("mid-4", 60);
    let (guarded, _) = shop.image("web-4", 12, json!({"protection": "enabled-without-cooldown"}));
    let (free, free_snapshot) = image("web-3", 30);
    let (stopped, _) = image("web-2", 40);
    let (ended, ended_snapshot) = image("web-1", 50);
    shop.image("own-1", 20, json!({"tags": {"bakehouse:base": base}}));
    shop.image("own-2", 1, json!({}));
    // Not of a bake: never meant, whatever its name.
    shop.standin.seed(&shop.disk, json!({"name": "web-0", "owner": ACCOUNT, "public": false}));
    shop.standin.users(json!({
        "instances": [
            {"InstanceId": "i-0123456789abcdef0", "ImageId": run, "Tags": {"Name": "front"}},
            {"InstanceId": "i-0123456789abcdef1", "ImageId": stopped, "State": "stopped"},
            {"InstanceId": "i-0123456789abcdef2", "ImageId": ended, "State": "terminated"},
        ],
        "templates": [
            {"LaunchTemplateId": "lt-0123456789abcdef0", "LaunchTemplateName": "web", "Versions": [template, newest, template]},
        ],
        "launch_configurations": [{"LaunchConfigurationName": "old", "ImageId": configuration}],
        "groups": [
            {"AutoScalingGroupName": "fleet", "LaunchTemplate": {"LaunchTemplateId": "lt-0123456789abcdef0", "Version": "3"}},
            {"AutoScalingGroupName": "oldies", "LaunchConfigurationName": "old"},
        ],
    }));
    shop.standin.parameter("/images/web/5", &parameter);

    let before = (shop.images(), shop.snapshots());
    let wanted = ["--name", "web-*", "--keep", "1", "--older-than", "7d"];
    let told = shop.prune(&wanted);
    let verdict = |name: &str| told.get(name).map(|(verdict, why)| (verdict.as_str(), why.as_str()));
    assert_eq!(verdict("web-9"), Some(("keep", "the newest of web x86_64")));
    assert_eq!(verdict("web-8"), Some(("excluded", "instance i-0123456789abcdef0 (\"front\", running)")));
    let by = "launch template web (lt-0123456789abcdef0) versions 1, 3 of Auto Scaling group fleet";
    assert_eq!(verdict("web-7"), Some(("excluded", by)));
    assert_eq!(verdict("web-6"), Some(("excluded", "launch configuration old of Auto Scaling group oldies")));
    assert_eq!(verdict("web-5"), Some(("excluded", "parameter /images/web/5")));
    let protected = format!(
        "it is protected from being deregistered (enabled-without-cooldown): end the protection (aws ec2 \
         disable-image-deregistration-protection --image-id {guarded} --region eu-west-1; one with a cool-down holds for a day more)"
    );
    assert_eq!(verdict("web-4"), Some(("excluded", protected.as_str())));
    assert_eq!(verdict("web-3"), Some(("retire", "")));
    assert_eq!(verdict("web-2"), Some(("excluded", "instance i-0123456789abcdef1 (stopped)")));
    assert_eq!(verdict("web-1"), Some(("retire", "")));
    assert_eq!(told.len(), 9, "{told:#?}");
    assert_eq!((shop.images(), shop.snapshots()), before, "nothing is touched without --yes");
    assert!(shop.standin.requests_of("DeregisterImage", 0, std::time::Duration::ZERO).is_empty());

    let text = shop.bakery.bakehouse(&[&["prune"], &wanted[..]].concat()).good();
    assert!(
        text.out.lines().any(|line| line.starts_with("deregister ") && line.contains(&free)),
        "{}",
        text.told()
    );
    assert!(
        text.out.lines().any(|line| line.starts_with("in use ") && line.contains("stopped")),
        "{}",
        text.told()
    );
    assert!(text.err.contains("nothing was touched: --yes does it to 2 images"), "{}", text.told());

    let told = shop.prune(&[&wanted[..], &["--yes"]].concat());
    let done: Vec<_> =
        told.iter().filter(|(_, (verdict, _))| verdict == "retired").map(|(name, _)| name).collect();
    assert_eq!(done, ["web-1", "web-3"]);
    let sent = shop.standin.requests_of("DeregisterImage", 0, std::time::Duration::ZERO);
    let sent: Vec<_> = sent.iter().map(|request| request["params"].clone()).collect();
    assert_eq!(sent.len(), 2, "{sent:#?}");
    for (params, id) in sent.iter().zip([&free, &ended]) {
        assert_eq!((&params["ImageId"], &params["DeleteAssociatedSnapshots"]), (&json!(id), &json!("true")));
    }
    let left = shop.snapshots();
    assert!(!left.contains(&free_snapshot) && !left.contains(&ended_snapshot), "{left:?}");
    assert_eq!(shop.images().len(), before.0.len() - 2);

    // By provenance: what another image was baked on stays, until that goes too.
    let told = shop.prune(&["--name", "mid-*", "--keep", "0"]);
    let (own, _) = shop.standin.state()["images"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["Name"] == "own-1")
        .map(|one| (one["ImageId"].as_str().unwrap().to_owned(), ()))
        .unwrap();
    assert_eq!(told["mid-4"], ("excluded".to_owned(), format!("image own-1 ({own}) was baked on it")));
    shop.prune(&["--tag", "bakehouse:family=own", "--tag", "bakehouse:bake", "--older-than", "2d", "--yes"]);
    let told = shop.prune(&["--name", "mid-*", "--keep", "0", "--yes"]);
    assert_eq!(told["mid-4"].0, "retired");
    assert!(!shop.snapshots().contains(&base_snapshot));
    assert!(shop.images().contains(&"web-0".to_owned()));
    shop.standin.stop();
}

#[test]
fn what_a_fleet_or_a_spot_request_names_itself_stays() {
    let Some(shop) = Shop::open() else { return };
    let names = ["fleet", "spot-fleet", "waiting", "stopped", "free"];
    let ids: BTreeMap<_, _> =
        names.iter().map(|name| (*name, shop.image(&format!("{name}-1"), 20, json!({})).0)).collect();
    let overrides = |image: &str| json!([{"Overrides": [{"InstanceType": "m7i.large"}, {"ImageId": image}]}]);
    let (fleet, spot_fleet) = ("fleet-0123456789abcdef0", "sfr-0123456789abcdef0");
    let specification = |name: &str| json!([{"ImageId": ids[name]}]);
    let request = |id: &str, name: &str, state: &str| json!({"SpotInstanceRequestId": id, "ImageId": ids[name], "State": state, "Type": "persistent"});
    shop.standin.users(json!({
        "fleets": [
            {"FleetId": fleet, "LaunchTemplateConfigs": overrides(&ids["fleet"])},
            {"FleetId": "fleet-gone", "FleetState": "deleted_terminating", "LaunchTemplateConfigs": overrides(&ids["free"])},
        ],
        "spot_fleets": [
            {"SpotFleetRequestId": spot_fleet, "LaunchSpecifications": specification("spot-fleet")},
            {"SpotFleetRequestId": "sfr-gone", "SpotFleetRequestState": "cancelled_running", "LaunchSpecifications": specification("free")},
        ],
        "spot_requests": [
            request("sir-1", "waiting", "open"),
            request("sir-2", "stopped", "disabled"),
            request("sir-3", "free", "cancelled"),
            request("sir-4", "free", "closed"),
        ],
    }));
    let told = shop.prune(&["--name", "*-1", "--keep", "0", "--yes"]);
    let why = |name: &str| told[name].1.clone();
    assert_eq!(why("fleet-1"), format!("EC2 Fleet {fleet}"), "{told:#?}");
    assert_eq!(why("spot-fleet-1"), format!("Spot Fleet {spot_fleet}"));
    assert_eq!(why("waiting-1"), "Spot request sir-1 (persistent, open)");
    assert_eq!(why("stopped-1"), "Spot request sir-2 (persistent, disabled)");
    assert_eq!(told["free-1"].0, "retired", "{told:#?}");
    assert_eq!(shop.images().len(), 4);
    shop.standin.stop();
}

#[test]
fn a_snapshot_that_the_images_bake_did_not_make_stays() {
    let Some(shop) = Shop::open() else { return };
    let (mine, data) =
        shop.standin.seed(&shop.disk, json!({"name": "data", "owner": ACCOUNT, "public": false}));
    shop.standin.forget_image(&mine);
    let further = json!([{"DeviceName": "/dev/sdb", "Ebs": {"SnapshotId": data, "VolumeSize": 1, "VolumeType": "gp3"}}]);
    let (_, root) = shop.image("web-1", 20, json!({"mappings": further}));
    let prune = ["prune", "--name", "web-*", "--keep", "0"];
    let shown = shop.bakery.bakehouse(&prune).good();
    assert!(shown.out.contains(&format!("with {root}; {data} stays")), "{}", shown.told());
    assert!(shown.err.contains("1GiB of snapshots"), "{}", shown.told());
    shop.bakery.bakehouse(&[&prune[..], &["--yes"]].concat()).good();
    assert_eq!((shop.images().len(), shop.snapshots()), (0, vec![data]));
    shop.standin.stop();
}

#[test]
fn a_template_of_which_one_version_cannot_be_resolved_hides_no_other() {
    let Some(shop) = Shop::open() else { return };
    let (image, _) = shop.image("web-1", 20, json!({}));
    let (next, _) = shop.image("web-2", 20, json!({}));
    shop.standin.parameter("/images/web", &image);
    shop.standin.users(json!({"templates": [{
        "LaunchTemplateId": "lt-0123456789abcdef0", "LaunchTemplateName": "web",
        "Versions": ["resolve:ssm:/gone", "resolve:ssm:/images/web", next],
    }]}));
    let told = shop.prune(&["--name", "web-*", "--keep", "0", "--yes"]);
    let by = |version: u32| format!("launch template web (lt-0123456789abcdef0) version {version}");
    assert!(told["web-1"].1.contains(&by(2)), "{told:?}");
    assert!(told["web-2"].1.contains(&by(3)), "{told:?}");
    assert_eq!(shop.images().len(), 2);
    shop.standin.stop();
}

#[test]
fn copies_in_other_regions_go_along() {
    let Some(shop) = Shop::open() else { return };
    for number in [1, 2] {
        let name = format!("web-{number}");
        let (id, _) = shop.image(&name, 10 * number, json!({}));
        let (copy, _) =
            shop.image(&name, 10 * number, json!({"region": "us-east-1", "source": [id, "eu-west-1"]}));
        if number == 2 {
            let user = json!({"InstanceId": "i-0123456789abcdef0", "ImageId": copy});
            shop.standin.users(json!({"region": "us-east-1", "instances": [user]}));
        }
    }
    let told = shop.prune(&["--name", "web-*", "--keep", "0", "--copies-in", "us-east-1", "--yes"]);
    let used = ("excluded".to_owned(), "instance i-0123456789abcdef0 (running) in us-east-1".to_owned());
    assert_eq!(told["web-2"], used);
    assert_eq!(told["web-2 in us-east-1"], used);
    assert_eq!((told["web-1"].0.as_str(), told["web-1 in us-east-1"].0.as_str()), ("retired", "retired"));
    let sent = shop.standin.requests_of("DeregisterImage", 0, std::time::Duration::ZERO);
    let regions: Vec<_> = sent.iter().map(|request| request["region"].as_str().unwrap()).collect();
    assert_eq!(
        regions,
        ["us-east-1", "eu-west-1"],
        "the copy first: a run that is killed finds the rest again"
    );
    shop.standin.stop();
}

#[test]
fn an_image_that_cannot_go_keeps_no_other_and_a_second_run_finishes() {
    let Some(shop) = Shop::open() else { return };
    let (stuck, _) = shop.image("web-2", 20, json!({}));
    let (_, lost) = shop.image("web-1", 30, json!({}));
    shop.image("web-0", 40, json!({}));
    shop.standin.fault(json!([
        {"action": "DeregisterImage", "kind": "denied", "times": 0, "where": {"ImageId": stuck}},
        {"action": "DeregisterImage", "kind": "reset", "when": "after", "on": 1},
    ]));
    let run = ["prune", "--name", "web-*", "--keep", "0", "--yes", "--output", "json"];
    let ran = shop.bakery.bakehouse(&run);
    assert_eq!(ran.status, Some(6), "{}", ran.told());
    let told = verdicts(&serde_json::from_str(&ran.out).unwrap());
    assert_eq!(told["web-2"].0, "failed");
    assert!(told["web-2"].1.contains("DeregisterImage"), "{told:?}");
    assert_eq!((told["web-1"].0.as_str(), told["web-0"].0.as_str()), ("retired", "retired"), "{told:?}");
    assert_eq!(shop.images(), ["web-2"]);
    assert!(!shop.snapshots().contains(&lost), "a lost answer leaves no snapshot");
    shop.standin.clear_faults();
    shop.bakery.bakehouse(&run).good();
    assert_eq!((shop.images().len(), shop.snapshots().len()), (0, 0));
    shop.bakery.bakehouse(&run).good();
    shop.standin.stop();
}

#[test]
fn a_snapshot_whose_image_went_without_it_is_found_by_gc() {
    let Some(shop) = Shop::open() else { return };
    let (image, snapshot) = shop.image("web-1", 20, json!({}));
    let (_, kept) = shop.image("web-2", 20, json!({}));
    shop.standin.fault(json!({"action": "DeleteSnapshot", "kind": "denied", "times": 0}));
    shop.standin.forget_image(&image);
    shop.prune(&["--name", "web-2", "--keep", "0", "--action", "disable", "--yes"]);
    let found = shop.bakery.bakehouse(&["gc", "--all", "--output", "json"]).json();
    let ids: Vec<_> = found.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [snapshot.as_str()], "and none of an image that is disabled");
    shop.standin.clear_faults();
    shop.bakery.bakehouse(&["gc", "--all", "--yes"]).good();
    assert_eq!(shop.snapshots(), [kept]);
    shop.standin.stop();
}

#[test]
fn images_are_deprecated_or_disabled_instead_where_that_is_wanted() {
    let Some(shop) = Shop::open() else { return };
    let (image, snapshot) = shop.image("web-1", 20, json!({}));
    let run = |action: &str| {
        let told = shop.prune(&["--name", "web-*", "--keep", "0", "--action", action, "--yes"]);
        told["web-1"].clone()
    };
    assert_eq!(run("deprecate").0, "retired");
    let shown = shop.standin.find("images", "ImageId", &image).unwrap();
    assert!(shown["DeprecationTime"].is_string(), "{shown:#}");
    let (again, why) = run("deprecate");
    assert!(again == "excluded" && why.starts_with("it is deprecated already"), "{again}: {why}");
    assert_eq!(run("disable").0, "retired");
    assert_eq!(shop.standin.find("images", "ImageId", &image).unwrap()["State"], "disabled");
    assert_eq!(run("disable"), ("excluded".to_owned(), "it is disabled already".to_owned()));
    assert_eq!(shop.snapshots(), [snapshot], "its snapshot stays");
    assert_eq!(run("deregister").0, "retired");
    assert_eq!(shop.snapshots(), Vec::<String>::new());
    shop.standin.stop();
}

#[test]
fn a_recipe_knows_the_images_that_it_made() {
    let Some(shop) = Shop::open() else { return };
    for (name, family) in [
        ("web-1.4-x86_64-20260101T000000Z", None),
        ("other-1", Some("web")),
        ("web-front-1", Some("web-front")),
    ] {
        let tags = match family {
            Some(family) => json!({"bakehouse:family": family}),
            None => json!({"bakehouse:family": "", "team": "web"}),
        };
        shop.image(name, 30, json!({"tags": tags}));
    }
    shop.bakery.put("web.toml", "[image]\nname = \"web-{version}-{arch}-{time}\"\n[base]\nname = \"x\"\n[[step]]\nuse = \"apt\"\ninstall = [\"web\"]\n");
    let told = shop.prune(&["--recipe", "web.toml", "--keep", "0"]);
    assert_eq!(
        told.keys().collect::<Vec<_>>(),
        ["other-1", "web-1.4-x86_64-20260101T000000Z"],
        "its family, or its name"
    );
    shop.bakery.put("any.toml", "[image]\nname = \"{package}-{time}\"\n[base]\nname = \"x\"\n[[step]]\nuse = \"apt\"\ninstall = [\"web\"]\n");
    shop.bakery
        .bakehouse(&["prune", "--recipe", "any.toml", "--keep", "0"])
        .refused(2, &["any recipe's image", "--name"]);
    shop.bakery
        .bakehouse(&["prune", "--recipe", "web.toml"])
        .refused(2, &["how many images stay", "--keep 3"]);
    shop.bakery.bakehouse(&["prune", "--keep", "3"]).refused(2, &["which images are meant"]);
    shop.bakery
        .bakehouse(&["prune", "--name", "web", "--older-than", "soon"])
        .refused(2, &["--older-than soon", "90d"]);
    // What cannot be asked might refer to anything: nothing goes.
    shop.standin.fault(json!({"action": "DescribeLaunchConfigurations", "kind": "denied", "times": 0}));
    shop.bakery
        .bakehouse(&["prune", "--name", "*", "--keep", "0", "--yes"])
        .refused(6, &["DescribeLaunchConfigurations"]);
    assert_eq!(shop.images().len(), 3);
    shop.standin.stop();
}
