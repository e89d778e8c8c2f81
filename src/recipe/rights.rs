//! What a step is given beyond the sandbox's usual, and what it may use at most.

use super::Complaint;
use super::reader::{Complaints, Table, shown};

/// A step's rights and limits. The default: no devices, no mounting, no limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Rights {
    /// `devices = "disk"`: the nodes of the bake's own disk are in /dev (for grub-install and its like).
    pub disk: bool,
    /// `mounts = true`: it may mount. Whoever may mount is not held by the sandbox.
    pub mounts: bool,
    /// `memory`: bytes, beyond which the kernel ends processes of the step.
    pub memory: Option<u64>,
    /// `processes`: processes and threads at once.
    pub processes: Option<u64>,
    /// `cpu`: processor time in hundredths of one processor; 150 is one and a half.
    pub cpu: Option<u32>,
}

/// The keys of a step that say them.
pub(super) const KEYS: [&str; 5] = ["devices", "mounts", "memory", "processes", "cpu"];

pub(super) fn rights(table: &mut Table, complaints: &mut Complaints) -> Rights {
    let devices = table.string("devices", complaints);
    if let Some(devices) = &devices
        && devices.value != "disk"
    {
        complaints.push(
            Complaint::new(format!("unknown devices `{}`", shown(&devices.value)), devices.span.clone())
                .help("`disk` (the bake's own disk and its partitions), or leave it out"),
        );
    }
    let mounts = table.bool("mounts", complaints).unwrap_or(false);
    let memory = table.size("memory", complaints);
    if let Some(memory) = &memory
        && memory.value < 1 << 20
    {
        complaints.push(
            Complaint::new("nothing runs in less than 1MiB of memory", memory.span.clone())
                .help("memory = \"2GiB\""),
        );
    }
    let mut count = |key: &str, help: &str| -> Option<u32> {
        let given = table.integer(key, complaints)?;
        let count = u32::try_from(given.value).ok().filter(|count| *count > 0);
        if count.is_none() {
            complaints.push(
                Complaint::new(format!("`{key}` is a whole number from 1 on"), given.span.clone()).help(help),
            );
        }
        count
    };
    Rights {
        disk: devices.is_some(),
        mounts,
        processes: count("processes", "processes = 500").map(u64::from),
        cpu: count("cpu", "hundredths of one processor: cpu = 150 is one and a half"),
        memory: memory.map(|memory| memory.value),
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::{Source, parse};

    fn step(keys: &str) -> Result<super::Rights, Vec<String>> {
        let text = format!(
            "[image]\nname = 'web'\n[base]\nimage = 'x'\n[[step]]\nuse = 'script'\nrun = ['true']\n{keys}\n"
        );
        let parsed = parse(&Source { name: "web.toml".into(), text });
        parsed
            .map(|recipe| recipe.steps[0].rights)
            .map_err(|complaints| complaints.into_iter().map(|complaint| complaint.message).collect())
    }

    #[test]
    fn a_step_has_what_it_says_and_nothing_by_itself() {
        assert_eq!(step(""), Ok(super::Rights::default()));
        let all =
            step("devices = 'disk'\nmounts = true\nmemory = '2GiB'\nprocesses = 500\ncpu = 150").unwrap();
        assert!(all.disk && all.mounts);
        assert_eq!((all.memory, all.processes, all.cpu), (Some(2 << 30), Some(500), Some(150)));
    }

    #[test]
    fn what_cannot_be_given_is_told() {
        for wrong in ["devices = 'all'", "memory = '1kB'", "processes = 0", "cpu = -1", "mounts = 'yes'"] {
            assert_eq!(step(wrong).unwrap_err().len(), 1, "{wrong}");
        }
    }
}
