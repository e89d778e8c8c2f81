//! The local store: disk images and their records in a folder.
