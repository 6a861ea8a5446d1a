//! `sealfs chunk-size`: how a directory's new files are cut.

use super::{Links, Where};
use crate::cli::volume::parse_chunk_size;
use crate::cli::{Fail, print};
use clap::Args;
use sealfs_protocol::attr::SetAttr;
use std::ffi::OsString;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs chunk-size /sealfs/movies
  sealfs chunk-size /sealfs/movies 16M
  sealfs chunk-size home:/mail 64K

Files that exist keep their size; directories made in it get the same.")]
pub struct ChunkSize {
    /// Directory, as /sealfs/… or VOLUME:/…; without BYTES a file as well
    path: OsString,
    /// Size to set, a power of two from 64K to 64M
    #[arg(value_name = "BYTES", value_parser = parse_chunk_size)]
    size: Option<u8>,
    #[command(flatten)]
    place: Where,
}

pub fn chunk_size(args: &ChunkSize) -> Result<u8, Fail> {
    let mut links = Links::default();
    let (remote, path) = args.place.connect(&args.path, &mut links)?;
    if args.size.is_some() {
        let set = SetAttr {
            chunk_size_log2: args.size,
            ..SetAttr::default()
        };
        remote.set_attr(&path, &set)?;
    } else {
        let attr = remote.stat(&path, true)?;
        print(&format!("{}\n", attr.layout.chunk_size_bytes()))?;
    }
    Ok(0)
}
