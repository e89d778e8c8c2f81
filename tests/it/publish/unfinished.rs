//! Where publishing fails the image is good: what is missing is told, and `publish` finishes it.

use serde_json::{Value, json};

use super::{FRIEND, KEY, REGIONS, everything, is_published, modifying};
use crate::bake_ec2::{Builder, RECIPE};
use crate::support::bakery::Ran;
use crate::support::standin::{Options, REGION};

/// That a bake or `publish` came to a good image which is not wholly published; the image.
#[track_caller]
fn unfinished(ran: &Ran, words: &[&str]) -> String {
    assert_eq!(ran.status, Some(13), "{}", ran.told());
    let image = ran.out.split_whitespace().find(|word| word.starts_with("ami-"));
    let image = image.unwrap_or_else(|| panic!("{}", ran.told())).to_owned();
    assert_eq!(ran.err.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", ran.told());
    for word in words.iter().chain(&["is good", "missing:", "because:", "--recipe recipe.toml"]) {
        assert!(ran.err.contains(word), "does not say {word:?}: {}", ran.told());
    }
    image
}

#[test]
fn a_failure_in_one_region_holds_up_no_other_and_publish_finishes_it() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("recipe.toml", everything());
    standin.fault(json!({"action": "CopyImage", "kind": "denied", "times": 0, "where": {"KmsKeyId": KEY}}));
    let ran = bakery.bakehouse(&["bake", "recipe.toml"]);
    let image = unfinished(&ran, &["eu-central-1", "ec2:CopyImage", "us-east-1: done:"]);
    assert_eq!(ran.out, format!("{image}\n"), "the result is told");
    is_published(standin, REGION, &image);
    let name = format!("/images/small/{}/latest", super::arch());
    assert_eq!(standin.state_of("eu-central-1")["parameters"], json!({}));
    assert_eq!(standin.state_of("us-east-1")["parameters"].as_object().unwrap().len(), 1);
    bakery.assert_nothing_left();

    // Still refused: told in the same words, and nothing that stands is touched again.
    standin.clear_requests();
    let ran = bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml", "--output", "json"]);
    assert_eq!(ran.status, Some(13), "{}", ran.told());
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(document["error"]["status"], 13, "one document: {}", ran.told());
    assert_eq!(document["published"]["us-east-1"]["done"], json!([]));
    assert!(!document["published"]["eu-central-1"]["missing"].as_array().unwrap().is_empty());
    let tried: Vec<_> = modifying(standin).iter().map(|each| each["action"].clone()).collect();
    assert!(
        tried.iter().all(|action| action == "CopyImage" || action == "DecodeAuthorizationMessage"),
        "{tried:?}"
    );

    standin.clear_faults();
    let ran = bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml"]).good();
    let copy = ran.out.lines().find_map(|line| line.strip_prefix("eu-central-1  ")).unwrap();
    is_published(standin, "eu-central-1", copy);
    assert_eq!(standin.state_of("eu-central-1")["parameters"][&name], copy);
    standin.clear_requests();
    bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml"]).good();
    assert_eq!(modifying(standin), Vec::<Value>::new());
}

#[test]
fn each_call_that_is_refused_or_lost_is_made_good() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, disk, .. } = &builder;
    bakery.put("recipe.toml", everything());
    // One that says another image, to be overwritten and tagged.
    standin.parameter(&format!("/images/small/{}/latest", super::arch()), &builder.ami);
    let actions = [
        "CopyImage",
        "ModifyImageAttribute",
        "ModifySnapshotAttribute",
        "EnableImageDeprecation",
        "EnableImageDeregistrationProtection",
        "DescribeImageAttribute",
        "DescribeSnapshotAttribute",
        "GetParameter",
        "ListTagsForResource",
        "PutParameter",
        "AddTagsToResource",
    ];
    for (number, action) in actions.into_iter().enumerate() {
        for (kind, when, times) in [("denied", "before", 0), ("reset", "after", 1), ("throttle", "before", 2)]
        {
            let name = format!("small-{number}-{kind}");
            let bake = format!("bake-{number}-{kind}");
            let (image, _) = standin.seed(
                disk.path(),
                json!({"name": name, "public": false, "architecture": super::arch(),
                    "tags": {"team": "web", "bakehouse:bake": bake}}),
            );
            standin.clear_requests();
            standin.fault(json!({"action": action, "kind": kind, "when": when, "times": times}));
            let ran = bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml"]);
            assert!(
                standin.requests().iter().any(|each| each["action"] == action),
                "{action}: {}",
                ran.told()
            );
            standin.clear_faults();
            if kind == "denied" {
                unfinished(&ran, &[action]);
                bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml"]).good();
            } else {
                assert_eq!(ran.status, Some(0), "{action} {kind}: {}", ran.told());
            }
            for region in REGIONS {
                let state = standin.state_of(region);
                let images = state["images"].as_array().unwrap().iter();
                let [one] = images
                    .filter(|each| each["Name"] == name.as_str())
                    .collect::<Vec<_>>()
                    .try_into()
                    .unwrap();
                is_published(standin, region, one["ImageId"].as_str().unwrap());
            }
        }
    }
}

#[test]
fn what_the_default_key_encrypts_is_not_shared_and_the_remedy_is_told() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    let publish = format!(
        "[publish]\naccounts = [\"{FRIEND}\"]\nparameters = [\"/web\"]\n[[publish.copy]]\nregion = \"us-east-1\"\nencrypted = true\n"
    );
    bakery.put("recipe.toml", format!("{RECIPE}{publish}"));
    let ran = bakery.bakehouse(&["bake", "recipe.toml"]);
    unfinished(&ran, &["default key", "give a `kms_key` of your own", "write the parameter /web"]);
    assert_eq!(standin.state_of("us-east-1")["parameters"], json!({}), "held up by the share");
    assert_eq!(standin.state()["parameters"].as_object().unwrap().len(), 1);
}

#[test]
fn a_copy_that_failed_is_made_anew() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("recipe.toml", everything());
    standin.fault(json!({"action": "CopyImage", "kind": "error-state", "where": {"KmsKeyId": KEY}}));
    let image = unfinished(&bakery.bakehouse(&["bake", "recipe.toml"]), &["is failed"]);
    let would = bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml", "--dry-run"]).good();
    assert!(would.out.contains("would deregister ami-"), "{}", would.told());
    bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml"]).good();
    let state = standin.state_of("eu-central-1");
    let [copy] = state["images"].as_array().unwrap().as_slice() else { panic!("{state:#}") };
    is_published(standin, "eu-central-1", copy["ImageId"].as_str().unwrap());
    assert_eq!(state["snapshots"].as_array().unwrap().len(), 1, "none of the copy that failed: {state:#}");
}

#[test]
fn a_copy_that_never_comes_is_given_up_in_time_and_found_again() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put(
        "recipe.toml",
        format!("{RECIPE}\n[publish]\nregions = [\"us-east-1\"]\nparameters = [\"/web\"]\n"),
    );
    standin.latencies(json!({"copy": 10.0}));
    let ran = bakery.bakehouse(&["bake", "recipe.toml", "--deadline", "copy=1s"]);
    let image = unfinished(&ran, &["us-east-1", "still pending after"]);
    let ran = bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml"]).good();
    assert_eq!(standin.counts()["CopyImage"], 1, "the same copy: {}", ran.told());
    assert!(standin.state_of("us-east-1")["parameters"]["/web"].is_string());
}

#[test]
fn a_signal_while_publishing_leaves_a_good_image() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let Builder { standin, bakery, .. } = &builder;
    bakery.put("recipe.toml", everything());
    standin.fault(json!({"action": "CopyImage", "kind": "hold", "when": "after"}));
    let ran = std::thread::scope(|scope| {
        let running = scope.spawn(|| bakery.bakehouse(&["bake", "recipe.toml"]));
        assert_eq!(standin.held(std::time::Duration::from_secs(60)).len(), 1);
        let journal = std::fs::read_dir(bakery.path("state/bakes")).unwrap().flatten().next().unwrap();
        let holder = holder_of(&journal.path());
        nix::sys::signal::kill(holder, nix::sys::signal::Signal::SIGTERM).unwrap();
        standin.release(false);
        running.join().unwrap()
    });
    standin.clear_faults();
    let image = unfinished(&ran, &["stopped by SIGTERM"]);
    bakery.assert_nothing_left();
    bakery.bakehouse(&["publish", &image, "--recipe", "recipe.toml"]).good();
    for region in REGIONS {
        let state = standin.state_of(region);
        let name = format!("small-{}", super::arch());
        let one =
            state["images"].as_array().unwrap().iter().find(|each| each["Name"] == name.as_str()).unwrap();
        is_published(standin, region, one["ImageId"].as_str().unwrap());
    }
}

/// The process that has a file open.
fn holder_of(path: &std::path::Path) -> nix::unistd::Pid {
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let open = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        if open.into_iter().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == path)) {
            let id = process.file_name().to_str().unwrap().parse().unwrap();
            return nix::unistd::Pid::from_raw(id);
        }
    }
    panic!("nobody has {} open", path.display());
}
