//! What the tests of several subjects share.

pub mod authority;
pub mod bakery;
pub mod bases;
pub mod cgroups;
pub mod debian_roots;
pub mod fifo;
pub mod host;
pub mod images;
pub mod lvm;
pub mod machine;
pub mod metadata;
pub mod packages;
pub mod repository;
pub mod roots;
pub mod standin;
pub mod terminal;
pub mod web;

/// Whether this test cannot run here: `why` is then printed. In CI (`CI` set) nothing is skipped silently.
pub fn skipped(why: Option<&str>) -> bool {
    if let Some(why) = why {
        assert!(std::env::var_os("CI").is_none(), "cannot run in CI: {why}");
        eprintln!("skipped: {why}");
    }
    why.is_some()
}

/// Why nothing that needs root can run here.
pub fn not_root() -> Option<&'static str> {
    (!nix::unistd::Uid::effective().is_root()).then_some("not root")
}
