//! A stream of bytes cut into lines.

/// Longer lines are cut.
const LONGEST: usize = 64 * 1024;

/// Cuts at `\n`, `\r\n` and `\r` (progress bars draw over themselves) and after [`LONGEST`] bytes. What is not
/// UTF-8 is replaced.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
    after_return: bool,
}

impl Lines {
    /// Takes more bytes; tells every line that is complete.
    pub(super) fn push(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        for &byte in bytes {
            match byte {
                // The second half of `\r\n`.
                b'\n' if self.after_return => {}
                b'\n' | b'\r' => self.end(line),
                _ => {
                    self.pending.push(byte);
                    if self.pending.len() >= LONGEST {
                        self.cut(line);
                    }
                }
            }
            self.after_return = byte == b'\r';
        }
    }

    /// The stream is at its end: tells what is left.
    pub(super) fn finish(&mut self, line: &mut dyn FnMut(&str)) {
        if !self.pending.is_empty() {
            self.end(line);
        }
    }

    fn end(&mut self, line: &mut dyn FnMut(&str)) {
        line(&String::from_utf8_lossy(&self.pending));
        self.pending.clear();
    }

    /// Tells as much of an over-long line as is whole characters.
    fn cut(&mut self, line: &mut dyn FnMut(&str)) {
        let whole = match std::str::from_utf8(&self.pending) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.pending.len(),
        };
        let rest = self.pending.split_off(whole);
        self.end(line);
        self.pending = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut told) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, &mut |line| told.push(line.to_owned()));
        }
        lines.finish(&mut |line| told.push(line.to_owned()));
        told
    }

    #[test]
    fn lines_end_as_unix_windows_and_progress_bars_end_them() {
        assert_eq!(cut(&[b"a\nb\r", b"\nc\rd\n\n", b"\r\ne"]), ["a", "b", "c", "d", "", "", "e"]);
        assert!(cut(&[b""]).is_empty());
    }

    #[test]
    fn a_character_across_chunks_stays_whole_and_a_broken_one_is_replaced() {
        assert_eq!(cut(&[b"\xc3", b"\xa4\n", b"\xff\n"]), ["ä", "\u{fffd}"]);
    }

    #[test]
    fn an_over_long_line_is_cut_between_characters() {
        let long = "ä".repeat(LONGEST) + "\n";
        let told = cut(&[b"x", long.as_bytes()]);
        assert!(told.iter().all(|line| line.len() <= LONGEST && !line.contains('\u{fffd}')));
        assert_eq!(told.concat(), format!("x{}", long.trim_end()));
        assert!(told.len() > 2);
    }
}
