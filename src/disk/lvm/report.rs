//! What `lvs` and `pvs` report, as JSON. Pure.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// The fields of `lvs --segments` that are read, in bytes where they are sizes.
pub(super) const LVS_FIELDS: &str = "vg_name,vg_uuid,vg_missing_pv_count,vg_extent_size,vg_free_count,lv_name,lv_role,\
     segtype,seg_start,seg_size,devices";
/// The fields of `pvs` that are read.
pub(super) const PVS_FIELDS: &str = "pv_name,pe_start";

/// A volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) uuid: String,
    /// Physical volumes of it that are not among the devices that were asked about.
    pub(super) missing: u64,
    /// Extents that no logical volume has.
    pub(super) free: u64,
    pub(super) volumes: Vec<Volume>,
}

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) name: String,
    /// Bytes.
    pub(super) length: u64,
    /// Why it is more than ranges of physical volumes, where it is: `thin`, `a snapshot`.
    pub(super) odd: Option<String>,
    /// Its ranges, in order.
    pub(super) segments: Vec<Segment>,
}

/// A range of a logical volume; bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Where it begins in the volume.
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) device: PathBuf,
    /// Where it begins on the device.
    pub(super) offset: u64,
}

#[derive(Deserialize)]
struct Document<R> {
    report: Vec<R>,
}

#[derive(Deserialize)]
struct Segments {
    seg: Vec<ReportedSegment>,
}

#[derive(Deserialize)]
struct Physical {
    pv: Vec<ReportedPhysical>,
}

#[derive(Deserialize)]
struct ReportedSegment {
    vg_name: String,
    vg_uuid: String,
    vg_missing_pv_count: String,
    vg_extent_size: String,
    vg_free_count: String,
    lv_name: String,
    lv_role: String,
    segtype: String,
    seg_start: String,
    seg_size: String,
    devices: String,
}

#[derive(Deserialize)]
struct ReportedPhysical {
    pv_name: PathBuf,
    pe_start: String,
}

/// Reads the reports of both commands.
///
/// # Errors
/// They are not what lvm2 prints.
pub(super) fn parse(lvs: &str, pvs: &str) -> Result<Vec<Group>> {
    let physical: Document<Physical> = serde_json::from_str(pvs).context("reading what pvs printed")?;
    let starts = physical
        .report
        .into_iter()
        .flat_map(|report| report.pv)
        .map(|pv| Ok((pv.pv_name, number(&pv.pe_start)?)))
        .collect::<Result<Vec<_>>>()?;
    let logical: Document<Segments> = serde_json::from_str(lvs).context("reading what lvs printed")?;
    let mut groups: Vec<Group> = Vec::new();
    for found in logical.report.into_iter().flat_map(|report| report.seg) {
        let extent = number(&found.vg_extent_size)?;
        let group = match groups.iter_mut().position(|group| group.uuid == found.vg_uuid) {
            Some(at) => groups.get_mut(at),
            None => {
                groups.push(Group {
                    name: found.vg_name.clone(),
                    uuid: found.vg_uuid.clone(),
                    missing: number(&found.vg_missing_pv_count)?,
                    free: number(&found.vg_free_count)?,
                    volumes: Vec::new(),
                });
                groups.last_mut()
            }
        };
        let Some(group) = group else { continue };
        if group.volumes.last().is_none_or(|volume| volume.name != found.lv_name) {
            let odd = oddity(&found);
            group.volumes.push(Volume { name: found.lv_name.clone(), length: 0, odd, segments: Vec::new() });
        }
        let Some(volume) = group.volumes.last_mut() else { continue };
        let (start, length) = (number(&found.seg_start)?, number(&found.seg_size)?);
        volume.length = volume.length.max(start.saturating_add(length));
        if volume.odd.is_none() {
            let (device, at) = place(&found.devices)
                .with_context(|| format!("reading where {} of {} lies", found.lv_name, found.vg_name))?;
            let first = starts.iter().find(|(name, _)| name == device).map(|(_, start)| *start);
            let first = first.with_context(|| format!("pvs does not list {}", device.display()))?;
            let offset = at.checked_mul(extent).and_then(|offset| offset.checked_add(first));
            volume.segments.push(Segment {
                start,
                length,
                device: device.to_owned(),
                offset: offset.context("a segment lies too far behind to be true")?,
            });
        }
    }
    for volume in groups.iter_mut().flat_map(|group| &mut group.volumes) {
        volume.segments.sort_by_key(|segment| segment.start);
    }
    Ok(groups)
}

/// What a volume is besides linear and nobody else's.
fn oddity(found: &ReportedSegment) -> Option<String> {
    if found.segtype != "linear" {
        return Some(found.segtype.clone());
    }
    if found.lv_role != "public" {
        // An origin's blocks must not be written beneath its snapshots.
        return Some(found.lv_role.replace("public,", ""));
    }
    None
}

/// `/dev/sda2(34)`: the device, and the extent on it.
fn place(text: &str) -> Option<(&Path, u64)> {
    let (device, extent) = text.strip_suffix(')')?.rsplit_once('(')?;
    (!device.contains(',')).then_some(())?;
    Some((Path::new(device), extent.parse().ok()?))
}

fn number(text: &str) -> Result<u64> {
    text.trim().parse().with_context(|| format!("reading {text:?} as a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LVS: &str = include_str!("../fixtures/lvm-lvs.json");
    const PVS: &str = include_str!("../fixtures/lvm-pvs.json");

    #[test]
    fn volumes_and_their_ranges_are_read() {
        let groups = parse(LVS, PVS).unwrap();
        let [group] = groups.as_slice() else { panic!("{groups:?}") };
        assert_eq!((group.name.as_str(), group.missing, group.free), ("vg0", 0, 0));
        let [root, var] = group.volumes.as_slice() else { panic!("{group:?}") };
        assert_eq!((root.name.as_str(), root.odd.as_deref(), root.length), ("root", None, 188 << 20));
        let at = |segment: &Segment| (segment.start >> 20, segment.length >> 20, segment.offset >> 20);
        assert_eq!(root.segments.iter().map(at).collect::<Vec<_>>(), [(0, 96, 1), (96, 92, 129)]);
        assert_eq!(var.segments.iter().map(at).collect::<Vec<_>>(), [(0, 32, 97)]);
        assert_eq!(var.segments[0].device, Path::new("/dev/loop0p2"));
        let nothing = r#"{"report":[{"seg":[]}]}"#;
        assert_eq!(parse(nothing, PVS).unwrap(), []);
    }

    #[test]
    fn what_is_more_than_ranges_is_named() {
        let thin = LVS.replace("\"linear\"", "\"thin\"").replace("/dev/loop0p2(0)", "");
        assert_eq!(parse(&thin, PVS).unwrap()[0].volumes[0].odd.as_deref(), Some("thin"));
        let origin = LVS.replace("\"public\"", "\"public,origin,thickorigin\"");
        let groups = parse(&origin, PVS).unwrap();
        assert_eq!(groups[0].volumes[0].odd.as_deref(), Some("origin,thickorigin"));
        assert!(groups[0].volumes[0].segments.is_empty());
    }

    #[test]
    fn what_cannot_be_true_is_an_error() {
        assert!(parse(&LVS.replace("loop0p2(24)", "loop9p9(24)"), PVS).is_err());
        assert!(parse(&LVS.replace("(24)", "(18446744073709551615)"), PVS).is_err());
        assert!(parse("{}", PVS).is_err());
        assert!(parse(LVS, "Failed to find device").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer_or_an_error(text in "\\PC*") {
            let _result = parse(&text, PVS);
            let _result = parse(LVS, &text);
            let _place = place(&text);
        }
    }
}
