//! The store as a bake uses it, on real files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Barrier;

use super::*;
use crate::cloud::{Cloud as _, ImageSpec, SnapshotSpec};
use crate::error::{exit_status, kind_of};
use crate::journal::{Journal, Standing, Thing};
use crate::plan::{BakeId, BaseFacts, CleanlyClosed, DiskPlan, Locator, Shape};
use crate::recipe::{BaseSelector, Collision, DiskSpec};
use crate::stop::Stop;

const SIZE: u64 = 64 << 20;

fn new_image(name: &str) -> NewImage {
    NewImage {
        name: name.to_owned(),
        arch: Arch::X86_64,
        description: String::new(),
        tags: BTreeMap::new(),
        boot_mode: Some("bios".to_owned()),
        provenance: Provenance::new(Origin::Import, None),
    }
}

fn fill(path: &Path) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(b"the base's first bytes")?;
    file.write_all_at(b"and its last", SIZE - 100)?;
    Ok(file.set_len(SIZE)?)
}

fn store_with(name: &str) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    store.add(new_image(name), fill).unwrap();
    (folder, store)
}

fn journal(folder: &Path, name: &str) -> Journal {
    Journal::begin(folder, &BakeId(name.to_owned()), "local", serde_json::Value::Null).unwrap()
}

fn disk_plan(size: u64) -> DiskPlan {
    DiskPlan { size, spec: DiskSpec::default(), scratch: None, tags: BTreeMap::new(), token: "t".to_owned() }
}

fn image_spec(name: &str, size: u64) -> ImageSpec {
    ImageSpec {
        name: name.to_owned(),
        unnumbered: None,
        description: "d".to_owned(),
        tags: BTreeMap::from([("bakehouse:bake".to_owned(), "bake-1".to_owned())]),
        arch: Arch::X86_64,
        size,
        shape: Shape { root_device_name: "/dev/vda".to_owned(), ..Shape::default() },
        collision: Collision::Fail,
    }
}

fn snapshot_spec() -> SnapshotSpec {
    SnapshotSpec { description: String::new(), tags: BTreeMap::new() }
}

async fn base(store: &Store) -> BaseFacts {
    store.find_base(&BaseSelector::Image("base".to_owned())).await.unwrap()
}

fn disks(store: &Store) -> Vec<PathBuf> {
    std::fs::read_dir(store.disks_folder()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_bake_goes_from_base_to_image_and_its_journal_owns_nothing_in_the_end() {
    let (folder, store) = store_with("base");
    let (journal, stop) = (journal(folder.path(), "bake-1"), Stop::default());
    let base = base(&store).await;
    let disk = store.make_disk(&disk_plan(2 * SIZE), &base, &journal, &stop).await.unwrap();
    let Locator::File(path) = &disk.locator else { panic!("{disk:?}") };
    let metadata = std::fs::metadata(path).unwrap();
    assert_eq!(metadata.len(), 2 * SIZE);
    assert!(metadata.blocks() * 512 < SIZE / 4, "the copy is sparse: {} blocks", metadata.blocks());
    assert_eq!(metadata.mode() & 0o777, 0o600, "an image's content is its owner's alone");

    let snapshot = store
        .capture(&disk, CleanlyClosed::witnessed(), &snapshot_spec(), &journal, &Stop::default())
        .await
        .unwrap();
    store.release_disk(&disk, &journal).await.unwrap();
    store.snapshot_complete(&snapshot, &stop, &|_| {}).await.unwrap();
    let id = store.register(&snapshot, &image_spec("web", 2 * SIZE), &base, &journal, &stop).await.unwrap();
    assert_eq!(store.image_named("web").await.unwrap().as_deref(), Some(id.as_str()));

    let record = store.image("web").unwrap();
    assert_eq!((record.base, record.boot_mode), (base.image.clone(), Some("bios".to_owned())));
    assert_eq!(record.size, 2 * SIZE);
    let images: Vec<_> = store.images().await.unwrap().into_iter().map(|image| image.name).collect();
    assert_eq!(images, ["web", "base"]);
    assert_eq!(disks(&store).len(), 2, "base and image, and no disk of the bake");
    let kept = journal.entries().iter().filter(|entry| entry.standing == Standing::Kept).count();
    assert_eq!((kept, journal.owned().len()), (2, 0));
    journal.end().unwrap();
}

#[tokio::test]
async fn whatever_was_made_is_undone_from_the_journal_and_twice_is_no_error() {
    let (folder, store) = store_with("base");
    let (journal, stop) = (journal(folder.path(), "bake-1"), Stop::default());
    let base = base(&store).await;
    let first = store.make_disk(&disk_plan(SIZE), &base, &journal, &stop).await.unwrap();
    store
        .capture(&first, CleanlyClosed::witnessed(), &snapshot_spec(), &journal, &Stop::default())
        .await
        .unwrap();
    store.make_disk(&disk_plan(SIZE), &base, &journal, &stop).await.unwrap();
    assert_eq!(disks(&store).len(), 3);
    for _ in 0..2 {
        for entry in journal.owned() {
            store.undo(&entry.thing, entry.made.as_deref()).await.unwrap();
        }
    }
    assert_eq!(disks(&store).len(), 1);
    assert_eq!(store.images().await.unwrap().len(), 1);
}

#[tokio::test]
async fn undoing_touches_nothing_but_disks_and_records_of_this_store() {
    let (folder, store) = store_with("base");
    let precious = folder.path().join("precious.raw");
    std::fs::write(&precious, "x").unwrap();
    for path in
        [precious.clone(), store.disks_folder().join("../../precious.raw"), store.folder().join("lock")]
    {
        let error = store.undo(&Thing::StoreFile { path }, None).await.unwrap_err();
        assert!(error.to_string().contains("of the store"), "{error}");
    }
    assert!(precious.exists());
}

#[tokio::test]
async fn a_name_that_another_bake_took_meanwhile_fails_the_second_and_leaves_the_first() {
    let (folder, store) = store_with("base");
    let (journal, stop) = (journal(folder.path(), "bake-1"), Stop::default());
    let base = base(&store).await;
    let disk = store.make_disk(&disk_plan(SIZE), &base, &journal, &stop).await.unwrap();
    let snapshot = store
        .capture(&disk, CleanlyClosed::witnessed(), &snapshot_spec(), &journal, &Stop::default())
        .await
        .unwrap();
    let theirs = store.add(new_image("web"), fill).unwrap();
    let error =
        store.register(&snapshot, &image_spec("web", SIZE), &base, &journal, &stop).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Name);
    for entry in journal.owned() {
        store.undo(&entry.thing, entry.made.as_deref()).await.unwrap();
        journal.gone(entry.number).unwrap();
    }
    journal.end().unwrap();
    assert_eq!(store.image("web").unwrap().id, theirs.id);
    assert_eq!(disks(&store).len(), 2);
}

/// As a bake leaves them that was killed when its own record stood and the older one did not go yet.
#[tokio::test]
async fn all_images_of_a_name_are_replaced_and_one_stays_where_the_bake_dies_before_its_own_stands() {
    let (folder, store) = store_with("base");
    let oldest = store.add(new_image("web"), fill).unwrap();
    let mut newer = store.add(new_image("other"), fill).unwrap();
    newer.name = "web".to_owned();
    newer.created = "2999-01-01T00:00:00Z".to_owned();
    record::write(&store.record_file(&newer.id), &newer).unwrap();
    let (journal, stop) = (journal(folder.path(), "bake-1"), Stop::default());
    let base = base(&store).await;
    let disk = store.make_disk(&disk_plan(SIZE), &base, &journal, &stop).await.unwrap();
    let snapshot =
        store.capture(&disk, CleanlyClosed::witnessed(), &snapshot_spec(), &journal, &stop).await.unwrap();
    let spec =
        ImageSpec { collision: Collision::Replace { delete_snapshots: false }, ..image_spec("web", SIZE) };
    let id = store.register(&snapshot, &spec, &base, &journal, &stop).await.unwrap();
    let named = || -> Vec<String> {
        let records = store.records().unwrap().into_iter().filter(|record| record.name == "web");
        records.map(|record| record.id).collect()
    };
    assert_eq!(named().len(), 3, "nothing goes before the new one stands");
    let owned = journal.owned();
    // Without the new one, the newest of the old ones stays, and can be let go any time later.
    let own = store.image(&id).unwrap();
    std::fs::remove_file(store.record_file(&id)).unwrap();
    for entry in &owned {
        store.undo(&entry.thing, entry.made.as_deref()).await.unwrap();
    }
    assert_eq!(named(), std::slice::from_ref(&newer.id), "{} went", oldest.id);
    record::write(&store.record_file(&id), &own).unwrap();
    for entry in owned {
        store.undo(&entry.thing, entry.made.as_deref()).await.unwrap();
        journal.gone(entry.number).unwrap();
    }
    assert_eq!(named(), [id]);
    journal.end().unwrap();
}

#[test]
fn of_many_who_want_one_name_at_once_one_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let barrier = Barrier::new(8);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    store.add(new_image("web"), |path| {
                        fill(path)?;
                        // All have found the name free before any claims it.
                        barrier.wait();
                        Ok(())
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    assert!(lost.into_iter().all(|result| kind_of(&result.unwrap_err()) == Kind::Name));
    assert_eq!(store.records().unwrap().len(), 1);
    assert_eq!(disks(&store).len(), 1, "the losers' disks are gone");
}

#[tokio::test]
async fn a_stopped_copy_leaves_neither_a_disk_nor_a_debt() {
    let (folder, store) = store_with("base");
    let (journal, stop) = (journal(folder.path(), "bake-1"), Stop::default());
    let base = base(&store).await;
    stop.raise(2);
    match store.make_disk(&disk_plan(SIZE), &base, &journal, &stop).await {
        Err(error) => assert_eq!(exit_status(&error), 130),
        // Blocks were shared, which takes no time in which to stop.
        Ok(disk) => store.release_disk(&disk, &journal).await.unwrap(),
    }
    assert!(journal.owned().is_empty());
    assert_eq!(disks(&store).len(), 1);
}

#[tokio::test]
async fn a_base_without_its_disk_and_a_disk_that_is_too_small_are_told() {
    let (folder, store) = store_with("base");
    let (journal, stop) = (journal(folder.path(), "bake-1"), Stop::default());
    let facts = base(&store).await;
    let error = store.make_disk(&disk_plan(SIZE - 1), &facts, &journal, &stop).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Disk);
    assert!(journal.owned().is_empty());
    // Removed since the plan was made.
    std::fs::remove_file(store.disk_file(&facts.snapshot)).unwrap();
    let error = store.make_disk(&disk_plan(SIZE), &facts, &journal, &stop).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Base, "{error:#}");
    assert!(journal.owned().is_empty());
    let error = store.find_base(&BaseSelector::Image("base".to_owned())).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Base);
}

#[test]
fn what_a_killed_import_left_is_swept_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let dead = store.disk_file("snap-00000000000000001").with_extension("raw.unfinished");
    store
        .add(new_image("web"), |path| {
            std::fs::write(&dead, "half")?;
            assert_eq!(store.sweep()?, Vec::<PathBuf>::new(), "its maker may be about to lock it");
            let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
            File::options().write(true).open(&dead)?.set_modified(old)?;
            assert_eq!(store.sweep()?, std::slice::from_ref(&dead));
            assert!(path.exists());
            fill(path)
        })
        .unwrap();
    assert!(!dead.exists());
    assert_eq!(store.sweep().unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn a_failed_import_leaves_nothing_and_a_removed_image_takes_its_disk_along() {
    let (_folder, store) = store_with("base");
    store.add(new_image("web"), |_| bail!("the download broke")).unwrap_err();
    assert_eq!(kind_of(&store.add(new_image("base"), fill).unwrap_err()), Kind::Name);
    assert_eq!(kind_of(&store.add(new_image("a|b"), fill).unwrap_err()), Kind::Name);
    assert_eq!(disks(&store).len(), 1);
    store.remove("base").unwrap();
    assert_eq!((disks(&store).len(), store.records().unwrap().len()), (0, 0));
    assert_eq!(kind_of(&store.remove("base").unwrap_err()), Kind::Base);
}

#[test]
fn a_store_that_is_not_there_is_empty_and_reading_it_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("none")).unwrap();
    assert!(store.records().unwrap().is_empty() && store.sweep().unwrap().is_empty());
    assert!(!store.folder().exists());
}

#[tokio::test]
async fn a_disk_whose_record_cannot_be_read_is_nobodys_to_delete() {
    let (_folder, store) = store_with("base");
    let disk = store.disk_of(&store.image("base").unwrap());
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    File::options().write(true).open(&disk).unwrap().set_modified(old).unwrap();
    let record = store.record_file(&store.image("base").unwrap().id);
    std::fs::write(&record, "{\"format\": 2}").unwrap();
    assert_eq!(store.orphans(true).await.unwrap().len(), 0);
    std::fs::remove_file(&record).unwrap();
    assert_eq!(store.orphans(true).await.unwrap().len(), 1);
}
