//! Builds the image of one object in memory: its file with the text patched, the stubs, the footer.

use crate::{
    SitesError,
    elf::Elf,
    format::{self, Footer},
    scan::Scan,
    stub::{self, Site},
    window::{self, JUMP_BYTES, Plan, Why},
};

/// Stubs begin on borders of this many bytes.
const STUB_ALIGN: usize = 16;
const BREAKPOINT: u8 = 0xcc;
const NOP: u8 = 0x90;

/// An image and what was found on the way.
#[derive(Debug)]
pub struct Image {
    pub bytes: Vec<u8>,
    pub footer: Footer,
    /// Sites that were left alone, by address, with the reason.
    pub left: Vec<(u64, Why)>,
}

/// Builds the image of the object in `file`.
pub fn build(file: &[u8]) -> Result<Image, SitesError> {
    let elf = Elf::parse(file)?;
    let id = elf.build_id().ok_or(SitesError::NoBuildId)?;
    let text = elf.text()?;
    let scan = Scan::of(&elf)?;
    let mut footer = Footer {
        build_id: [0; format::BUILD_ID_BYTES],
        build_id_bytes: id.len() as u32,
        text_address: text.address,
        text_offset: text.offset,
        text_bytes: text.memory_bytes.next_multiple_of(format::PAGE_BYTES),
        stub_address: text.address as i64 + format::STUB_DISTANCE,
        stub_offset: (elf.file().len() as u64).next_multiple_of(format::PAGE_BYTES),
        stub_bytes: 0,
        sites_found: 0,
        sites_before: 0,
        sites_carried: 0,
        sites_left: 0,
        content_crc: 0,
    };
    footer.build_id[..id.len()].copy_from_slice(id);
    let plans = plan_all(&scan);
    // The pointer page lies behind the stubs, whose size is only known when they are made; their
    // upper bound is, so the page gets its place first.
    footer.stub_bytes =
        ((plans.len().max(1) * STUB_BYTES_MAX) as u64).next_multiple_of(format::PAGE_BYTES);
    let mut bytes = file.to_vec();
    let (stubs, left) = make_stubs(&scan, &plans, &mut footer, &mut bytes)?;
    bytes.resize(footer.stub_offset as usize, 0);
    bytes.extend_from_slice(&stubs);
    bytes.resize(
        (footer.stub_offset + footer.stub_bytes) as usize,
        BREAKPOINT,
    );
    footer.content_crc = format::crc32c(0, &bytes);
    bytes.extend_from_slice(&footer.encode());
    bytes.resize(
        (footer.stub_offset + footer.stub_bytes) as usize + format::FOOTER_BYTES,
        0,
    );
    Ok(Image {
        bytes,
        footer,
        left,
    })
}

/// No stub is longer: two windows of moved code (each below 5 + 15 bytes, re-encoded with longer
/// jumps) and about a hundred bytes of its own.
const STUB_BYTES_MAX: usize = 192;

fn plan_all(scan: &Scan) -> Vec<(usize, Plan)> {
    let mut free_from = 0;
    let mut plans = Vec::new();
    for site in scan.syscalls() {
        let plan = window::plan(scan, site, free_from);
        free_from = match &plan {
            Plan::Before { .. } | Plan::Left(_) => scan.code[site].next_ip(),
            Plan::Carried { moved } => scan.code[moved.end - 1].next_ip(),
        };
        plans.push((site, plan));
    }
    plans
}

type Stubs = (Vec<u8>, Vec<(u64, Why)>);

fn make_stubs(
    scan: &Scan,
    plans: &[(usize, Plan)],
    footer: &mut Footer,
    bytes: &mut [u8],
) -> Result<Stubs, SitesError> {
    let page = (footer.stub_address as u64).wrapping_add(footer.stub_bytes);
    let (mut stubs, mut left) = (Vec::new(), Vec::new());
    for (index, plan) in plans {
        footer.sites_found += 1;
        let syscall = scan.code[*index].ip();
        let (moved, site) = match plan {
            Plan::Left(why) => {
                footer.sites_left += 1;
                left.push((syscall, *why));
                continue;
            }
            Plan::Before { moved } => {
                footer.sites_before += 1;
                let before = &scan.code[moved.clone()];
                (
                    moved,
                    Site {
                        before,
                        syscall,
                        carried: None,
                        resume: syscall,
                    },
                )
            }
            Plan::Carried { moved } => {
                footer.sites_carried += 1;
                let before = &scan.code[moved.start..*index];
                let behind = &scan.code[index + 1..moved.end];
                let resume = scan.code[moved.end - 1].next_ip();
                (
                    moved,
                    Site {
                        before,
                        syscall,
                        carried: Some(behind),
                        resume,
                    },
                )
            }
        };
        let window = scan.code[moved.start].ip()..scan.code[moved.end - 1].next_ip();
        let at = (footer.stub_address as u64).wrapping_add(stubs.len() as u64);
        let stub = stub::emit(&site, at, page)?;
        if stub.len() > STUB_BYTES_MAX {
            return Err(SitesError::Encode(
                "a stub is longer than foreseen".to_owned(),
            ));
        }
        stubs.extend_from_slice(&stub);
        stubs.resize(stubs.len().next_multiple_of(STUB_ALIGN), BREAKPOINT);
        patch(bytes, footer, window, at)?;
    }
    Ok((stubs, left))
}

/// Replaces the window in the text by a jump to the stub.
fn patch(
    bytes: &mut [u8],
    footer: &Footer,
    window: std::ops::Range<u64>,
    stub: u64,
) -> Result<(), SitesError> {
    let offset = (window.start - footer.text_address + footer.text_offset) as usize;
    let length = (window.end - window.start) as usize;
    let distance = stub.wrapping_sub(window.start + JUMP_BYTES) as i64;
    let distance = i32::try_from(distance).map_err(|_| SitesError::TooFar)?;
    let place = bytes
        .get_mut(offset..offset + length)
        .ok_or_else(|| SitesError::NotElf("the text is cut short".to_owned()))?;
    place.fill(NOP);
    place[0] = 0xe9;
    place[1..JUMP_BYTES as usize].copy_from_slice(&distance.to_le_bytes());
    Ok(())
}
