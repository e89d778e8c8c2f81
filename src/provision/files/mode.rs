//! Permission bits: octal, or symbolic as chmod(1) takes them.

use anyhow::{Result, bail};

/// A parsed mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// For files as it stands. Folders get execute permission wherever it gives permission to read.
    Octal(u32),
    /// Clauses, applied in turn to the source's mode.
    Symbolic(Vec<Clause>),
}

/// `u+rwX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clause {
    /// The bits of those who are meant: 0o4700 for the user, 0o2070, 0o1007.
    who: u32,
    /// `+`, `-` or `=`.
    operator: char,
    /// `r`, `w`, `x` for all (0o777), `s` (0o6000), `t` (0o1000).
    bits: u32,
    /// `X`: execute for folders, and for files that anyone may execute.
    conditional_execute: bool,
    /// `u`, `g` or `o` to copy from, as the number of bits to shift by.
    copied: Option<u32>,
}

/// Parses `0644` or `u=rwX,go=rX`. Unlike chmod's, a clause without `u`, `g`, `o` or `a` knows no umask.
pub(super) fn parse(text: &str) -> Result<Mode> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match u32::from_str_radix(text, 8) {
            Ok(bits) if bits <= 0o7777 => Ok(Mode::Octal(bits)),
            _ => bail!("{text:?} is not an octal mode between 0 and 7777"),
        };
    }
    let mut clauses = Vec::new();
    for part in text.split(',') {
        parse_part(part, &mut clauses)
            .ok_or_else(|| anyhow::anyhow!("{text:?} is not a mode like 0644 or u=rwX,go=rX"))?;
    }
    Ok(Mode::Symbolic(clauses))
}

fn parse_part(part: &str, clauses: &mut Vec<Clause>) -> Option<()> {
    let mut characters = part.chars().peekable();
    let mut who = 0;
    while let Some(bits) = characters.peek().and_then(|letter| who_bits(*letter)) {
        who |= bits;
        characters.next();
    }
    if who == 0 {
        who = 0o7777;
    }
    characters.peek()?;
    while let Some(operator) = characters.next() {
        if !matches!(operator, '+' | '-' | '=') {
            return None;
        }
        let mut clause = Clause { who, operator, bits: 0, conditional_execute: false, copied: None };
        while let Some(letter) = characters.next_if(|letter| !matches!(letter, '+' | '-' | '=')) {
            match letter {
                'r' => clause.bits |= 0o444,
                'w' => clause.bits |= 0o222,
                'x' => clause.bits |= 0o111,
                'X' => clause.conditional_execute = true,
                's' => clause.bits |= 0o6000,
                't' => clause.bits |= 0o1000,
                'u' if clause.is_bare() => clause.copied = Some(6),
                'g' if clause.is_bare() => clause.copied = Some(3),
                'o' if clause.is_bare() => clause.copied = Some(0),
                _ => return None,
            }
            if clause.copied.is_some() && (clause.bits != 0 || clause.conditional_execute) {
                return None;
            }
        }
        clauses.push(clause);
    }
    Some(())
}

fn who_bits(letter: char) -> Option<u32> {
    match letter {
        'u' => Some(0o4700),
        'g' => Some(0o2070),
        'o' => Some(0o1007),
        'a' => Some(0o7777),
        _ => None,
    }
}

impl Clause {
    fn is_bare(self) -> bool {
        self.bits == 0 && !self.conditional_execute && self.copied.is_none()
    }

    fn apply(self, mode: u32, folder: bool) -> u32 {
        let mut bits = self.bits;
        if self.conditional_execute && (folder || mode & 0o111 != 0) {
            bits |= 0o111;
        }
        if let Some(shift) = self.copied {
            bits = ((mode >> shift) & 0o7) * 0o111;
        }
        bits &= self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !(self.who & 0o7777)) | bits,
        }
    }
}

impl Mode {
    /// The bits of something whose source has the mode `current`.
    pub(super) fn apply(&self, current: u32, folder: bool) -> u32 {
        match self {
            Self::Octal(bits) if folder => bits | ((bits & 0o444) >> 2),
            Self::Octal(bits) => *bits,
            Self::Symbolic(clauses) => {
                clauses.iter().fold(current, |mode, clause| clause.apply(mode, folder))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(mode: &str, current: u32, folder: bool) -> u32 {
        parse(mode).unwrap().apply(current, folder)
    }

    #[test]
    fn modes_are_applied_as_chmod_does() {
        assert_eq!(apply("0640", 0o777, false), 0o640);
        assert_eq!(apply("0640", 0o777, true), 0o750);
        assert_eq!(apply("4755", 0o644, false), 0o4755);
        assert_eq!(apply("u=rwX,go=rX", 0o600, false), 0o644);
        assert_eq!(apply("u=rwX,go=rX", 0o700, false), 0o755);
        assert_eq!(apply("u=rwX,go=rX", 0o600, true), 0o755);
        assert_eq!(apply("a-x+X", 0o755, false), 0o644);
        assert_eq!(apply("g=u,o=", 0o754, false), 0o770);
        assert_eq!(apply("u+s", 0o755, false), 0o4755);
        assert_eq!(apply("g+s,+t", 0o755, true), 0o3755);
        assert_eq!(apply("+x", 0o644, false), 0o755);
        assert_eq!(apply("go-rwx", 0o777, false), 0o700);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "888", "77777", "u", "u=q", "rwx", "u=rg", "u=rw,", "=,", "é=r", "u=gr"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed(text in "[ugoa+=,rwxXst0-9-]{0,12}", current in 0u32..0o10000, folder: bool) {
            if let Ok(mode) = parse(&text) {
                prop_assert!(mode.apply(current, folder) <= 0o7777);
            }
        }

        #[test]
        fn octal_modes_are_themselves(bits in 0u32..0o10000) {
            prop_assert_eq!(parse(&format!("{bits:04o}")).unwrap().apply(0, false), bits);
        }
    }
}
