//! What is in a root: package inventory, hygiene, manifest, difference from the base. Does not know how it got there.
