use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::{Kitchen, picture, runs_here};
use crate::support::debian_roots::debian;
use crate::support::host::run;
use crate::support::packages::Deb;

/// Every way to start a service that a package's script or a step may take, each with the status it ended with.
const ATTEMPTS: &str = r#"#!/bin/sh
try() {
    "$@" >/dev/null 2>&1
    echo "$? $*" >>/var/log/attempts
}
try service thing start
try /usr/sbin/service thing restart
try invoke-rc.d thing start
try start-stop-daemon --start --background --exec /usr/bin/touch -- /var/log/started
try /sbin/start-stop-daemon --start --exec /usr/bin/touch -- /var/log/started
try env -i /usr/sbin/start-stop-daemon --start --exec /usr/bin/touch -- /var/log/started
try /etc/init.d/thing start
try initctl start thing
try /sbin/initctl start thing
try systemctl start thing
try env -i /usr/bin/systemctl restart thing
try /bin/systemctl -q --no-block try-restart thing
try systemctl enable thing
exit 0
"#;

const INIT: &str = "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: thing\n# Required-Start:\n# Required-Stop:\n# Default-Start: 2\n# Default-Stop: 0\n### END INIT INFO\n\
                    start-stop-daemon --start --exec /usr/bin/touch -- /var/log/started\n";

#[test]
fn services_start_by_no_way() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let program = "#!/bin/sh\necho \"$0 $*\" >> /var/log/ran\ncase $1 in enable) exit 0 ;; esac\ntouch /var/log/started\n";
    for name in ["initctl", "systemctl"] {
        let path = kitchen.root().join("usr/bin").join(name);
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::rename(kitchen.root().join("usr/bin/initctl"), kitchen.root().join("usr/sbin/initctl")).unwrap();
    let before = picture(kitchen.root());
    let thing = Deb {
        name: "thing",
        version: "1",
        files: &[("etc/init.d/thing", INIT, 0o755)],
        scripts: &[("postinst", ATTEMPTS)],
        ..Deb::default()
    };
    thing.build(&kitchen.recipe());
    std::fs::write(kitchen.recipe().join("attempts.sh"), ATTEMPTS).unwrap();
    kitchen
        .bake("[[step]]\nuse = \"apt\"\nrefresh = \"never\"\ninstall = [\"./thing_1_all.deb\"]\n[[step]]\nuse = \"script\"\nscript = \"attempts.sh\"\n")
        .unwrap();
    let attempts = kitchen.read("var/log/attempts");
    assert_eq!(attempts.lines().count(), 26, "{attempts}");
    assert!(attempts.lines().all(|line| line.starts_with("0 ")), "{attempts}");
    assert!(!kitchen.exists("var/log/started"), "{}", kitchen.read("var/log/ran"));
    // What only changes files goes to the image's own systemctl.
    let ran = kitchen.read("var/log/ran");
    assert_eq!(ran.lines().count(), 2, "{ran}");
    assert!(ran.lines().all(|line| line.ends_with("enable thing")), "{ran}");
    // But for what was installed, the root is as it was.
    let after = picture(kitchen.root());
    let changed: Vec<_> = before
        .iter()
        .filter(|(path, was)| after.get(*path) != Some(was))
        .map(|(path, _)| path)
        .filter(|path| {
            !["var/lib/dpkg", "var/log", "var/lib/apt", "var/cache"]
                .iter()
                .any(|known| path.starts_with(known))
        })
        .collect();
    assert_eq!(changed, Vec::<&std::path::PathBuf>::new());
}

#[test]
fn guarded_programs_are_upgraded_removed_and_added() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let root = kitchen.root().to_str().unwrap();
    // Removed during the bake: a package of the base that owns one of the guarded programs.
    let upstart = Deb {
        name: "upstart-like",
        version: "1",
        files: &[("sbin/initctl", "old", 0o755)],
        ..Deb::default()
    };
    let upstart = upstart.build(kitchen.around.path());
    run("dpkg", &["--root", root, "--install", upstart.to_str().unwrap()]);
    assert!(kitchen.exists("usr/sbin/initctl"));
    // Upgraded: the package that has `service`, and dpkg itself with start-stop-daemon is put in again.
    let unpacked = kitchen.around.path().join("unpacked");
    run("apt-get", &["--version"]);
    std::fs::create_dir(&unpacked).unwrap();
    let helpers = Deb {
        name: "init-system-helpers",
        version: "99",
        control: "Essential: yes\n",
        files: &[
            ("usr/sbin/service", "#!/bin/sh\necho new service\n", 0o751),
            ("usr/sbin/invoke-rc.d", "#!/bin/sh\nexit 0\n", 0o755),
        ],
        ..Deb::default()
    };
    helpers.build(&kitchen.recipe());
    // Added: one that brings its own policy-rc.d.
    let policy = Deb {
        name: "policy",
        version: "1",
        files: &[("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 0\n", 0o755)],
        ..Deb::default()
    };
    policy.build(&kitchen.recipe());
    kitchen
        .bake(
            "[[step]]\nuse = \"apt\"\ninstall = [\"./init-system-helpers_99_all.deb\", \"./policy_1_all.deb\"]\nremove = [\"upstart-like\"]\n\
             [[step]]\nuse = \"script\"\nrun = [\"apt-get\", \"-y\", \"-qq\", \"install\", \"--reinstall\", \"dpkg\"]\n\
             [[step]]\nuse = \"script\"\nrun = [\"sh\", \"-c\", \"service a start | grep new; test $? = 1\"]\n",
        )
        .unwrap();
    assert_eq!(kitchen.read("usr/sbin/service"), "#!/bin/sh\necho new service\n");
    assert_eq!(kitchen.root().join("usr/sbin/service").metadata().unwrap().mode() & 0o7777, 0o751);
    assert_eq!(kitchen.read("usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 0\n");
    assert!(!kitchen.exists("usr/sbin/initctl"));
    assert!(kitchen.root().join("sbin/start-stop-daemon").metadata().unwrap().len() > 10_000);
    let verified = run("dpkg", &["--root", root, "--verify", "init-system-helpers", "dpkg", "policy"]);
    // minbase roots have no documentation left out here: nothing at all may differ.
    assert_eq!(verified, "");
    let list = run("dpkg-divert", &["--admindir", &format!("{root}/var/lib/dpkg"), "--list"]);
    assert!(!list.contains("local diversion"), "{list}");
}

#[test]
fn the_images_own_policy_comes_back_and_what_a_step_wrote_stays() {
    if !runs_here() {
        return;
    }
    let kitchen = Kitchen::new(debian());
    let policy = kitchen.root().join("usr/sbin/policy-rc.d");
    std::fs::write(&policy, "#!/bin/sh\nexit 104\n").unwrap();
    std::fs::set_permissions(&policy, std::fs::Permissions::from_mode(0o711)).unwrap();
    std::os::unix::fs::chown(&policy, Some(7), Some(8)).unwrap();
    let before = picture(kitchen.root());
    kitchen
        .bake(
            "[[step]]\nuse = \"script\"\nrun = [\"sh\", \"-c\", \"/usr/sbin/policy-rc.d; test $? = 101\"]\n",
        )
        .unwrap();
    assert_eq!(picture(kitchen.root()), before);

    // A step that takes the guard's place has its way, and the next step is guarded again.
    kitchen
        .bake(
            "[[step]]\nuse = \"script\"\nrun = [\"sh\", \"-c\", \"echo mine > /usr/sbin/service; rm /usr/sbin/policy-rc.d\"]\n\
             [[step]]\nuse = \"script\"\nrun = [\"sh\", \"-c\", \"/usr/sbin/policy-rc.d; test $? = 101 && service x start\"]\n",
        )
        .unwrap();
    assert_eq!(kitchen.read("usr/sbin/service"), "mine\n");
    assert!(!kitchen.exists("usr/sbin/policy-rc.d"));
}
