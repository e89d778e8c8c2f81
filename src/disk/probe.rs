//! What a device or partition holds, told by its signatures (`blkid -p`), never by a cache.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::tool::Tool;

/// What a device or partition holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// blkid's name of it: `ext4`, `xfs`, `crypto_LUKS`, `LVM2_member`, `swap`.
    pub kind: Option<String>,
    /// The filesystem's label.
    pub label: Option<String>,
    /// The filesystem's UUID, as blkid writes it.
    pub uuid: Option<String>,
    /// The partition table's type, `gpt` or `dos`, where it holds one.
    pub table: Option<String>,
    /// It carries the signatures of more than one thing, so that none of them can be trusted.
    pub ambivalent: bool,
}

/// Looks at a device or partition.
pub(super) fn probe(node: &Path) -> Result<Content> {
    let done = Tool::new("blkid").args(["-p", "-o", "export"]).arg(node).run()?;
    match done.code() {
        Some(0) => Ok(parse(&done.stdout())),
        // blkid(8): 2 is "nothing known found", 8 "ambivalent".
        Some(2) => Ok(Content::default()),
        Some(8) => Ok(Content { ambivalent: true, ..Content::default() }),
        _ => Err(done.failure()).with_context(|| format!("looking at what {} holds", node.display())),
    }
}

/// Reads the output of `blkid -p -o export`.
pub fn parse(text: &str) -> Content {
    let mut content = Content::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let slot = match key {
            "TYPE" => &mut content.kind,
            "LABEL" => &mut content.label,
            "UUID" => &mut content.uuid,
            "PTTYPE" => &mut content.table,
            _ => continue,
        };
        *slot = Some(unescape(value));
    }
    content
}

/// Takes away the backslashes that the export format puts before characters a shell would mind.
fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        plain.push(if c == '\\' { characters.next().unwrap_or(c) } else { c });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_blkid_prints() {
        let xfs = parse(
            "DEVNAME=x.img\nLABEL=root\nUUID=22d3a5ca-d73e-4429-8a89-d26bf365f256\nBLOCK_SIZE=512\nTYPE=xfs\nUSAGE=filesystem\n",
        );
        assert_eq!(xfs.kind.as_deref(), Some("xfs"));
        assert_eq!(xfs.label.as_deref(), Some("root"));
        assert_eq!(xfs.uuid.as_deref(), Some("22d3a5ca-d73e-4429-8a89-d26bf365f256"));
        let odd = parse("DEVNAME=e.img\nLABEL=cloud\\ img\\\"x\nVERSION=1.0\nTYPE=ext4\nUSAGE=filesystem\n");
        assert_eq!(odd.label.as_deref(), Some("cloud img\"x"));
        let disk = parse("DEVNAME=a.img\nPTUUID=3f086094-2f31-304b-a6a4-f41f61a97d47\nPTTYPE=gpt\n");
        assert_eq!((disk.kind, disk.table.as_deref()), (None, Some("gpt")));
        let lvm = parse("UUID=abcdef-0123\nVERSION=LVM2\\ 001\nTYPE=LVM2_member\nUSAGE=raid\n");
        assert_eq!(lvm.kind.as_deref(), Some("LVM2_member"));
        let luks = parse("DEVNAME=luks.img\nVERSION=2\nTYPE=crypto_LUKS\nUSAGE=crypto\n");
        assert_eq!(luks.kind.as_deref(), Some("crypto_LUKS"));
        let empty = parse(
            "DEVNAME=/dev/loop0p14\nPART_ENTRY_SCHEME=gpt\nPART_ENTRY_NUMBER=14\nPART_ENTRY_SIZE=8192\n",
        );
        assert_eq!(empty, Content::default());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC*") {
            let _content = parse(&text);
        }

        #[test]
        fn escaping_is_undone(label in "[ -~]{0,16}") {
            let escaped: String = label.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert_eq!(unescape(&escaped), label);
        }
    }
}
