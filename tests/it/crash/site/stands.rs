//! What is left at a site: of a bake that died while the kernel still cleans up, and in the end.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{MARK, On, Places, Site};
use crate::support::host::run;

/// What a bake, and the sweep after it, came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stands {
    /// Nothing of the bake is there.
    Nothing,
    /// Its image is, whole and registered, and nothing else.
    Image,
    /// Nothing of the bake is there, and the image that it was to replace stands as it did.
    Old,
}

impl Site {
    /// Waits until nothing of a bake that died runs, is mounted or is bound to a loop device: the kernel takes
    /// all that away by itself.
    pub fn settle(&self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let left = self.alive();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("still alive: {left:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn alive(&self) -> Vec<String> {
        let own = self.folder.path();
        let own_text = own.to_str().unwrap();
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let link = fs::read_link(entry.path().join("exe")).unwrap_or_default();
            if link.starts_with(own) {
                left.push(format!("process {}", entry.file_name().display()));
            }
        }
        for entry in fs::read_dir("/sys/block").unwrap().flatten() {
            let file = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            if file.starts_with(own_text) {
                left.push(format!("loop device of {}", file.trim_end()));
            }
        }
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
            if line.contains(own_text)
                || self.works().iter().any(|work| line.contains(work.to_str().unwrap()))
            {
                left.push(format!("mount {line}"));
            }
        }
        left
    }

    /// The working folders of all bakes of this site, told by their logs.
    fn works(&self) -> Vec<PathBuf> {
        let logs = fs::read_dir(self.path("logs")).into_iter().flatten().flatten();
        logs.map(|log| Path::new("/run/bakehouse").join(log.path().file_stem().unwrap())).collect()
    }

    /// Takes away the working folders, as a reboot does.
    pub fn forget_works(&self) {
        for work in self.works() {
            bakehouse::bake::forget_work(&work).unwrap();
        }
    }

    /// The base's disk, so that a change of it is seen.
    pub fn base_digest(&self) -> String {
        let disk = match &self.standin {
            Some(standin) => {
                let snapshot = standin.find("snapshots", "SnapshotId", &self.base_snapshot).unwrap();
                PathBuf::from(snapshot["File"].as_str().unwrap())
            }
            None => self.store().disk_of(&self.store().image("tiny").unwrap()),
        };
        run("sha256sum", &[disk.to_str().unwrap()]).split(' ').next().unwrap().to_owned()
    }

    /// The disk of an image of that name.
    pub fn disk_of(&self, name: &str) -> Option<PathBuf> {
        match self.on {
            On::Ec2 => self.ec2_stands(name, &mut Vec::new()),
            On::Local => self.local_stands(name, &mut Vec::new()),
        }
    }

    /// The journals that there are.
    pub fn journals(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.path("state/bakes")).into_iter().flatten().flatten();
        folder.map(|entry| entry.path()).collect()
    }

    /// Everything that there is, by name: what a dry run must leave as it is.
    pub fn inventory(&self) -> BTreeSet<String> {
        let mut all: BTreeSet<String> = ["state/bakes", "store/disks", "store/images"]
            .iter()
            .flat_map(|folder| fs::read_dir(self.path(folder)).into_iter().flatten().flatten())
            .map(|entry| {
                format!("{} {}", entry.path().display(), entry.metadata().map_or(0, |meta| meta.len()))
            })
            .collect();
        all.extend(self.works().iter().filter(|work| work.exists()).map(|work| work.display().to_string()));
        if let Some(standin) = &self.standin {
            let state = standin.state();
            for (kind, key) in [("volumes", "VolumeId"), ("snapshots", "SnapshotId"), ("images", "ImageId")] {
                all.extend(state[kind].as_array().unwrap().iter().map(|each| each[key].to_string()));
            }
        }
        all
    }

    /// What stands of the bake of that name, and of all others: anything that is in between is an error.
    pub fn stands(&self, name: &str) -> Result<Stands, String> {
        let mut left: Vec<String> =
            self.journals().iter().map(|path| format!("journal {}", path.display())).collect();
        left.extend(
            self.works().iter().filter(|work| work.exists()).map(|work| format!("{}", work.display())),
        );
        self.given_stands(&mut left);
        let found = match self.on {
            On::Ec2 => self.ec2_stands(name, &mut left),
            On::Local => self.local_stands(name, &mut left),
        };
        let replaces = self.old.lock().unwrap().contains(name);
        match (left.is_empty(), found) {
            (false, _) => Err(format!("left: {left:#?}")),
            (true, None) if replaces => Err("neither the old image nor the new one".to_owned()),
            (true, None) => Ok(Stands::Nothing),
            (true, Some(disk)) => {
                // As it lies there: nobody has it mounted, nobody repaired it.
                let Places(begins, marker) = &self.places;
                let filesystems: Vec<_> =
                    begins.iter().map(|begin| format!("{}?offset={begin}", disk.display())).collect();
                let read = run("debugfs", &["-R", &format!("cat {marker}"), &filesystems[0]]);
                if replaces && read.is_empty() {
                    return Ok(Stands::Old);
                }
                if read.trim() != MARK {
                    return Err(format!("{} holds {read:?} in {marker}", filesystems[0]));
                }
                for filesystem in &filesystems {
                    run("e2fsck", &["-fn", filesystem]);
                }
                Ok(Stands::Image)
            }
        }
    }

    fn ec2_stands(&self, name: &str, left: &mut Vec<String>) -> Option<PathBuf> {
        let state = self.ec2().state();
        let all = |kind: &str| state[kind].as_array().unwrap().clone();
        let is_bakes = |each: &&Value| self.given.as_deref() != each["VolumeId"].as_str();
        left.extend(all("volumes").iter().filter(is_bakes).map(|each| format!("volume {each}")));
        let images = all("images");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = |image: &Value| text(&image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]);
        let mut found = None;
        for snapshot in all("snapshots") {
            let id = text(&snapshot["SnapshotId"]);
            let user = images.iter().find(|image| of(image) == id);
            match user {
                _ if id == self.base_snapshot => {}
                Some(image) if snapshot["State"] == "completed" => {
                    if image["Name"] == name {
                        found = Some(PathBuf::from(text(&snapshot["File"])));
                    }
                }
                _ => left.push(format!("snapshot {snapshot}")),
            }
        }
        for image in &images {
            let provisional = text(&image["Name"]).starts_with("bake-");
            if provisional || !["available", "pending"].contains(&image["State"].as_str().unwrap()) {
                left.push(format!("image {image}"));
            }
        }
        found
    }

    fn local_stands(&self, name: &str, left: &mut Vec<String>) -> Option<PathBuf> {
        let store = self.store();
        let records = store.records().unwrap();
        for entry in fs::read_dir(self.path("store/disks")).unwrap().flatten() {
            let path = entry.path();
            if !records.iter().any(|record| store.disk_of(record) == path) {
                left.push(format!("disk {}", path.display()));
            }
        }
        let files = fs::read_dir(self.path("store/images")).unwrap().count();
        if files != records.len() {
            left.push(format!("{files} files for {} images", records.len()));
        }
        for record in &records {
            if !store.disk_of(record).is_file() {
                left.push(format!("image {} without its disk", record.id));
            }
        }
        records.iter().find(|record| record.name == name).map(|record| store.disk_of(record))
    }

    /// That the user's own disk is there, and nobody has it.
    fn given_stands(&self, left: &mut Vec<String>) {
        let Some(given) = &self.given else { return };
        let is_there = match &self.standin {
            Some(standin) => standin
                .find("volumes", "VolumeId", given)
                .is_some_and(|volume| volume["State"] == "available" && volume["Tags"].is_null()),
            None => fs::metadata(given).is_ok_and(|meta| meta.len() == 16 << 20),
        };
        if !is_there {
            left.push(format!("the user's {given} as it should not be"));
        }
    }
}
