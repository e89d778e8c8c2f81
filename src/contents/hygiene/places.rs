//! Where what hygiene covers is kept, beneath the root.

/// Host keys: files of this folder by this beginning (`ssh_host_ed25519_key`, `….pub`, `…-cert.pub`).
pub(super) const SSH_FOLDER: &str = "etc/ssh";
/// See [`SSH_FOLDER`].
pub(super) const SSH_HOST_KEY: &str = "ssh_host_";

/// The machine's id, for systemd and for D-Bus.
pub(super) const MACHINE_ID: &str = "etc/machine-id";
/// See [`MACHINE_ID`].
pub(super) const DBUS_MACHINE_ID: &str = "var/lib/dbus/machine-id";

/// Seeds of random numbers, and the key with which systemd encrypts credentials for this machine alone.
pub(super) const RANDOM_SEEDS: [&str; 9] = [
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/random-seed",
    "var/lib/urandom/random-seed",
    "var/lib/misc/random-seed",
    "var/lib/seedrng/seed.credit",
    "boot/loader/random-seed",
    "boot/efi/loader/random-seed",
    "efi/loader/random-seed",
];

/// cloud-init: what it keeps of an instance. Its `seed` and its scripts are configuration.
pub(super) const CLOUD_INIT_TREES: [&str; 3] =
    ["var/lib/cloud/instances", "var/lib/cloud/data", "var/lib/cloud/sem"];
/// The link to the present instance's folder.
pub(super) const CLOUD_INIT_LINK: &str = "var/lib/cloud/instance";

/// What package managers can fetch or make again.
pub(super) const PACKAGE_CACHES: [&str; 13] = [
    "var/lib/apt/lists",
    "var/cache/apt",
    "var/cache/dnf",
    "var/cache/libdnf5",
    "var/lib/dnf/repos",
    "var/cache/yum",
    "var/cache/tdnf",
    "var/cache/zypp",
    "var/cache/PackageKit",
    "var/cache/apk",
    "var/cache/pacman/pkg",
    "root/.cache/pip",
    "root/.npm/_cacache",
];

/// Logs.
pub(super) const LOGS: &str = "var/log";

/// Files of a home folder in which programs keep what was typed or visited.
pub(super) const HISTORIES: [&str; 16] = [
    ".bash_history",
    ".sh_history",
    ".ash_history",
    ".ksh_history",
    ".zsh_history",
    ".zhistory",
    ".python_history",
    ".node_repl_history",
    ".irb_history",
    ".mysql_history",
    ".mariadb_history",
    ".psql_history",
    ".sqlite_history",
    ".rediscli_history",
    ".lesshst",
    ".wget-hsts",
];
/// root's home.
pub(super) const ROOT_HOME: &str = "root";
/// Where the others' are.
pub(super) const HOMES: &str = "home";

/// Temporary files. While steps run, /tmp is the sandbox's own: the image's is out of their sight, and what
/// they leave there is gone with them.
pub(super) const TEMPORARY: &str = "var/tmp";

/// What keeps services from starting.
pub(super) const POLICY_RC_D: &str = "usr/sbin/policy-rc.d";

/// Folders on which the sandbox mounts something of its own.
pub(super) const NOT_THE_IMAGE: [&str; 5] = ["dev", "proc", "sys", "run", "tmp"];
