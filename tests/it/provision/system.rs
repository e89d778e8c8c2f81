//! The `system` provisioner in real roots.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::{Kitchen, hint_of, picture, runs_here};
use crate::support::debian_roots::{debian, debian_with, rpm};

/// A root with systemd, time zones and locales.
fn whole() -> Kitchen {
    Kitchen::new(debian_with("system", "systemd,tzdata,locales"))
}

fn program(kitchen: &Kitchen, name: &str, content: &str) {
    let path = kitchen.root().join("usr/sbin").join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{content}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

const ACCOUNTS: &str = r#"
[[step]]
use = "system"
groups = [{ name = "web", gid = 2000 }, { name = "metrics", system = true }]
users = [
    { name = "app", uid = 2001, group = "web", groups = ["metrics", "adm"], home = "/srv/app", shell = "/bin/sh", comment = "The app's", authorized_keys = ["ssh-ed25519 AAAA one@example", "ssh-ed25519 BBBB two's \"key\""] },
    { name = "daemon-x", system = true },
]
remove_users = ["games", "never-was"]
"#;

/// Writes a file of the root, its folder with it.
fn put(kitchen: &Kitchen, path: &str, content: &str) {
    let path = kitchen.root().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn users_and_groups_are_made_once_and_own_what_files_copies() {
    if !runs_here() {
        return;
    }
    let kitchen = whole();
    std::fs::write(kitchen.recipe().join("page"), "x").unwrap();
    let files = "[[step]]\nuse = \"files\"\ncopy = [{ from = \"page\", to = \"/srv/app/page\", owner = \"app\", group = \"metrics\" }]\n";
    kitchen
        .bake(&format!("{ACCOUNTS}{files}"))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    let line = |file: &str, name: &str| {
        let text = kitchen.read(file);
        text.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap_or_default().to_owned()
    };
    assert_eq!(line("etc/passwd", "app"), "app:x:2001:2000:The app's:/srv/app:/bin/sh");
    assert_eq!(line("etc/group", "web"), "web:x:2000:");
    assert!(line("etc/group", "adm").ends_with(":app") && line("etc/group", "metrics").ends_with(":app"));
    let daemon: Vec<String> = line("etc/passwd", "daemon-x").split(':').map(str::to_owned).collect();
    assert!(daemon[2].parse::<u32>().unwrap() < 1000 && daemon[6].ends_with("nologin"), "{daemon:?}");
    assert!(!kitchen.exists("home/daemon-x"));
    assert_eq!(line("etc/passwd", "games"), "");
    // No password: neither a hash nor an empty one.
    assert!(line("etc/shadow", "app").starts_with("app:!"), "{}", line("etc/shadow", "app"));
    let keys = kitchen.root().join("srv/app/.ssh/authorized_keys").metadata().unwrap();
    assert_eq!((keys.mode() & 0o7777, keys.uid(), keys.gid()), (0o600, 2001, 2000));
    assert_eq!(kitchen.root().join("srv/app/.ssh").metadata().unwrap().mode() & 0o7777, 0o700);
    assert_eq!(
        kitchen.read("srv/app/.ssh/authorized_keys"),
        "ssh-ed25519 AAAA one@example\nssh-ed25519 BBBB two's \"key\"\n"
    );
    let metrics: u32 = line("etc/group", "metrics").split(':').nth(2).unwrap().parse().unwrap();
    let page = kitchen.root().join("srv/app/page").metadata().unwrap();
    assert_eq!((page.uid(), page.gid()), (2001, metrics));

    let before = picture(kitchen.root());
    kitchen.bake(ACCOUNTS).unwrap();
    assert_eq!(picture(kitchen.root()), before, "the second time changes nothing");

    let changed = ACCOUNTS.replace("2001", "2002");
    let error = kitchen.bake(&changed).unwrap_err();
    assert!(format!("{error:#}").contains("the user app has the number 2001 already, not 2002"), "{error:#}");
    let error = kitchen
        .bake("[[step]]\nuse = \"system\"\nusers = [{ name = \"b\", groups = [\"nobody-here\"] }]\n")
        .unwrap_err();
    assert!(format!("{error:#}").contains("the group nobody-here of the user b is not there"), "{error:#}");
}

#[test]
fn units_are_enabled_disabled_and_masked_by_their_files() {
    if !runs_here() {
        return;
    }
    let kitchen = whole();
    let put = |path: &str, content: &str| put(&kitchen, path, content);
    for name in ["one", "two", "three", "four"] {
        let unit = "[Service]\nExecStart=/usr/bin/touch /started\n[Install]\nWantedBy=multi-user.target\n";
        put(&format!("usr/lib/systemd/system/{name}.service"), unit);
    }
    put("etc/systemd/system-preset/10-image.preset", "enable three.service\ndisable four.service\n");
    let wants =
        |name: &str| kitchen.exists(&format!("etc/systemd/system/multi-user.target.wants/{name}.service"));
    kitchen.bake("[[step]]\nuse = \"system\"\nenable = [\"two.service\", \"four\"]\n").unwrap();
    assert!(wants("two") && wants("four") && !wants("one"));
    let step = "[[step]]\nuse = \"system\"\nenable = [\"one\"]\ndisable = [\"two\"]\nmask = [\"apt-daily.timer\"]\n\
                preset = [\"three.service\", \"four.service\"]\ndefault_target = \"multi-user.target\"\n";
    kitchen.bake(step).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    assert!(wants("one") && !wants("two") && wants("three") && !wants("four"));
    let link = |path: &str| std::fs::read_link(kitchen.root().join(path)).unwrap();
    assert_eq!(link("etc/systemd/system/apt-daily.timer").to_str(), Some("/dev/null"));
    assert!(link("etc/systemd/system/default.target").ends_with("multi-user.target"));
    assert!(!kitchen.exists("started"));
    kitchen.bake("[[step]]\nuse = \"system\"\nunmask = [\"apt-daily.timer\"]\n").unwrap();
    assert!(!kitchen.exists("etc/systemd/system/apt-daily.timer"));

    let error = kitchen.bake("[[step]]\nuse = \"system\"\nenable = [\"no-such.service\"]\n").unwrap_err();
    assert!(hint_of(&error).contains("no package of the image has this unit"), "{error:#}");
    let bare = Kitchen::new(debian());
    let error = bare.bake("[[step]]\nuse = \"system\"\nenable = [\"one\"]\n").unwrap_err();
    assert!(format!("{error:#}").contains("the image has no systemctl, which enable needs"), "{error:#}");
}

#[test]
fn presets_settle_all_units_and_what_is_said_besides_wins() {
    if !runs_here() {
        return;
    }
    let kitchen = whole();
    let put = |path: &str, content: &str| put(&kitchen, path, content);
    for name in ["asked", "left", "said", "shut"] {
        let unit = format!(
            "[Service]\nExecStart=/usr/bin/touch /started\n[Install]\nWantedBy=multi-user.target\nAlias={name}-too.service\n"
        );
        put(&format!("usr/lib/systemd/system/{name}.service"), &unit);
    }
    // The image's own come before the distribution's.
    put(
        "etc/systemd/system-preset/00-image.preset",
        "enable asked.service\nenable shut.service\ndisable *\n",
    );
    put("usr/lib/systemd/system-preset/10-vendor.preset", "enable left.service\n");
    let is =
        |name: &str| kitchen.exists(&format!("etc/systemd/system/multi-user.target.wants/{name}.service"));
    let timers = |name: &str| kitchen.exists(&format!("etc/systemd/system/timers.target.wants/{name}.timer"));
    kitchen.bake("[[step]]\nuse = \"system\"\nenable = [\"left\"]\nmask = [\"shut\"]\n").unwrap();
    assert!(is("left") && timers("apt-daily"), "before the presets");
    let step = "[[step]]\nuse = \"system\"\npreset = [\"*\"]\nenable = [\"said\"]\n";
    kitchen.bake(step).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    assert!(is("asked") && kitchen.exists("etc/systemd/system/asked-too.service"), "{}", kitchen.log());
    assert!(!is("left") && !kitchen.exists("etc/systemd/system/left-too.service"), "{}", kitchen.log());
    assert!(!timers("apt-daily"), "the distribution's units too");
    assert!(is("said"), "what a step enables by name holds against the presets");
    let masked = std::fs::read_link(kitchen.root().join("etc/systemd/system/shut.service")).unwrap();
    assert_eq!(masked.to_str(), Some("/dev/null"), "a masked unit stays masked");
    assert!(!is("shut") && !kitchen.exists("started"));
    let before = picture(kitchen.root());
    kitchen.bake(step).unwrap();
    assert_eq!(picture(kitchen.root()), before, "the second time changes nothing");

    for (step, why) in [
        ("preset = [\"no-such.service\"]", "no package of the image has this unit"),
        ("disable = [\"no-such.service\"]", "no package of the image has this unit"),
        ("default_target = \"no-such.target\"", "no package of the image has this unit"),
    ] {
        let error = kitchen.bake(&format!("[[step]]\nuse = \"system\"\n{step}\n")).unwrap_err();
        assert!(hint_of(&error).contains(why), "{step}: {error:#}");
    }
    let bare = Kitchen::new(debian());
    let error = bare.bake("[[step]]\nuse = \"system\"\npreset = [\"*\"]\n").unwrap_err();
    assert!(format!("{error:#}").contains("the image has no systemctl, which preset needs"), "{error:#}");
}

#[test]
fn users_that_are_there_become_as_they_are_said() {
    if !runs_here() {
        return;
    }
    let kitchen = whole();
    let ssh = kitchen.root().join("srv/www/.ssh");
    std::fs::create_dir_all(&ssh).unwrap();
    // Its last line has no end.
    std::fs::write(ssh.join("authorized_keys"), "ssh-ed25519 OLD old").unwrap();
    let step = r#"
[[step]]
use = "system"
users = [
    { name = "www-data", group = "adm", groups = ["mail"], home = "/srv/www", shell = "/bin/sh", comment = "The web's", authorized_keys = ["ssh-ed25519 NEW new"] },
    { name = "runner", system = true, create_home = true, home = "/var/lib/runner" },
    { name = "guest", create_home = false },
]
"#;
    kitchen.bake(step).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    let line = |file: &str, name: &str| {
        let text = kitchen.read(file);
        text.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap_or_default().to_owned()
    };
    assert_eq!(line("etc/passwd", "www-data"), "www-data:x:33:4:The web's:/srv/www:/bin/sh");
    assert!(line("etc/group", "mail").ends_with(":www-data"));
    assert_eq!(kitchen.read("srv/www/.ssh/authorized_keys"), "ssh-ed25519 OLD old\nssh-ed25519 NEW new\n");
    let runner: Vec<String> = line("etc/passwd", "runner").split(':').map(str::to_owned).collect();
    let home = kitchen.root().join("var/lib/runner").metadata().unwrap();
    assert_eq!((home.uid().to_string(), &*runner[5]), (runner[2].clone(), "/var/lib/runner"));
    assert!(runner[2].parse::<u32>().unwrap() < 1000 && runner[6].ends_with("nologin"), "{runner:?}");
    assert!(line("etc/passwd", "guest").contains(":/home/guest:") && !kitchen.exists("home/guest"));
    let before = picture(kitchen.root());
    kitchen.bake(step).unwrap();
    assert_eq!(picture(kitchen.root()), before, "the second time changes nothing");
    // A home folder that is asked for later.
    let later = "[[step]]\nuse = \"system\"\nusers = [{ name = \"guest\", create_home = true }]\n";
    kitchen.bake(later).unwrap();
    let guest: u32 = line("etc/passwd", "guest").split(':').nth(2).unwrap().parse().unwrap();
    assert_eq!(kitchen.root().join("home/guest").metadata().unwrap().uid(), guest);
    assert!(kitchen.exists("home/guest/.profile"), "as /etc/skel has it");

    for (what, why) in [
        ("groups = [{ name = \"adm\", gid = 5 }]", "the group adm has the number 4 already, not 5"),
        ("groups = [{ name = \"a b\" }]", "`name` can't be `a b`"),
        ("users = [{ name = \"x\", group = \"none\" }]", "the group none of the user x is not there"),
        (
            "users = [{ name = \"y\", shell = \"/bin/zsh\" }]",
            "the image has no /bin/zsh, the shell of the user y",
        ),
        (
            "users = [{ name = \"nobody\", authorized_keys = [\"k\"] }]",
            "the user nobody has no home folder /nonexistent for authorized_keys",
        ),
    ] {
        let error = kitchen.bake(&format!("[[step]]\nuse = \"system\"\n{what}\n")).unwrap_err();
        assert!(format!("{error:#}").contains(why), "{what}: {error:#}");
    }
}

#[test]
fn other_distributions_have_their_locale_in_a_file_of_their_own() {
    if !runs_here() {
        return;
    }
    let kitchen = whole();
    std::fs::remove_file(kitchen.root().join("etc/debian_version")).unwrap();
    std::fs::remove_file(kitchen.root().join("etc/timezone")).unwrap();
    std::fs::write(kitchen.root().join("etc/locale.conf"), "LC_TIME=C.UTF-8\n").unwrap();
    let step = "[[step]]\nuse = \"system\"\nlocale = \"C.UTF-8\"\ntimezone = \"Asia/Tokyo\"\nhostname = \"web.example.org\"\n";
    for _ in 0..2 {
        kitchen.bake(step).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
        assert_eq!(kitchen.read("etc/locale.conf"), "LC_TIME=C.UTF-8\nLANG=C.UTF-8\n");
        let link = std::fs::read_link(kitchen.root().join("etc/localtime")).unwrap();
        assert_eq!(link.to_str(), Some("/usr/share/zoneinfo/Asia/Tokyo"));
        assert!(!kitchen.exists("etc/timezone"), "Debian's alone");
        assert_eq!(kitchen.read("etc/hostname"), "web.example.org\n");
    }
}

#[test]
fn locale_time_zone_host_name_and_sysctl_are_settled() {
    if !runs_here() {
        return;
    }
    let kitchen = whole();
    std::fs::write(kitchen.root().join("etc/hostname"), "builder\n").unwrap();
    std::fs::write(kitchen.root().join("etc/default/locale"), "LC_TIME=C\nLANG=C\n").unwrap();
    let step = "[[step]]\nuse = \"system\"\nlocale = \"de_DE.UTF-8\"\ntimezone = \"Europe/Berlin\"\nhostname = \"\"\n\
                sysctl = { \"net.core.somaxconn\" = \"1024\", \"vm.swappiness\" = \"10\" }\n";
    kitchen.bake(step).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    assert_eq!(kitchen.read("etc/default/locale"), "LC_TIME=C\nLANG=de_DE.UTF-8\n");
    assert_eq!(kitchen.read("etc/hostname"), "");
    assert_eq!(kitchen.read("etc/timezone"), "Europe/Berlin\n");
    assert_eq!(kitchen.read("etc/sysctl.d/80-image.conf"), "net.core.somaxconn = 1024\nvm.swappiness = 10\n");
    let link = std::fs::read_link(kitchen.root().join("etc/localtime")).unwrap();
    assert_eq!(link.to_str(), Some("/usr/share/zoneinfo/Europe/Berlin"));
    kitchen
        .bake("[[step]]\nuse = \"script\"\nrun = [\"sh\", \"-c\", \"LC_ALL=de_DE.UTF-8 locale -k LC_MESSAGES | grep '^yesstr=.ja'\"]\n")
        .unwrap_or_else(|error| panic!("{error:#}"));
    let before = picture(kitchen.root());
    kitchen.bake(step).unwrap();
    assert_eq!(picture(kitchen.root()), before, "the second time changes nothing");
    kitchen
        .bake("[[step]]\nuse = \"system\"\nhostname = \"web\"\nsysctl = { \"vm.swappiness\" = \"1\" }\n")
        .unwrap();
    assert_eq!(kitchen.read("etc/hostname"), "web\n");
    assert_eq!(kitchen.read("etc/sysctl.d/80-image.conf"), "net.core.somaxconn = 1024\nvm.swappiness = 1\n");

    for (what, why) in [
        ("timezone = \"Europe/Nowhere\"", "the image has no time zone Europe/Nowhere"),
        ("timezone = \"../../etc/passwd\"", "`timezone` can't be `../../etc/passwd`"),
        ("locale = \"xx_XX.UTF-8\"", "the image has no locale xx_XX.UTF-8 and cannot make it"),
        ("hostname = \"a b\"", "`hostname` can't be `a b`"),
        ("sysctl = { \"a b\" = \"1\" }", "a key of `sysctl` can't be `a b`"),
        ("kernel_arguments = [\"quiet\"]", "the image has no boot loader that is known"),
        ("kernel_arguments = [\"$(reboot)\"]", "an item of `kernel_arguments` can't be `$(reboot)`"),
        ("users = [{ name = \"-x\" }]", "`name` can't be `-x`"),
    ] {
        let error = kitchen.bake(&format!("[[step]]\nuse = \"system\"\n{what}\n")).unwrap_err();
        assert!(format!("{error:#}").contains(why), "{what}: {error:#}");
    }
}

/// Recorders stand in for the boot loaders' programs here; `bake::system` has the real GRUB on a real disk.
#[test]
fn kernel_arguments_are_told_to_grub_grubby_and_systemd_boot() {
    if !runs_here() {
        return;
    }
    let step = "[[step]]\nuse = \"system\"\nkernel_arguments = [\"console=ttyS0,115200\", \"nvme_core.io_timeout=4294967295\"]\n\
                remove_kernel_arguments = [\"quiet\", \"loglevel\"]\n";
    let kitchen = Kitchen::new(debian());
    program(&kitchen, "update-grub", "echo updated >>/var/log/ran\n");
    let default = kitchen.root().join("etc/default");
    std::fs::create_dir_all(default.join("grub.d")).unwrap();
    std::fs::write(
        default.join("grub"),
        "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet loglevel=3 splash\"\nGRUB_CMDLINE_LINUX=\"root=/dev/sda1\"\n",
    )
    .unwrap();
    std::fs::write(default.join("grub.d/15_cloud.cfg"), "GRUB_CMDLINE_LINUX=\"console=tty0 a=\\\"b\\\"\"\n")
        .unwrap();
    for _ in 0..2 {
        kitchen.bake(step).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    }
    assert_eq!(
        kitchen.read("etc/default/grub.d/zz-image.cfg"),
        "# The kernel arguments of this image.\n\
         GRUB_CMDLINE_LINUX=\"console=tty0 a=\\\"b\\\" console=ttyS0,115200 nvme_core.io_timeout=4294967295\"\n\
         GRUB_CMDLINE_LINUX_DEFAULT=\"splash\"\n"
    );
    assert_eq!(kitchen.read("var/log/ran"), "updated\n", "once: the second time there is nothing to do");

    let kitchen = Kitchen::new(rpm());
    program(&kitchen, "grubby", "printf '%s\\n' \"$*\" >>/var/log/ran\n");
    std::fs::create_dir_all(kitchen.root().join("etc/kernel")).unwrap();
    std::fs::write(kitchen.root().join("etc/kernel/cmdline"), "root=LABEL=x quiet rw\n").unwrap();
    kitchen.bake(step).unwrap_or_else(|error| panic!("{error:#}\n{}", kitchen.log()));
    assert_eq!(
        kitchen.read("var/log/ran"),
        "--update-kernel=ALL --remove-args=quiet\n--update-kernel=ALL --remove-args=loglevel\n\
         --update-kernel=ALL --args=console=ttyS0,115200\n--update-kernel=ALL --args=nvme_core.io_timeout=4294967295\n"
    );
    assert_eq!(
        kitchen.read("etc/kernel/cmdline"),
        "root=LABEL=x rw console=ttyS0,115200 nvme_core.io_timeout=4294967295\n"
    );
}
