//! Kernels that packages bring: their own scripts make the boot loader's configuration anew, on a disk that the step
//! does not see.

use std::path::Path;

use crate::support::bakery::Bakery;
use crate::support::bases::{self, debian_base};
use crate::support::host::has;

const RECIPE: &str = r#"
[image]
name = "kernel-{time}"
[base]
image = "debian-12"

[[step]]
use = "apt"
install = ["linux-image-amd64"]
"#;

#[test]
fn a_kernel_that_a_package_brings_is_in_the_boot_menu() {
    if !has(&[bases::NEEDED, &["timeout"]].concat()) {
        return;
    }
    let base = debian_base();
    // The kernel's package is large, and comes anew each time.
    let bakery = Bakery::new().patient("1200");
    bakery.base("debian-12", &base);
    let config = |root: &Path| std::fs::read_to_string(root.join("boot/grub/grub.cfg")).unwrap();
    let before = bakery.look("debian-12", 1, "ext4", config);
    // The root by its UUID, as the base has it.
    let root = before.split_whitespace().find(|word| word.starts_with("root=UUID=")).unwrap().to_owned();
    let uuid = root.trim_start_matches("root=UUID=");
    let image = bakery.bake(RECIPE, &[]).good().id();
    bakery.look(&image, 1, "ext4", |folder| {
        let after = config(folder);
        let kernels: Vec<&str> =
            after.lines().map(str::trim).filter(|line| line.starts_with("linux")).collect();
        assert!(kernels.iter().any(|line| !line.contains("-cloud-")), "the new one: {after}");
        assert!(kernels.iter().any(|line| line.contains("-cloud-")), "the base's own: {after}");
        for line in kernels {
            assert!(line.contains(&format!(" {root} ")), "{line}");
        }
        for line in after.lines().filter(|line| line.contains("--set=root")) {
            assert!(line.ends_with(uuid), "{line}");
        }
        assert!(after.contains("set root='hd0,gpt1'"), "{after}");
        assert!(!after.contains("/dev/"), "a device of the builder: {after}");
        let probe = std::fs::read(folder.join("usr/sbin/grub-probe")).unwrap();
        assert!(probe.starts_with(b"\x7fELF"), "what answered in its place has gone");
        assert!(!folder.join("usr/sbin/grub-probe.bakehouse").exists());
        let diversions = std::fs::read_to_string(folder.join("var/lib/dpkg/diversions")).unwrap();
        assert!(!diversions.contains("grub-probe"), "{diversions}");
    });
    bakery.assert_nothing_left();
}
