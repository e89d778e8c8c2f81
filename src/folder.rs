//! Folders that are there for what is in them: whoever finds one empty may remove it.

use std::io::{self, ErrorKind};
use std::path::Path;

/// Makes a folder, and does what needs it. Where somebody removes the folder in between, as `gc` does with one that is
/// empty, it is made again, and `work` done again.
///
/// # Errors
/// What keeps the folder from being made; those of `work`.
pub fn with_folder<T>(folder: &Path, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    std::fs::create_dir_all(folder)?;
    match work() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(folder)?;
            work()
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_goes_meanwhile_is_made_again_and_once_is_enough() {
        let around = tempfile::tempdir().unwrap();
        let (folder, from) = (around.path().join("a/b"), around.path().join("new"));
        std::fs::write(&from, "x").unwrap();
        let mut removals = 0;
        let mut swept = |times: i32| {
            removals = 0;
            with_folder(&folder, || {
                removals += 1;
                if removals <= times {
                    std::fs::remove_dir(&folder)?;
                }
                std::fs::rename(&from, folder.join("file"))
            })
        };
        assert_eq!(swept(2).unwrap_err().kind(), ErrorKind::NotFound);
        swept(1).unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "x");
    }
}
