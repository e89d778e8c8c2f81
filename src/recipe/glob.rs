//! Globs of names.

/// `*` stands for any characters, `?` for one: what EC2's filters know, and nothing more.
pub fn matches_glob(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // Where to go on when what follows the last star does not match: one character further.
    let mut retry = None;
    while in_name < name.len() {
        match glob.get(at) {
            Some('*') => {
                retry = Some((at + 1, in_name));
                at += 1;
            }
            Some(c) if *c == '?' || Some(c) == name.get(in_name) => {
                at += 1;
                in_name += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                (at, in_name) = (star, from + 1);
            }
        }
    }
    glob.iter().skip(at).all(|c| *c == '*')
}
