//! Progress, timeline, logs, result documents. Does not know how anything is done.
