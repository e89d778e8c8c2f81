//! What programs inside see: processes, devices, mounts, environment.

use std::path::Path;

use bakehouse::error::{Kind, kind_of};
use bakehouse::sandbox::{Bind, Network, Program, Run};

use crate::support::host::in_own_mounts;
use crate::support::images::Image;
use crate::support::roots::{Root, argv, can_make, sh};

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn only_its_own_processes_are_there() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let out = root.sh("for p in /proc/[0-9]*; do echo ${p#/proc/}; done; echo self $$").good();
    assert_eq!(lines(&out), ["1", "2", "self 2"]);
}

#[test]
fn dev_has_the_usual_nodes_and_no_more() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let out = root.sh("cd /dev; for n in *; do echo $n; done; ls pts; stat -c %a shm; echo x > null; head -c3 zero | wc -c").good();
    let wanted = [
        "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero", "ptmx", "1777", "3",
    ];
    assert_eq!(lines(&out), wanted);
    assert_eq!(
        std::fs::read_dir(root.path().join("dev")).unwrap().count(),
        0,
        "the image's own is untouched"
    );
}

#[test]
fn devices_asked_for_are_there() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let mut run = sh("stat -c '%t:%T %F' /dev/loop-control /dev/null");
    run.devices.push("/dev/loop-control".into());
    let out = root.go(&run).good();
    assert_eq!(lines(&out).first(), Some(&"a:ed character special file"));
    run.devices.push("/etc/passwd".into());
    assert!(format!("{:#}", root.go(&run).refused()).contains("/etc/passwd is not below /dev"));
}

#[test]
fn a_disk_that_is_only_named_is_there_and_cannot_be_opened() {
    if !can_make() {
        return;
    }
    let (root, image) = (Root::new(), Image::empty(1));
    image.with_node(0, |node| {
        let script = "cd /dev/disk/by-uuid; test -b 1-2 && stat -Lc %F 1-2; chmod 666 1-2; \
                      (head -c 1 1-2) 2>/dev/null && echo read; (echo x 1<>1-2) 2>/dev/null && echo written; \
                      real=$(readlink -f 1-2); ln $real /var/tmp/disk 2>/dev/null && echo linked; \
                      mv $real /dev/shm/disk 2>/dev/null; test -b /dev/shm/disk && echo moved; \
                      (head -c 1 /dev/shm/disk) 2>/dev/null && echo read; \
                      mount -o remount,bind,dev ${real%/*} 2>/dev/null && echo remounted; echo tried";
        let mut run = sh(script);
        run.device_names.push(("/dev/disk/by-uuid/1-2".into(), node.to_owned()));
        assert_eq!(lines(&root.go(&run).good()), ["block special file", "tried"]);
        run.devices.push(node.to_owned());
        let out = root.go(&run).good();
        assert!(
            out.contains("read") && out.contains("written"),
            "the attempts work where it is given: {out}"
        );
    });
}

#[test]
fn a_read_only_root_can_be_neither_changed_nor_made_writable() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let script = "for path in /x /etc/passwd /var/tmp/x /mnt/x; do (echo x >> $path) 2>/dev/null && echo wrote $path; done; \
                  mount -o remount,rw / 2>/dev/null && echo remounted; mount -o remount,rw,bind / 2>/dev/null && echo remounted; \
                  rm -r /mnt 2>/dev/null && echo removed; for path in /tmp/x /run/x /dev/shm/x; do echo x > $path && echo own $path; done";
    let mut run = sh(script);
    let writable = root.go(&run).good();
    assert!(writable.contains("wrote /etc/passwd") && writable.contains("removed"), "{writable}");
    let root = Root::new();
    let passwd = || std::fs::read(root.path().join("etc/passwd")).unwrap();
    let before = passwd();
    run.read_only = true;
    let out = root.go(&run).good();
    assert_eq!(lines(&out), ["own /tmp/x", "own /run/x", "own /dev/shm/x"]);
    assert_eq!(passwd(), before);
    // What the sandbox mounts on is made outside, and taken away again.
    std::fs::remove_dir(root.path().join("proc")).unwrap();
    assert!(root.go(&run).good().contains("own /tmp/x"));
    assert!(!root.path().join("proc").exists());
}

#[test]
fn no_mount_of_the_host_is_seen_and_none_propagates() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    in_own_mounts(move || {
        let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_SHARED;
        nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
        let table = || std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let before = table();
        let mut run = sh(
            "cat /proc/self/mounts; mkdir /mnt/x && mount -t tmpfs none /mnt/x && echo mounted; umount /mnt/x",
        );
        run.mounts = true;
        let out = root.go(&run).good();
        assert!(out.contains("mounted"), "{out}");
        assert_eq!(before, table(), "nothing came out");
        for line in out.lines().filter(|line| line.contains(' ')) {
            let place = line.split(' ').nth(1).unwrap();
            let own = ["/", "/usr"].contains(&place)
                || ["/dev", "/proc", "/sys", "/run", "/tmp"]
                    .iter()
                    .any(|own| Path::new(place).starts_with(own));
            assert!(own, "{line}");
        }
    });
}

#[test]
fn the_images_own_run_and_tmp_are_untouched() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    for folder in ["run", "tmp"] {
        std::fs::write(root.path().join(folder).join("kept"), folder).unwrap();
    }
    let out = root
        .sh("ls /run /tmp; touch /run/x /tmp/x /run/lock/x /var/x; stat -c %a /tmp /run /run/lock")
        .good();
    assert_eq!(lines(&out), ["/run:", "lock", "", "/tmp:", "1777", "755", "1777"]);
    let left = |folder: &str| std::fs::read_dir(root.path().join(folder)).unwrap().count();
    assert_eq!((left("run"), left("tmp"), left("var")), (1, 1, 2), "/var is the image's");
}

#[test]
fn the_environment_is_the_runs_own() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    assert!(std::env::vars().count() > 5, "there is something to leak");
    let mut run = argv(&["/usr/bin/env"]);
    run.env.insert("HOME".into(), "/srv".into());
    run.env.insert("STAGE".into(), "a b\n=c".into());
    let out = root.go(&run).good();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines(&out), ["HOME=/srv", "LANG=C.UTF-8", path, "STAGE=a b", "=c", "TERM=dumb"]);
}

#[test]
fn no_descriptor_and_no_signal_setting_is_inherited() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let out = root.sh("ls /proc/self/fd; grep -E 'SigBlk|SigIgn|Groups|NoNewPrivs' /proc/self/status; umask; hostname; pwd").good();
    let told = lines(&out);
    assert_eq!(told.get(..4), Some(&["0", "1", "2", "3"][..]), "3 is that of ls itself");
    assert!(told.contains(&"0022") && told.contains(&"localhost") && told.contains(&"/"), "{out}");
    // SIGPIPE, which this language's programs ignore, would be bit 13.
    let ignored = told.iter().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 0x7fff_ffff, 0, "{out}");
    assert!(told.contains(&"NoNewPrivs:\t0"), "set-id programs work");
}

/// A descriptor of a file of the builder's would let root inside change that file's mode and owner.
#[test]
fn standard_input_is_the_sandboxs_own() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let out = root.sh("stat -L -c %d:%i /proc/self/fd/0 /dev/null").good();
    let [input, null] = lines(&out)[..] else { panic!("{out}") };
    assert_eq!(input, null);
}

/// Where memory runs out, the kernel ends a step before it ends a bake.
#[test]
fn programs_inside_are_the_first_to_go_when_memory_runs_out() {
    if !can_make() {
        return;
    }
    assert_eq!(Root::new().sh("cat /proc/self/oom_score_adj /proc/1/oom_score_adj").good(), "500\n500\n");
}

#[test]
fn another_user_can_write_to_the_standard_streams_by_name() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let ran = root.sh("setpriv --reuid 7 --regid 7 --clear-groups sh -c 'echo out > /dev/stdout; echo err > /dev/stderr; id -u'");
    assert_eq!(ran.err, "err\n");
    assert_eq!(ran.good(), "out\n7\n");
}

#[test]
fn capabilities_are_those_documented() {
    if !can_make() {
        return;
    }
    let documented =
        bakehouse::sandbox::KEPT_CAPABILITIES.iter().fold(0u64, |set, (_, bit, _)| set | 1 << bit);
    let root = Root::new();
    let out = root.sh("grep -E '^Cap(Prm|Eff|Bnd|Inh|Amb)' /proc/self/status /proc/1/status").good();
    for line in out.lines() {
        let (name, set) = line.split_once(":\t").unwrap();
        let wanted = if name.ends_with("Inh") || name.ends_with("Amb") { 0 } else { documented };
        assert_eq!(u64::from_str_radix(set, 16).unwrap() & !wanted, 0, "{line}");
    }
}

#[test]
fn binds_are_seen_read_only_or_writable() {
    if !can_make() {
        return;
    }
    let (root, outside) = (Root::new(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("file"), "from outside").unwrap();
    std::fs::create_dir(root.path().join("srv")).unwrap();
    let mut run = sh("cat /run/a/b/file /tmp/one; echo; echo x > /srv/new && echo x > /run/a/b/new");
    let bind = |source: &Path, target: &str, writable| Bind {
        source: source.into(),
        target: target.into(),
        writable,
    };
    run.binds.push(bind(outside.path(), "/run/a/b", false));
    run.binds.push(bind(&outside.path().join("file"), "/tmp/one", false));
    run.binds.push(bind(outside.path(), "/srv", true));
    let ran = root.go(&run);
    assert_eq!(ran.out, "from outsidefrom outside\n");
    assert!(ran.err.contains("Read-only file system"), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(outside.path().join("new")).unwrap(), "x\n");
    assert_eq!(std::fs::read_dir(root.path().join("run")).unwrap().count(), 0);

    run.binds.push(bind(outside.path(), "/opt/missing", true));
    let error = root.go(&run).refused();
    assert_eq!(kind_of(&error), Kind::Step);
    assert!(format!("{error:#}").contains("/opt/missing does not exist in the root"), "{error:#}");
    assert!(!root.path().join("opt").exists());
}

#[test]
fn a_bind_cannot_be_led_out_of_the_root_by_a_link() {
    if !can_make() {
        return;
    }
    let (root, outside, victim) = (Root::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(victim.path(), root.path().join("srv")).unwrap();
    let mut run = sh("true");
    run.binds.push(Bind { source: outside.path().into(), target: "/srv/x".into(), writable: true });
    let error = format!("{:#}", root.go(&run).refused());
    assert!(error.contains("does not exist in the root"), "{error}");
    assert_eq!(std::fs::read_dir(victim.path()).unwrap().count(), 0);
}

#[test]
fn what_the_image_lacks_to_mount_on_is_made_and_taken_away_again() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    for name in ["dev", "proc", "sys", "run", "tmp"] {
        std::fs::remove_dir(root.path().join(name)).unwrap();
    }
    assert_eq!(root.sh("ls -d /dev/null /proc/self /run/lock").good().lines().count(), 3);
    for name in ["dev", "proc", "sys", "run", "tmp"] {
        assert!(!root.path().join(name).exists(), "{name}");
    }
    std::fs::write(root.path().join("proc"), "no folder").unwrap();
    let error = root.sh("true").refused();
    assert_eq!(kind_of(&error), Kind::Base, "{error:#}");
    assert!(format!("{error:#}").contains("/proc is no folder"), "{error:#}");
}

#[test]
fn a_limit_on_processes_holds_or_is_refused_by_name() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let mut run = sh("i=0; while [ $i -lt 40 ]; do sleep 100 & i=$((i+1)); done; echo all started");
    run.limits.processes = Some(16);
    let ran = root.go(&run);
    match ran.result {
        Ok(_) => assert!(!ran.out.contains("all started"), "{}{}", ran.out, ran.err),
        Err(error) => {
            assert_eq!(kind_of(&error), Kind::Host);
            assert!(format!("{error:#}").contains("cannot limit pids"), "{error:#}");
            eprintln!("skipped: {error:#}");
        }
    }
}

#[test]
fn a_builtin_runs_inside_and_needs_nothing_of_the_image() {
    if !can_make() {
        return;
    }
    let root = Root::new();
    let builtin = |argument| {
        let mut run = Run::new(Program::Builtin("self-test".into(), argument));
        run.network = Network::None;
        run
    };
    for name in ["bin", "lib", "lib64", "sbin"] {
        let _absent_is_as_good = std::fs::remove_file(root.path().join(name));
    }
    let out = root.go(&builtin(serde_json::json!({}))).good();
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["process"], 2);
    assert_eq!(told["processes"], 2);
    let error = root.go(&builtin(serde_json::json!({ "fail": "as asked" }))).refused();
    assert_eq!(format!("{error:#}"), "looking around inside: as asked");
    assert_eq!(kind_of(&error), Kind::Step);
    let unknown = Run::new(Program::Builtin("nothing".into(), serde_json::Value::Null));
    assert!(format!("{:#}", root.go(&unknown).refused()).contains("no builtin is called nothing"));
}
