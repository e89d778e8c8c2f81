//! What fills a blank disk has nothing of the builder that it has no use for.

use std::fs;
use std::path::Path;
use std::process::Command;

use bakehouse::sandbox::KEPT_CAPABILITIES;
use nix::mount::{MsFlags, mount};

use super::{BOOTSTRAP, bakery, can_fill, recipe, script};
use crate::support::bakery::Bakery;
use crate::support::bases;
use crate::support::host::has;
use crate::support::metadata::Place;
use crate::support::packages::Deb;
use crate::support::repository::Key;
use crate::support::web::Web;

/// Asks the metadata service of each address, by the shell's own means.
const ASK: &str = r#"for address in 169.254.169.254 169.254.170.2 fd00:ec2::254; do
    (exec 3<>"/dev/tcp/$address/80" && read -r line <&3 && echo "$address: $line") || echo "$address: refused"
done
"#;

fn with_secrets(mut bakery: Bakery) -> Bakery {
    for name in ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DEPLOY_TOKEN"] {
        bakery.set(name, Some("a secret of the environment"));
    }
    bakery
}

/// Shows that there is something to be refused.
fn metadata_answers() {
    let asked = Command::new("bash").args(["-c", ASK]).output().unwrap();
    let said = String::from_utf8(asked.stdout).unwrap();
    assert_eq!(said.matches(": credentials").count(), 3, "{said}");
}

#[test]
fn a_bootstrap_has_neither_the_bakes_environment_nor_the_metadata_service() {
    if !can_fill() || !has(&["bash", "ip"]) {
        return;
    }
    Place::enter(|_place| {
        metadata_answers();
        let asks = BOOTSTRAP.replace("#!/bin/sh", "#!/bin/bash").replace(
            "# What it leaves",
            &format!("env > srv/environment\n{{ {ASK} }} > srv/metadata 2>/dev/null\n# What it leaves"),
        );
        let mut bakery = with_secrets(bakery(None, &asks));
        bakery.set("https_proxy", Some("http://proxy.example:3128"));
        let id = bakery.bake(&recipe(&script(""), ""), &[]).id();
        bakery.look(&id, 1, "ext4", |root| {
            let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
            let environment = read("srv/environment");
            assert!(!environment.contains("a secret") && !environment.contains("AWS_"), "{environment}");
            assert!(environment.contains("https_proxy=http://proxy.example:3128\n"), "{environment}");
            assert_eq!(read("srv/metadata").matches(": refused").count(), 3, "{}", read("srv/metadata"));
        });
        bakery.assert_nothing_left();
    });
}

/// What a hostile package does, with each of its scripts.
const PROBE: &str = r#"#!/bin/bash
exec 2>/dev/null
mkdir -p /srv/probe
cd /srv/probe
what=$DPKG_MAINTSCRIPT_NAME
env > environment-$what
{ ASK } > metadata-$what
for process in /proc/[0-9]*; do tr '\0' ' ' < $process/cmdline; echo; done > processes-$what
find /dev -type b > disks-$what
cat /proc/1/root/MARK /proc/1/root/etc/shadow > builder-$what
grep CapBnd /proc/self/status > capabilities-$what
grep -rl 'a pass''word of apt' /etc /run /tmp /var/lib /proc/self/environ > password-$what
: > /var/cache/apt/archives/poison
exit 0
"#;

/// A mirror of this host's with the packages that the tiny base is made of, and the probe.
fn mirror(folder: &Path, key: &Key, mark: &Path) {
    let pool = folder.join("pool");
    let lists = folder.join("dists/bookworm/main/binary-amd64");
    fs::create_dir_all(&pool).unwrap();
    fs::create_dir_all(&lists).unwrap();
    let kept = fs::read_dir(bases::packages().join("foundations/bookworm")).unwrap();
    let archives = kept.flatten().map(|entry| entry.path());
    for (number, path) in archives.filter(|path| path.extension().is_some_and(|end| end == "deb")).enumerate()
    {
        // Names with a percent sign would be encoded in requests.
        std::os::unix::fs::symlink(path, pool.join(format!("{number}.deb"))).unwrap();
    }
    let probe = PROBE.replace("ASK", ASK).replace("/MARK", mark.to_str().unwrap());
    Deb {
        name: "probe",
        version: "1",
        scripts: &[("preinst", &probe), ("postinst", &probe)],
        ..Deb::default()
    }
    .build(&pool);
    let listed = Command::new("dpkg-scanpackages").arg("pool").current_dir(folder).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    fs::write(lists.join("Packages"), &listed.stdout).unwrap();
    let sum = crate::support::host::run("sha256sum", &[lists.join("Packages").to_str().unwrap()]);
    let release = folder.join("dists/bookworm/Release");
    let text = format!(
        "Origin: Test\nSuite: bookworm\nCodename: bookworm\nComponents: main\nArchitectures: amd64\n\
         Date: Sat, 01 Nov 2025 00:00:00 UTC\nSHA256:\n {} {} main/binary-amd64/Packages\n",
        sum.split_whitespace().next().unwrap(),
        listed.stdout.len()
    );
    fs::write(&release, text).unwrap();
    let signed = folder.join("dists/bookworm/InRelease");
    key.gpg(&["--clearsign", "--output", signed.to_str().unwrap(), release.to_str().unwrap()]);
}

/// Gives this thread's mounts an /etc/apt that trusts the key too and has a password.
fn own_apt(key: &Key) {
    mount(Some("none"), "/etc/apt", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    for name in ["apt.conf.d", "trusted.gpg.d", "sources.list.d", "preferences.d"] {
        fs::create_dir(Path::new("/etc/apt").join(name)).unwrap();
    }
    fs::copy(&key.public, "/etc/apt/trusted.gpg.d/test.asc").unwrap();
    // As every Debian's does; of an apt that does not trust these keys none but these are asked for.
    let debian = "debian-archive-keyring.gpg";
    fs::copy(Path::new("/usr/share/keyrings").join(debian), Path::new("/etc/apt/trusted.gpg.d").join(debian))
        .unwrap();
    let settings = "Acquire::http::Proxy \"http://me:a password of apt@proxy.example:1/\";\n\
                    Acquire::http::Proxy::127.0.0.1 \"DIRECT\";\n";
    fs::write("/etc/apt/apt.conf.d/50own", settings).unwrap();
}

#[test]
fn packages_scripts_of_a_bootstrap_run_in_the_sandbox() {
    if !cfg!(target_arch = "x86_64")
        || !has(bases::NEEDED)
        || !has(&["gpg", "dpkg-scanpackages", "bash", "ip"])
    {
        return;
    }
    // What it is made of is kept with it.
    bases::tiny_base();
    Place::enter(|_place| {
        metadata_answers();
        let bakery = with_secrets(Bakery::new().patient("600"));
        let mark = bakery.put("mark", "of the builder\n");
        let key = Key::new();
        mirror(&bakery.path("mirror"), &key, &mark);
        own_apt(&key);
        let web = Web::of(&bakery.path("mirror"));
        let url = format!("http://{}", web.address);
        let made =
            ["local", "create-base", "debian-12", "--variant", "tiny", "--size", "2GiB", "--name", "probed"];
        let id = bakery.bakehouse(&[&made[..], &["--include", "probe", "--mirror", &url]].concat()).id();
        bakery.look(&id, 1, "ext4", |root| {
            for script in ["preinst", "postinst"] {
                let read =
                    |what: &str| fs::read_to_string(root.join(format!("srv/probe/{what}-{script}"))).unwrap();
                let environment = read("environment");
                assert!(!environment.contains("a secret") && !environment.contains("AWS_"), "{environment}");
                assert_eq!(read("metadata").matches(": refused").count(), 3, "{}", read("metadata"));
                let processes = read("processes");
                assert!(processes.contains("apt-get") && !processes.contains("--kill-after"), "{processes}");
                assert_eq!(read("disks") + &read("builder") + &read("password"), "");
                let held = read("capabilities");
                let held = u64::from_str_radix(held.split_whitespace().nth(1).unwrap(), 16).unwrap();
                let kept = KEPT_CAPABILITIES.iter().fold(0, |set, (_, number, _)| set | 1_u64 << number);
                assert_eq!(held & !kept, 0, "{held:x}");
            }
            assert!(!root.join("usr/sbin/policy-rc.d").exists());
        });
        let kept = bakery.path("cache/foundations/bookworm");
        assert!(!kept.join("poison").exists() && kept.join("probe_1_all.deb").exists());
        bakery.assert_nothing_left();
    });
}

#[test]
fn credentials_in_a_repositorys_address_are_refused() {
    let bakery = bakery(None, BOOTSTRAP);
    let address = "https://me:token@mirror.example/debian";
    let of_release = format!("release = \"debian-12\", mirror = \"{address}\"");
    bakery
        .bake(&recipe(&of_release, ""), &["--dry-run"])
        .refused(3, &["the URL of `mirror` holds credentials"]);
    for repository in [
        format!(
            "use = \"apt\"\nrepositories = [{{ name = \"own\", uris = [\"{address}\"], suites = [\"./\"] }}]\n"
        ),
        format!("use = \"dnf\"\nrepositories = [{{ name = \"own\", baseurl = [\"{address}\"] }}]\n"),
    ] {
        let text = format!("{}[[step]]\n{repository}", recipe(&script(""), ""));
        bakery.bake(&text, &["--dry-run"]).refused(3, &["a URL of `repositories` holds credentials"]);
    }
    let words = ["local", "create-base", "debian-12", "--mirror", address];
    bakery.bakehouse(&words).refused(2, &["--mirror: the URL holds credentials"]);
}
