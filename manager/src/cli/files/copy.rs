//! `sealfs cp`: between local directories and volumes, in both directions.

use super::remote::{BUFFER_BYTES, join};
use super::tree::{Meta, Tree, umask};
use super::{Links, Typed, Where};
use crate::cli::Fail;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs cp results.csv /sealfs/results.csv
  sealfs cp -r ./project home:/backup/
  sealfs cp -r -p /sealfs/data /tmp/data")]
pub struct Cp {
    /// What to copy, then where to; sealfs paths as /sealfs/… or VOLUME:/…
    #[arg(required = true, num_args = 2.., value_names = ["SOURCE", "DEST"])]
    paths: Vec<OsString>,
    /// Copy directories with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Keep permissions and times
    #[arg(short, long)]
    preserve: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    place: Where,
}

/// A path with the tree it belongs to.
struct Spot {
    tree: Tree,
    path: Vec<u8>,
}

impl Spot {
    fn show(&self) -> String {
        self.tree.show(&self.path)
    }
}

pub fn cp(args: &Cp) -> Result<u8, Fail> {
    let mut links = Links::default();
    let Some((dest, sources)) = args.paths.split_last() else {
        return Err("nothing to copy".into());
    };
    let dest = spot(&args.place, dest, &mut links)?;
    let dest_is_dir = dest
        .tree
        .meta(&dest.path, true)?
        .is_some_and(|m| m.is_dir());
    if sources.len() > 1 && !dest_is_dir {
        return Err(format!("{}: several files need a directory to go to", dest.show()).into());
    }
    let mut code = 0;
    for source in sources {
        let outcome = spot(&args.place, source, &mut links).and_then(|source| {
            let mut target = dest.path.clone();
            if dest_is_dir {
                target = join(&target, name_of(&source)?);
            }
            copy_one(args, &source, &dest.tree, &target)
        });
        if let Err(fail) = outcome {
            eprintln!("sealfs: {}", fail.text);
            code = code.max(fail.code);
        }
    }
    Ok(code)
}

fn spot(place: &Where, typed: &OsStr, links: &mut Links) -> Result<Spot, Fail> {
    Ok(match place.understand(typed) {
        Typed::Local(path) => Spot {
            tree: Tree::Local,
            path: path.as_bytes().to_vec(),
        },
        Typed::Volume(volume, path) => Spot {
            tree: Tree::Volume(links.get(place, volume)?),
            path,
        },
    })
}

/// The name under which a source goes into a directory.
fn name_of(source: &Spot) -> Result<&[u8], Fail> {
    let end = source
        .path
        .iter()
        .rposition(|b| *b != b'/')
        .map_or(0, |at| at + 1);
    let name = source.path[..end]
        .rsplit(|b| *b == b'/')
        .next()
        .unwrap_or_default();
    if matches!(name, b"" | b"." | b"..") {
        return Err(format!("{}: has no name to go by: name the target", source.show()).into());
    }
    Ok(name)
}

/// One file to copy: path below source and target, and what it is.
struct Item {
    below: Vec<u8>,
    meta: Meta,
}

fn copy_one(args: &Cp, source: &Spot, tree: &Tree, target: &[u8]) -> Result<(), Fail> {
    let missing = || Fail::from(format!("{}: No such file or directory", source.show()));
    // Without -r a link stands for its file, as with cp(1).
    let meta = source
        .tree
        .meta(&source.path, !args.recursive)?
        .ok_or_else(missing)?;
    if meta.is_dir() && !args.recursive {
        return Err(format!("{}: is a directory: say -r to copy it", source.show()).into());
    }
    let same_kind = matches!((&source.tree, tree), (Tree::Local, Tree::Local))
        || matches!((&source.tree, tree), (Tree::Volume(a), Tree::Volume(b)) if a.show(b"") == b.show(b""));
    if same_kind {
        let there = tree.meta(target, true)?;
        let inside = meta.is_dir() && is_inside(&source.path, target);
        if there.is_some_and(|t| t.identity == meta.identity) || inside {
            return Err(format!("{}: would be copied into itself", source.show()).into());
        }
    }
    let items = plan(source, meta)?;
    let total = items
        .iter()
        .filter(|i| i.meta.is_file())
        .map(|i| i.meta.size_bytes)
        .sum();
    let bar = progress(args, total);
    let outcome = items
        .iter()
        .try_for_each(|item| copy_item(args, source, tree, target, item, &bar));
    bar.finish_and_clear();
    outcome?;
    if args.preserve {
        // Directories last and deepest first: what is written into them changes their times.
        for item in items.iter().rev().filter(|i| i.meta.is_dir()) {
            tree.preserve(&below(target, &item.below), &item.meta)?;
        }
    }
    Ok(())
}

/// Whether `path` is `dir` or lies below it, by their names.
fn is_inside(dir: &[u8], path: &[u8]) -> bool {
    let trimmed = dir.strip_suffix(b"/").unwrap_or(dir);
    path.strip_prefix(trimmed)
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// The path of an item below `top`; the top itself has none.
fn below(top: &[u8], item: &[u8]) -> Vec<u8> {
    if item.is_empty() {
        top.to_vec()
    } else {
        join(top, item)
    }
}

/// All files to copy, each directory before what is in it.
fn plan(source: &Spot, meta: Meta) -> Result<Vec<Item>, Fail> {
    let mut items = vec![Item {
        below: Vec::new(),
        meta,
    }];
    let mut next = 0;
    while next < items.len() {
        if items[next].meta.is_dir() {
            let dir = items[next].below.clone();
            for (name, meta) in source.tree.children(&below(&source.path, &dir))? {
                items.push(Item {
                    below: join(&dir, &name),
                    meta,
                });
            }
        }
        next += 1;
    }
    Ok(items)
}

fn copy_item(
    args: &Cp,
    source: &Spot,
    tree: &Tree,
    target: &[u8],
    item: &Item,
    bar: &ProgressBar,
) -> Result<(), Fail> {
    let from = below(&source.path, &item.below);
    let to = below(target, &item.below);
    let mode = item.meta.mode & 0o777 & !umask();
    if item.meta.is_dir() {
        return match tree.meta(&to, true)? {
            Some(there) if there.is_dir() => Ok(()),
            // Its maker has to write into it whatever the original allows.
            _ => tree.make_dir(&to, mode | 0o700),
        };
    }
    if item.meta.is_symlink() {
        return tree.symlink(&to, &source.tree.read_link(&from)?);
    }
    if !item.meta.is_file() {
        return Err(format!(
            "{}: is neither a file, directory nor link",
            source.tree.show(&from)
        )
        .into());
    }
    bar.set_message(source.tree.show(&from));
    let mut reader = source.tree.reader(&from)?;
    let mut writer = tree.writer(&to, mode)?;
    let mut buffer = vec![0; BUFFER_BYTES.min(item.meta.size_bytes as usize + 1)];
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        writer.write_all(&buffer[..n])?;
        bar.inc(n as u64);
    }
    drop(writer);
    if args.preserve {
        tree.preserve(&to, &item.meta)
    } else {
        Ok(())
    }
}

/// Drawn on standard error, and only if that is a terminal.
fn progress(args: &Cp, total_bytes: u64) -> ProgressBar {
    if args.quiet {
        return ProgressBar::hidden();
    }
    let style = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total_bytes).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_goes_into_a_directory_under_its_last_name() {
        let spot = |path: &str| Spot {
            tree: Tree::Local,
            path: path.as_bytes().to_vec(),
        };
        assert_eq!(name_of(&spot("/a/b//")).unwrap(), b"b");
        assert_eq!(name_of(&spot("x")).unwrap(), b"x");
        for nameless in ["/", "..", "a/.", ""] {
            assert!(name_of(&spot(nameless)).is_err(), "{nameless}");
        }
    }

    #[test]
    fn a_directory_is_not_copied_into_itself() {
        assert!(is_inside(b"a/b", b"a/b/c"));
        assert!(is_inside(b"a/b/", b"a/b"));
        assert!(!is_inside(b"a/b", b"a/bc"));
    }
}
