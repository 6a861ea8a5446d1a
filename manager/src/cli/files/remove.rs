//! `sealfs rm` and `sealfs mkdir`.

use super::remote::{Remote, join};
use super::{Links, Where, for_each};
use crate::cli::Fail;
use crate::cli::volume::parse_mode;
use clap::Args;
use std::ffi::OsString;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs rm /sealfs/a
  sealfs rm -r home:/old-project")]
pub struct Rm {
    /// Files, as /sealfs/… or VOLUME:/…
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Remove directories with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Do not complain about files that do not exist
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    place: Where,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs mkdir /sealfs/project
  sealfs mkdir -p -m 750 home:/a/b/c")]
pub struct Mkdir {
    /// Directories, as /sealfs/… or VOLUME:/…
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Make parents as needed; a directory that exists is good
    #[arg(short, long)]
    parents: bool,
    /// Permissions in octal [default: 777 less the umask]
    #[arg(short, long, value_parser = parse_mode)]
    mode: Option<u32>,
    #[command(flatten)]
    place: Where,
}

pub fn rm(args: &Rm) -> u8 {
    let mut links = Links::default();
    for_each(&args.paths, |typed| {
        let (remote, path) = args.place.connect(typed, &mut links)?;
        match remote.try_stat(&path, false)? {
            None if args.force => Ok(()),
            // The removal tells.
            None => remote.unlink(&path),
            Some(attr) if !attr.is_dir() => remote.unlink(&path),
            Some(_) if !args.recursive => Err(format!(
                "{}: is a directory: say -r to remove it",
                remote.show(&path)
            )
            .into()),
            Some(_) if path.is_empty() => remove_contents(&remote, &path),
            Some(_) => {
                remove_contents(&remote, &path)?;
                remote.remove_dir(&path)
            }
        }
    })
}

/// Removes what is in a directory, deepest first. Goes down by a list, not by recursion: a tree may
/// be deeper than a stack.
fn remove_contents(remote: &Remote, top: &[u8]) -> Result<(), Fail> {
    let mut dirs = Vec::new();
    let mut unseen = vec![top.to_vec()];
    while let Some(dir) = unseen.pop() {
        for (entry, attr) in remote.read_dir(&dir)? {
            let path = join(&dir, &entry.name);
            if attr.is_dir() {
                unseen.push(path);
            } else {
                remote.unlink(&path)?;
            }
        }
        if dir != top {
            dirs.push(dir);
        }
    }
    dirs.iter().rev().try_for_each(|dir| remote.remove_dir(dir))
}

pub fn mkdir(args: &Mkdir) -> u8 {
    let mut links = Links::default();
    let umask = super::tree::umask();
    let mode = args.mode.unwrap_or(0o777 & !umask);
    for_each(&args.paths, |typed| {
        let (remote, path) = args.place.connect(typed, &mut links)?;
        if !args.parents {
            return remote.make_dir(&path, mode);
        }
        let slashes = path
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(i, _)| i);
        for end in slashes.chain([path.len()]) {
            let part = &path[..end];
            let is_last = end == path.len();
            if part.is_empty() {
                continue;
            }
            match remote.try_stat(part, true)? {
                Some(attr) if attr.is_dir() => {}
                // Parents must be passable by their maker, as mkdir(1) has it.
                None => remote.make_dir(
                    part,
                    if is_last {
                        mode
                    } else {
                        0o777 & !umask | 0o300
                    },
                )?,
                Some(_) => {
                    return Err(format!("{}: exists and is no directory", remote.show(part)).into());
                }
            }
        }
        Ok(())
    })
}
