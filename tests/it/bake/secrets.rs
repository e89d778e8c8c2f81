//! Secrets: a step reads them, and they are nowhere else.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::small::can_bake;
use crate::bake_ec2::Builder;
use crate::support::bakery::{Bakery, small_disk};
use crate::support::standin::Options;

const TOKEN: &str = "tok-5d0c2f7e91ab";
const KEY: [&str; 2] = ["key-line-one-83b1", "key-line-two-90fd"];

const RECIPE: &str = r#"
[image]
name = "secret-{time}"
[base]
image = "small"
[[step]]
use = "script"
script = "read.sh"
secrets = { TOKEN = { env = "WEB_TOKEN" }, "web.key" = { file = "web.key" } }
[[step]]
use = "script"
script = "without.sh"
"#;

/// Reads both and prints them in every way; says how long the folder lasted in marks of the image.
const READ: &str = r#"#!/bin/sh
set -e
cd /run/bakehouse/secrets
read -r token < TOKEN || [ -n "$token" ]
{ read -r one; read -r two; } < web.key
[ "$token" = tok-5d0c2f7e91ab ] && [ "$two" = key-line-two-90fd ]
echo "token=$token; $one"
echo "$two and $token$token" >&2
echo "dG9rLTVk""MGMyZjdlOTFhYg== is base64"
if (: > TOKEN) 2>/dev/null; then echo "CAN WRITE"; fi
if (: > more) 2>/dev/null; then echo "CAN WRITE"; fi
while read -r line; do
    case $line in *" /run/bakehouse/secrets "*) echo "mount: $line" ;; esac
done < /proc/self/mounts
echo "environment: $WEB_TOKEN$TOKEN."
# Long enough for the test to look at all processes.
n=0; while [ $n -lt 200000 ]; do n=$((n + 1)); done
echo "$token" > /tmp/copy; echo "$token" > /dev/shm/copy; echo "$token" > /run/copy
echo read > /srv/mark
"#;

const WITHOUT: &str =
    "#!/bin/sh\n[ ! -e /run/bakehouse/secrets ] && [ ! -e /tmp/copy ] && [ ! -e /run/copy ]\n";

/// The files at and below some paths that hold one of the texts, files of the name `but` left out.
pub fn holders(paths: &[&Path], texts: &[&str], but: &str) -> String {
    // Not as arguments, in which another test may be looking for them at this moment.
    let mut patterns = tempfile::tempfile().unwrap();
    writeln!(patterns, "{}", texts.join("\n")).unwrap();
    patterns.rewind().unwrap();
    let mut command = Command::new("grep");
    command.args(["-r", "-a", "-F", "-l", &format!("--exclude={but}"), "-f", "-", "--"]);
    let output = command.args(paths).stdin(patterns).output().unwrap();
    // 1: it looked, and found none.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn memmem(content: &[u8], wanted: &[u8]) -> bool {
    let Some(first) = wanted.first() else { return false };
    let mut rest = content;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        let from = &rest[at..];
        if from.starts_with(wanted) {
            return true;
        }
        rest = &from[1..];
    }
    false
}

/// Whether any process was started with one of the texts in its arguments.
pub fn in_arguments(texts: &[&str]) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.into_iter().any(|line| texts.iter().any(|text| memmem(&line, text.as_bytes())))
}

#[test]
fn a_secret_reaches_its_step_and_nothing_else() {
    if !can_bake() {
        return;
    }
    let mut bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("small", disk.path());
    bakery
        .put("read.sh", READ.replace(TOKEN, "tok-5d0c\"\"2f7e91ab").replace(KEY[1], "key-line\"\"-two-90fd"));
    bakery.put("without.sh", WITHOUT);
    bakery.put("web.key", format!("{}\n{}\n", KEY[0], KEY[1]));
    bakery.set("WEB_TOKEN", Some(TOKEN));
    let texts = [TOKEN, KEY[0], KEY[1], "dG9rLTVkMGMyZjdlOTFh"];

    let plan = bakery.bake(RECIPE, &["--dry-run", "--output", "json"]).good();
    assert!(texts.iter().all(|text| !plan.out.contains(text) && !plan.err.contains(text)), "{}", plan.out);
    let told = bakery.bake(RECIPE, &["--dry-run"]).good().out;
    assert!(told.contains("secret TOKEN from the environment variable WEB_TOKEN"), "{told}");

    let done = AtomicBool::new(false);
    let ran = std::thread::scope(|scope| {
        let look = scope.spawn(|| {
            let mut found = false;
            while !done.load(Ordering::Relaxed) {
                found |= in_arguments(&texts);
            }
            found
        });
        let ran = bakery.bake(RECIPE, &["--output", "json", "-v"]).good();
        done.store(true, Ordering::Relaxed);
        assert!(!look.join().unwrap(), "a secret was in the arguments of a process");
        ran
    });
    for told in
        ["token=***; ***", "*** and ******", "***Yg== is base64", "environment: .", " ro,nosuid,nodev,noexec"]
    {
        assert!(ran.err.contains(told), "{told}: {}", ran.err);
    }
    assert!(!ran.err.contains("CAN WRITE"), "{}", ran.err);
    assert!(texts.iter().all(|text| !ran.out.contains(text) && !ran.err.contains(text)), "{}", ran.err);
    // The disk, the logs, the manifest, the state, the caches; and that what looks there finds what is there.
    assert!(holders(&[&bakery.path("")], &texts, "none").contains("web.key"));
    assert_eq!(holders(&[&bakery.path("")], &texts, "web.key"), "");

    // A step that fails tells its last lines, without what is secret.
    bakery.put("without.sh", "#!/bin/sh\nexit 0\n");
    bakery.put(
        "read.sh",
        "#!/bin/sh\nread -r token < /run/bakehouse/secrets/TOKEN\necho \"no: $token\"\nexit 3\n",
    );
    let failed = bakery.bake(RECIPE, &["--output", "text"]).refused(9, &["| no: ***", "exit status 3"]);
    assert!(!failed.err.contains(TOKEN), "{}", failed.err);
    assert_eq!(holders(&[&bakery.path("")], &texts, "web.key"), "");
    bakery.assert_nothing_left();
}

#[test]
fn a_missing_secret_ends_the_bake_before_it_makes_anything() {
    if !can_bake() {
        return;
    }
    let mut bakery = Bakery::new();
    let disk = small_disk();
    bakery.base("small", disk.path());
    bakery.put("read.sh", READ);
    bakery.put("without.sh", WITHOUT);
    let none = bakery.bake(RECIPE, &[]).refused(4, &["WEB_TOKEN is not set", "step \"script: read.sh\""]);
    assert!(!none.err.contains("mount "), "{}", none.err);
    bakery.set("WEB_TOKEN", Some(TOKEN));
    bakery.bake(RECIPE, &[]).refused(4, &["web.key", "when the bake begins"]);
    // A recipe is good without them; a step that is left out needs none.
    bakery.bakehouse(&["validate", "recipe.toml"]).good();
    let left_out = RECIPE.replace("secrets =", "when = { arch = \"!ARCH\" }\nsecrets =");
    bakery.bake(&left_out.replace("ARCH", std::env::consts::ARCH), &[]).good();
    let parameter = RECIPE.replace("{ env = \"WEB_TOKEN\" }", "{ parameter = \"/web/token\" }");
    for more in [&[][..], &["--dry-run"]] {
        bakery.bake(&parameter, more).refused(3, &["/web/token", "the local store has not"]);
    }
    let climbing = RECIPE.replace("file = \"web.key\"", "file = \"../web.key\"");
    bakery.bake(&climbing, &[]).refused(3, &["outside the recipe's folder"]);
    bakery.assert_nothing_left();
}

#[test]
fn a_parameter_is_decrypted_for_its_step_alone() {
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let (bakery, standin) = (&builder.bakery, &builder.standin);
    standin.parameter_of("/web/token", json!({"value": TOKEN, "type": "SecureString"}));
    bakery.put(
        "setup.sh",
        "#!/bin/sh\nset -e\nread -r token < /run/bakehouse/secrets/token || [ -n \"$token\" ]\necho \"token $token\"\n\
         [ \"$token\" = tok-5d0c\"\"2f7e91ab ]\necho baked > /srv/mark\n",
    );
    let recipe = crate::bake_ec2::RECIPE
        .replace("size = \"8GiB\"\n", "")
        .replace("iops = 4000\n", "")
        .replace("throughput = 200\n", "")
        .replace(
            "script = \"setup.sh\"",
            "script = \"setup.sh\"\nsecrets.token = { parameter = \"/web/token\" }",
        );
    let ran = bakery.bake(&recipe, &[]).good();
    assert!(ran.err.contains("token ***") && !ran.err.contains(TOKEN), "{}", ran.err);
    let asked = standin.requests_of("GetParameter", 1, Duration::ZERO);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["params"]["WithDecryption"], true, "{asked:?}");
    let state = standin.state();
    let files =
        state["snapshots"].as_array().unwrap().iter().map(|one| Path::new(one["File"].as_str().unwrap()));
    let mut paths: Vec<_> = files.collect();
    let folder = bakery.path("");
    paths.push(&folder);
    assert_eq!(holders(&paths, &[TOKEN], "none"), "");
    let all = standin.requests();
    assert!(!all.iter().any(|request| request.to_string().contains(TOKEN)), "{all:?}");

    standin.fault(json!({"action": "GetParameter", "kind": "denied"}));
    bakery.bake(&recipe, &["--name", "denied"]).refused(6, &["/web/token", "script: setup.sh"]);
    assert_eq!(standin.counts()["CreateVolume"], 1, "nothing is made where a secret is missing");
}
