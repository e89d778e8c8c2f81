//! A plan's steps, run through the sandbox. Knows nothing of disks or clouds.
