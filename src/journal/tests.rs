use super::*;

fn begin(folder: &Path) -> Journal {
    Journal::begin(folder, &BakeId("bake-1".into()), "local", serde_json::json!({"name": "x"})).unwrap()
}

fn file(path: &str) -> Thing {
    Thing::StoreFile { path: path.into() }
}

#[test]
fn what_is_owned_comes_back_in_reverse_order() {
    let folder = tempfile::tempdir().unwrap();
    let journal = begin(folder.path());
    let first = journal.intend(file("/a")).unwrap();
    let second = journal.intend(file("/b")).unwrap();
    let third = journal.intend(file("/c")).unwrap();
    journal.made(first, "a").unwrap();
    journal.kept(third).unwrap();
    let owned: Vec<_> = journal.owned().into_iter().map(|entry| entry.number).collect();
    assert_eq!(owned, [second, first]);
    let text = std::fs::read_to_string(journal.path()).unwrap();
    assert_eq!(read(&text).unwrap().entries, journal.entries());
}

#[test]
fn a_torn_last_line_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let journal = begin(folder.path());
    journal.intend(file("/a")).unwrap();
    journal.intend(file("/b")).unwrap();
    let text = std::fs::read_to_string(journal.path()).unwrap();
    let torn = text.trim_end().strip_suffix('}').unwrap();
    assert_eq!(read(torn).unwrap().entries.len(), 1);
}

#[test]
fn a_live_bake_holds_its_lock_and_a_journal_that_owns_something_does_not_end() {
    let folder = tempfile::tempdir().unwrap();
    let journal = begin(folder.path());
    let path = journal.path().to_owned();
    assert!(lock(File::open(&path).unwrap(), &path).is_err());
    let number = journal.intend(file("/a")).unwrap();
    let error = journal.end().unwrap_err();
    assert!(error.to_string().contains("/a"), "{error}");
    assert!(path.exists(), "the journal of something still owned stays");
    assert!(lock(File::open(&path).unwrap(), &path).is_ok(), "the lock died with its holder");
    let _ = number;
}

#[test]
fn a_dead_bakes_journal_is_taken_up_once_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let journal = begin(folder.path());
    journal.intend(file("/a")).unwrap();
    let path = journal.path().to_owned();
    assert!(Journal::take_up(&path).unwrap().is_none(), "the bake lives");
    drop(journal);
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"line\":\"ma").unwrap();
    let (again, record) = Journal::take_up(&path).unwrap().unwrap();
    assert_eq!(record.entries.len(), 1);
    assert!(Journal::take_up(&path).unwrap().is_none(), "somebody else has it");
    again.gone(0).unwrap();
    assert_eq!(read(&std::fs::read_to_string(&path).unwrap()).unwrap().entries[0].standing, Standing::Gone);
    assert_eq!(Journal::all(folder.path()).unwrap(), [path]);
    again.end().unwrap();
    assert_eq!(Journal::all(folder.path()).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn a_bake_that_died_before_its_first_line_owns_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = begin(folder.path()).path().to_owned();
    for text in ["", "{\"line\":\"ba"] {
        std::fs::write(&path, text).unwrap();
        let record = Journal::look_at(&path).unwrap().unwrap();
        assert_eq!((record.bake.0.as_str(), record.owned()), ("bake-1", Vec::new()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "a look changes nothing");
    }
    Journal::take_up(&path).unwrap().unwrap().0.end().unwrap();
    assert!(!path.exists());
    assert!(Journal::look_at(&path).unwrap().is_none() && Journal::take_up(&path).unwrap().is_none());
}

#[test]
fn a_look_at_a_dead_bakes_journal_leaves_it_to_be_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let journal = begin(folder.path());
    journal.intend(file("/a")).unwrap();
    let path = journal.path().to_owned();
    assert!(Journal::look_at(&path).unwrap().is_none(), "the bake lives");
    drop(journal);
    assert_eq!(Journal::look_at(&path).unwrap().unwrap().owned().len(), 1);
    assert!(Journal::take_up(&path).unwrap().is_some());
}

#[test]
fn a_journal_that_owns_nothing_is_removed_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let journal = begin(folder.path());
    let number = journal.intend(file("/a")).unwrap();
    journal.gone(number).unwrap();
    let path = journal.path().to_owned();
    journal.end().unwrap();
    assert!(!path.exists());
}

/// A filesystem that is full tears a line; what comes once there is room again must be read, and so must the rest.
#[test]
fn a_line_that_found_no_room_leaves_nothing_of_itself() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let work = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let folder = tempfile::tempdir().unwrap();
        // Room for two pages: the journal's first, and the one that something else takes.
        mount(none, folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=8k")).unwrap();
        let journal = begin(folder.path());
        let other = folder.path().join("other");
        std::fs::write(&other, "x").unwrap();
        let mut numbers = 0;
        while journal.intend(file(&format!("/{}", "a".repeat(300)))).is_ok() {
            numbers += 1;
        }
        std::fs::remove_file(&other).unwrap();
        let after = journal.intend(file("/after")).unwrap();
        let record = read(&std::fs::read_to_string(journal.path()).unwrap()).unwrap();
        assert_eq!((after, record.entries), (numbers, journal.entries()));
        drop(journal);
        umount2(folder.path(), MntFlags::MNT_DETACH).unwrap();
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap();
}
