//! `bakehouse local boot`: an image in QEMU, on this terminal.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::cli::Context;
use crate::cloud::local::Record;
use crate::error::{Failure, Kind};
use crate::plan::Arch;
use crate::program::Program;

/// How a machine is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Accel {
    /// By software alone: works everywhere, ten times slower
    Tcg,
    /// By the processor, through /dev/kvm
    Kvm,
}

/// What boots a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BootBy {
    /// A BIOS
    Bios,
    /// UEFI
    Uefi,
}

/// How it boots.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The image, by name or id
    pub image: String,
    /// The machine's memory in MiB
    #[arg(long, value_name = "MIB", default_value = "1024", value_parser = clap::value_parser!(u32).range(64..))]
    pub memory: u32,
    /// A port of this host's 127.0.0.1 that leads to one of the machine's; repeatable
    #[arg(long = "port-forward", value_name = "HOST:MACHINE", value_parser = ports)]
    pub ports: Vec<(u16, u16)>,
    /// How the machine is emulated
    #[arg(long, value_enum, default_value = "tcg", env = "BAKEHOUSE_ACCEL", hide_env_values = true)]
    pub accel: Accel,
    /// What boots it [default: by the image's boot mode; UEFI where either could]
    #[arg(long, value_enum)]
    pub firmware: Option<BootBy>,
    /// Further arguments of QEMU
    #[arg(last = true, value_name = "QEMU-ARGUMENT")]
    pub further: Vec<OsString>,
}

/// Where distributions keep UEFI's firmware for virtual machines.
const FIRMWARE: &[&str] =
    &["/usr/share/ovmf/OVMF.fd", "/usr/share/OVMF/OVMF.fd", "/usr/share/edk2/ovmf/OVMF.fd"];

/// Runs it: QEMU takes this process's place, so that the terminal and every signal are its own.
///
/// # Errors
/// [`Kind::Base`] when there is no such image, [`Kind::Host`] when this host cannot boot it.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let store = super::store(context)?;
    let record = store.image(&args.image)?;
    let firmware = FIRMWARE.iter().map(Path::new).find(|path| path.exists());
    let program = machine(&record, &store.disk_of(&record), firmware, args)?;
    context
        .reporter
        .phase("boot", &format!("{} ({}): Ctrl-A X ends it, nothing is kept", record.name, record.id));
    context.reporter.detail(&program.line());
    let line = program.line();
    Err(program.command()?.exec()).with_context(|| format!("starting {line}"))
}

fn machine(record: &Record, disk: &Path, firmware: Option<&Path>, args: &Args) -> Result<Program, Failure> {
    if record.arch != Arch::X86_64 {
        let message =
            format!("{} is for {}, and only x86_64 is booted here", record.name, record.arch.as_str());
        return Err(Failure::new(Kind::Host, message)
            .hint("export it with `bakehouse local export` and boot it where its architecture is"));
    }
    let mut program = Program::new("qemu-system-x86_64");
    let boot_by = args.firmware.unwrap_or(match record.boot_mode.as_deref() {
        Some("uefi") => BootBy::Uefi,
        Some("uefi-preferred") if firmware.is_some() => BootBy::Uefi,
        _ => BootBy::Bios,
    });
    if boot_by == BootBy::Uefi {
        let firmware = firmware.ok_or_else(|| {
            Failure::new(
                Kind::Host,
                format!("{} boots by UEFI, and this host has no firmware for it", record.name),
            )
            .hint("install it: sudo apt-get install ovmf, or sudo dnf install edk2-ovmf")
        })?;
        program = program.arg("-bios").arg(firmware);
    }
    let accel = match args.accel {
        Accel::Tcg => "tcg",
        Accel::Kvm => "kvm",
    };
    let mut network = "user,model=virtio-net-pci".to_owned();
    for (host, machine) in &args.ports {
        network.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{machine}"));
    }
    Ok(program
        .args(["-accel", accel, "-m", &args.memory.to_string(), "-nographic", "-no-reboot"])
        .arg("-drive")
        // `snapshot`: what is written goes to a file that QEMU removes.
        .arg(format!("file={},format=raw,if=virtio,snapshot=on", super::option_value(disk)))
        .args(["-nic", &network, "-device", "virtio-rng-pci"])
        .args(&args.further))
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let (host, machine) = text.split_once(':').unwrap_or((text, text));
    port(host).zip(port(machine)).ok_or_else(|| "a port forward is HOST:MACHINE, as 8080:80".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            image: "x".to_owned(),
            memory: 512,
            ports: vec![(8080, 80)],
            accel: Accel::Tcg,
            firmware: None,
            further: vec!["-smp".into(), "2".into()],
        }
    }

    fn record(arch: Arch, boot_mode: &str) -> Record {
        serde_json::from_value(serde_json::json!({
            "format": 1, "id": "img-1", "name": "web", "created": "2026-01-01T00:00:00.000Z", "arch": arch,
            "snapshot": "snap-1", "size": 1, "boot_mode": boot_mode, "root_device": "/dev/vda",
            "provenance": { "origin": "bake", "tool": "t" },
        }))
        .unwrap()
    }

    #[test]
    fn the_image_is_never_written_and_ports_are_this_hosts_own() {
        let line =
            machine(&record(Arch::X86_64, "bios"), Path::new("/s/a,b.raw"), None, &args()).unwrap().line();
        for part in
            ["file=/s/a,,b.raw,format=raw,if=virtio,snapshot=on", "hostfwd=tcp:127.0.0.1:8080-:80", "-smp 2"]
        {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn what_this_host_cannot_boot_is_told() {
        let failure = machine(&record(Arch::Arm64, "uefi"), Path::new("/s"), None, &args()).unwrap_err();
        assert!(failure.to_string().contains("arm64"), "{failure}");
        let failure = machine(&record(Arch::X86_64, "uefi"), Path::new("/s"), None, &args()).unwrap_err();
        assert!(failure.hint.unwrap().contains("ovmf"));
        let line = |mode: &str, firmware: Option<&str>, by| {
            let args = Args { firmware: by, ..args() };
            machine(&record(Arch::X86_64, mode), Path::new("/s"), firmware.map(Path::new), &args)
                .unwrap()
                .line()
        };
        assert!(line("uefi", Some("/f"), None).contains("-bios /f"));
        assert!(line("uefi-preferred", Some("/f"), None).contains("-bios /f"));
        assert!(!line("uefi-preferred", None, None).contains("-bios"));
        assert!(!line("uefi-preferred", Some("/f"), Some(BootBy::Bios)).contains("-bios"));
    }

    #[test]
    fn port_forwards() {
        assert_eq!(ports("8080:80"), Ok((8080, 80)));
        assert_eq!(ports("22"), Ok((22, 22)));
        for wrong in ["", "a:b", "0:1", "70000:1", "1:2:3"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }
}
