//! Sources that are objects of S3: fetched by the builder, pinned in the plan, never asked for from inside.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bake::small::can_bake;
use crate::support::bakery::{Bakery, small_disk};
use crate::support::host::run;
use crate::support::standin::{Options, Standin};
use crate::support::{not_root, skipped};

/// A builder of the local store with credentials for a stand-in's S3.
fn bakery() -> Option<(Standin, Bakery)> {
    if skipped(not_root()) || !can_bake() {
        return None;
    }
    let standin = Standin::start(&Options::default());
    let mut bakery = Bakery::new();
    for (name, value) in standin.env() {
        bakery.set(name, Some(&value));
    }
    bakery.base("small", small_disk().path());
    Some((standin, bakery))
}

fn recipe(steps: &str) -> String {
    format!("[image]\nname = \"small-{{time}}\"\n[base]\nimage = \"small\"\n{steps}")
}

fn sent(standin: &Standin, action: &str) -> Vec<Value> {
    let requests = standin.requests_of(action, 0, Duration::ZERO);
    requests.iter().map(|request| request["params"].clone()).collect()
}

#[test]
fn scripts_and_archives_come_from_s3() {
    let Some((standin, bakery)) = bakery() else { return };
    bakery.put("tree/page", "from an archive\n");
    let archive = bakery.path("tree.tar.gz");
    run("tar", &["-C", bakery.path("tree").to_str().unwrap(), "-czf", archive.to_str().unwrap(), "page"]);
    let sum = run("sha256sum", &[archive.to_str().unwrap()]);
    let sum = sum.split_whitespace().next().unwrap();
    standin.object(json!({"bucket": "plain", "key": "v1/tree.tar.gz", "file": archive, "versioned": false}));
    let script = |mark: &str| {
        let text = format!("#!/bin/sh\necho {mark} > /srv/mark\n");
        standin.object(json!({"bucket": "build", "key": "set up.sh", "text": text}))
    };
    let old = script("old");
    let new = script("new");
    let text = recipe(&format!(
        "[[step]]\nuse = \"script\"\nscript = \"s3://build/set up.sh\"\n\
         [[step]]\nuse = \"files\"\ncopy = [{{ from = {{ s3 = \"s3://plain/v1/tree.tar.gz\", sha256 = \"{sum}\" }}, to = \"/srv/tree/\", unpack = true }}]\n"
    ));
    let version = |put: &Value| put["version"].as_str().unwrap().to_owned();

    let dry = bakery.bake(&text, &["--dry-run"]).good();
    let told = format!("fetches s3://build/set up.sh (version {})", version(&new));
    assert!(dry.out.contains(&told), "{}", dry.told());
    assert!(dry.out.contains("s3://plain/v1/tree.tar.gz (ETag "), "{}", dry.told());
    assert_eq!(sent(&standin, "GetObject"), Vec::<Value>::new(), "a dry run fetches nothing");
    let digest = |steps: &str, more: &[&str]| {
        let plan = bakery.bake(steps, &[&["--dry-run", "--output", "json"], more].concat()).json();
        plan["recipe_digest"].as_str().unwrap().to_owned()
    };
    let before = digest(&text, &[]);

    let id = bakery.bake(&text, &[]).id();
    let read = |image: &str, path: &str| {
        let path = path.to_owned();
        bakery.look(image, 1, "ext4", move |root| std::fs::read_to_string(root.join(path)).unwrap())
    };
    assert_eq!(
        (read(&id, "srv/mark"), read(&id, "srv/tree/page")),
        ("new\n".into(), "from an archive\n".into())
    );
    let got = sent(&standin, "GetObject");
    assert_eq!(got.len(), 2, "{got:#?}");
    assert!(
        got.iter().any(|one| one["Key"] == "set up.sh" && one["VersionId"] == new["version"]),
        "{got:#?}"
    );
    assert!(
        got.iter().any(|one| one["IfMatch"].as_str().is_some_and(|tag| tag.starts_with('"'))),
        "{got:#?}"
    );

    // Fetched once; a new version is another digest, and fetched anew.
    bakery.bake(&text, &["--name", "again"]).good();
    assert_eq!(sent(&standin, "GetObject").len(), 2);
    let newest = script("newest");
    assert_ne!(digest(&text, &[]), before);
    let id = bakery.bake(&text, &["--name", "newest"]).id();
    assert_eq!(read(&id, "srv/mark"), "newest\n");
    assert_ne!(version(&newest), version(&new));
    // A version that the recipe names stays what it is.
    let pinned = recipe(&format!(
        "[[step]]\nuse = \"script\"\nscript = \"s3://build/set up.sh?versionId={}\"\n",
        version(&old)
    ));
    let id = bakery.bake(&pinned, &["--name", "pinned"]).id();
    assert_eq!(read(&id, "srv/mark"), "old\n");
    bakery.assert_nothing_left();
    standin.stop();
}

#[test]
fn what_is_not_as_the_recipe_says_fails_before_anything_is_made() {
    let Some((standin, bakery)) = bakery() else { return };
    standin
        .object(json!({"bucket": "build", "key": "setup.sh", "text": "#!/bin/sh\n", "region": "us-east-1"}));
    let step = |source: &str| recipe(&format!("[[step]]\nuse = \"script\"\nscript = \"{source}\"\n"));
    bakery.bake(&step("s3://build/setup.sh"), &[]).good();
    bakery.bake(&step("s3://build/none.sh"), &[]).refused(3, &["there is no s3://build/none.sh"]);
    let zeroes = "0".repeat(64);
    bakery
        .bake(&step(&format!("s3://build/setup.sh#sha256={zeroes}")), &["--name", "wrong"])
        .refused(9, &["is not what the recipe says", &zeroes]);
    standin.fault(json!({"action": "GetObject", "kind": "reset", "when": "after", "times": 1}));
    standin.object(json!({"bucket": "build", "key": "setup.sh", "text": "#!/bin/sh\n# 2\n"}));
    bakery.bake(&step("s3://build/setup.sh"), &["--name", "lost"]).good();
    standin.fault(json!({"action": "HeadObject", "kind": "denied", "times": 0}));
    bakery
        .bake(&step("s3://build/setup.sh"), &["--name", "denied"])
        .refused(6, &["s3://build/setup.sh", "HeadObject"]);

    bakery.put(
        "wrong.toml",
        recipe(
            "[[step]]\nuse = \"script\"\nscript = \"s3://Build/x\"\n[[step]]\nuse = \"script\"\nscript = \"s3://build/folder/\"\n\
             [[step]]\nuse = \"script\"\nscript = { s3 = \"s3://build/x\", versoin = \"1\", sha256 = \"12\" }\n\
             [[step]]\nuse = \"apt\"\ninstall = [\"s3://build/x.rpm\", \"s3://build/x.txt\"]\n",
        ),
    );
    let wrong = bakery.bakehouse(&["validate", "wrong.toml"]);
    for words in [
        "names no bucket",
        "names no object",
        "`version`",
        "64 hexadecimal digits",
        "`dnf` installs it",
        "names no package file",
    ] {
        assert!(wrong.err.contains(words), "{words}: {}", wrong.told());
    }
    bakery.assert_nothing_left();
    standin.stop();
}
