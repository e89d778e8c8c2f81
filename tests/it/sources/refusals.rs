//! Sources that are not what the recipe says, or are not to be had: refused before anything is made.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::Place;
use crate::bake::small::can_bake;
use crate::bake_ec2::{Builder, RECIPE};
use crate::support::authority::{self, Authority};
use crate::support::bakery::small_disk;
use crate::support::host::has;
use crate::support::standin::Options;
use crate::support::web::SHUT;

/// A step or check of each kind that takes a file, `SOURCE` in the file's place, with a name that suits it.
const KINDS: &[(&str, &str)] = &[
    ("setup.sh", "[[step]]\nuse = \"script\"\nscript = SOURCE\n"),
    ("check.sh", "[[check]]\nscript = SOURCE\n"),
    ("app.bin", "[[step]]\nuse = \"files\"\ncopy = [{ from = SOURCE, to = \"/srv/\" }]\n"),
    ("tree.tar", "[[step]]\nuse = \"files\"\ncopy = [{ from = SOURCE, to = \"/srv/\", unpack = true }]\n"),
    ("web.conf", "[[step]]\nuse = \"files\"\ncopy = [{ from = SOURCE, to = \"/srv/\", template = true }]\n"),
    ("web.deb", "[[step]]\nuse = \"package\"\ninstall = [SOURCE]\n"),
    ("app.deb", "[[step]]\nuse = \"apt\"\ninstall = [SOURCE]\n"),
    (
        "apt.asc",
        "[[step]]\nuse = \"apt\"\nrepositories = [{ name = \"x\", uris = [\"file:/x\"], suites = [\"./\"], key = SOURCE }]\n",
    ),
    ("web.pref", "[[step]]\nuse = \"apt\"\npreferences = SOURCE\n"),
    ("web.rpm", "[[step]]\nuse = \"dnf\"\ninstall = [SOURCE]\n"),
    (
        "dnf.asc",
        "[[step]]\nuse = \"dnf\"\nrepositories = [{ name = \"x\", baseurl = [\"file:///x\"], key = SOURCE }]\n",
    ),
    ("site.yml", "[[step]]\nuse = \"ansible\"\nplaybook = SOURCE\n"),
    ("requirements.yml", "[[step]]\nuse = \"ansible\"\nplaybook = \"own.yml\"\nrequirements = SOURCE\n"),
    ("vars.yml", "[[step]]\nuse = \"ansible\"\nplaybook = \"own.yml\"\nvars_file = SOURCE\n"),
    ("site.pp", "[[step]]\nuse = \"puppet\"\nmanifest = SOURCE\n"),
    ("cinc.deb", "[[step]]\nuse = \"chef\"\npackage = [SOURCE]\ncookbooks = \"tree\"\nrun_list = [\"x\"]\n"),
    ("node.json", "[[step]]\nuse = \"chef\"\nattributes_file = SOURCE\ncookbooks = \"tree\"\n"),
];

fn place() -> Option<Place> {
    if !can_bake() || !has(&[authority::NEEDED]) {
        return None;
    }
    let place = Place::new();
    place.bakery.base("small", small_disk().path());
    place.bakery.put("own.yml", "- hosts: all\n");
    place.bakery.put("tree/file", "");
    Some(place)
}

impl Place {
    /// Asserts that no bake began: no hook ran, nothing of it is there but the base.
    #[track_caller]
    fn assert_untouched(&self) {
        assert!(!self.bakery.path("served").join(SHUT).exists(), "a hook ran");
        assert_eq!(self.bakery.store().records().unwrap().len(), 1, "an image was made");
        assert_eq!(self.downloads(), [""; 0], "something was kept");
        self.bakery.assert_nothing_left();
    }

    /// The files that were fetched.
    fn downloads(&self) -> Vec<String> {
        let folders = fs::read_dir(self.bakery.path("cache/downloads")).into_iter().flatten().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
        files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
    }

    fn script(&self, source: &str) -> String {
        self.recipe("small", &format!("[[step]]\nuse = \"script\"\nscript = \"{source}\"\n"))
    }
}

#[test]
fn of_every_kind_another_content_than_the_checksum_says_is_refused_before_anything_is_made() {
    let Some(place) = place() else { return };
    let expected = "0".repeat(64);
    for (name, step) in KINDS {
        place.put(name, format!("the wrong {name}\n"));
        let url = place.web.url(name);
        let recipe = place.recipe("small", &step.replace("SOURCE", &format!("\"{url}#sha256={expected}\"")));
        let refused = place.bakery.bake(&recipe, &[]).refused(
            9,
            &[
                &format!("{url} is not what the recipe says"),
                &place.sum(name),
                &expected,
                "the checksum is mistyped",
            ],
        );
        assert_eq!(place.asked(), [*name], "{}", refused.told());
        place.assert_untouched();
    }
}

#[test]
fn of_every_kind_a_url_without_a_checksum_or_without_tls_is_an_error_of_the_recipe() {
    let Some(place) = place() else { return };
    for (name, step) in KINDS {
        let source = place.put(name, "content\n");
        let (url, sum) = source.split_once("#sha256=").unwrap();
        let plain = source.replace("https://", "http://");
        for (wrong, why, help) in [
            (format!("{url:?}"), "the URL has no checksum", "sha256sum prints it"),
            (format!("{{ url = {url:?} }}"), "needs `sha256`", ""),
            (format!("\"{url}#sha256={}\"", &sum[1..]), "64 hexadecimal digits", ""),
            (format!("{plain:?}"), "only https:// and s3:// URLs are fetched", "write https://"),
        ] {
            let recipe = place.recipe("small", &step.replace("SOURCE", &wrong));
            let refused = place.bakery.bake(&recipe, &["--dry-run"]).refused(3, &[why, help]);
            assert!(refused.err.contains("recipe.toml:"), "says where: {}", refused.told());
        }
    }
    assert_eq!(place.asked(), [""; 0]);
    place.assert_untouched();
}

#[test]
fn what_cannot_be_had_is_told_with_its_url_and_can_be_had_later() {
    let Some(mut place) = place() else { return };
    let sum = "0".repeat(64);
    let missing = place.web.url("none.sh");
    place
        .bakery
        .bake(&place.script(&format!("{missing}#sha256={sum}")), &[])
        .refused(9, &[&format!("fetching {missing} failed"), "404", "whether the URL is right"]);

    let script = place.put("setup.sh", format!("#!/bin/sh\nexit 0\n{}", "#".repeat(1 << 18)));
    let url = place.web.url("setup.sh");
    // An authority that this host does not trust.
    let other = Authority::new();
    let trusted = place.bakery.path("trusted.pem");
    fs::copy(place.authority.certificate(), &trusted).unwrap();
    place.bakery.set("SSL_CERT_FILE", other.certificate().to_str());
    let refused = place
        .bakery
        .bake(&place.script(&script), &[])
        .refused(9, &[&format!("fetching {url} failed"), "certificate", "SSL_CERT_FILE", "log: "]);
    assert!(!refused.err.contains("ERROR"), "told twice: {}", refused.told());
    place.bakery.set("SSL_CERT_FILE", trusted.to_str());

    // A server that sends elsewhere may not send to where anybody could answer.
    place.web.redirect("moved.sh", &url.replace("https://", "http://"));
    let moved = script.replace("setup.sh", "moved.sh");
    place.put("moved.sh", "");
    let refused = place.bakery.bake(&place.script(&moved), &[]).refused(9, &["moved.sh failed", "https"]);
    assert!(refused.err.contains("what to do: "), "{}", refused.told());

    place.asked();
    place.web.break_off("setup.sh");
    place
        .bakery
        .bake(&place.script(&script), &[])
        .refused(9, &[&format!("fetching {url} broke off"), "again"]);
    assert_eq!(place.asked(), ["setup.sh"; 3], "what breaks off may come the next time");
    place.assert_untouched();
    place.web.be_unwell("setup.sh", 2);
    let told = place.bakery.bake(&place.script(&script), &[]).good();
    assert!(told.err.contains("500; asking again in 1 s"), "{}", told.told());
    assert_eq!(place.asked(), ["setup.sh"; 3]);
    place.web.mend("setup.sh");
    assert_eq!(place.downloads(), ["setup.sh"]);

    // What the builder keeps is looked at each time: changed, it is fetched again.
    let folder = script.split_once("#sha256=").unwrap().1;
    fs::write(place.bakery.path("cache/downloads").join(folder).join("setup.sh"), "#!/bin/sh\nexit 7\n")
        .unwrap();
    place.open();
    place.asked();
    place.bakery.bake(&place.script(&script), &["--name", "again"]).good();
    assert_eq!(place.asked(), ["setup.sh"]);
    place.bakery.assert_nothing_left();
}

#[test]
fn urls_go_through_the_proxy_but_for_the_hosts_of_no_proxy() {
    let Some(mut place) = place() else { return };
    let script = place.put("setup.sh", "#!/bin/sh\nexit 0\n");
    let (address, lines) = crate::identity::proxy();
    place.bakery.set("HTTPS_PROXY", Some(&address)).set("NO_PROXY", Some("localhost"));
    place.bakery.bake(&place.script(&script), &[]).good();
    assert_eq!(place.asked(), ["setup.sh"]);
    assert!(lines.try_recv().is_err());
    let other = format!("https://sources.proxied.invalid/setup.sh#sha256={}", "0".repeat(64));
    let refused = place
        .bakery
        .bake(&place.script(&other), &["--name", "proxied"])
        .refused(9, &["fetching https://sources.proxied.invalid/setup.sh failed", "HTTPS_PROXY"]);
    assert!(!refused.err.contains("hunter2"), "{}", refused.told());
    let line = lines.recv_timeout(Duration::from_secs(120)).unwrap();
    assert_eq!(line.trim(), "CONNECT sources.proxied.invalid:443 HTTP/1.1");
    place.bakery.assert_nothing_left();
}

#[test]
fn a_signal_ends_a_bake_that_waits_for_a_silent_server() {
    let Some(place) = place() else { return };
    let script = place.put("setup.sh", format!("#!/bin/sh\n{}", "#".repeat(1 << 18)));
    place.web.stall("setup.sh");
    place.bakery.put("recipe.toml", place.script(&script));
    let mut command = place.bakery.command(&[], &["bake", "recipe.toml"]);
    let child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    place.web.wait_for("setup.sh");
    // The command itself, not the program that limits its time.
    let own = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    let begun = Instant::now();
    kill(Pid::from_raw(own.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(143), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(20), "after {:?}: {told}", begun.elapsed());
    place.assert_untouched();
}

#[test]
fn on_ec2_no_volume_is_made_for_a_source_that_is_not_what_the_recipe_says() {
    if !has(&[authority::NEEDED]) {
        return;
    }
    let Some(builder) = Builder::start(&Options::default(), json!({})) else { return };
    let place = Place::with(builder.bakery);
    place.put("setup.sh", "#!/bin/sh\necho other > /srv/mark\n");
    let url = place.web.url("setup.sh");
    let wrong = format!("{url}#sha256={}", "0".repeat(64));
    place
        .bakery
        .bake(&RECIPE.replace("setup.sh", &wrong), &[])
        .refused(9, &[&format!("{url} is not what the recipe says")]);
    assert_eq!(
        builder.standin.requests_of("CreateVolume", 0, Duration::ZERO),
        Vec::<serde_json::Value>::new()
    );
    place.bakery.assert_nothing_left();
    builder.standin.stop();
}
