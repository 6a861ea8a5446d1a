//! `sealfs ls` and `sealfs stat`.

use super::remote::{Remote, join};
use super::{Links, Where, for_each};
use crate::cli::{Fail, print, print_json};
use clap::Args;
use sealfs_protocol::attr::{
    Attr, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFSOCK, Time,
};
use serde::Serialize;
use std::ffi::OsString;
use std::time::{Duration, SystemTime};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs ls /sealfs
  sealfs ls -l home:/project
  sealfs ls --json /sealfs/data")]
pub struct Ls {
    /// Files and directories, as /sealfs/… or VOLUME:/…
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Show type, permissions, links, owner, group, size and time
    #[arg(short = 'l')]
    long: bool,
    /// Show names that start with a dot
    #[arg(short, long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs stat /sealfs/a
  sealfs stat --json home:/project/a")]
pub struct Stat {
    /// Files, as /sealfs/… or VOLUME:/…
    #[arg(required = true)]
    paths: Vec<OsString>,
    /// Follow a symbolic link
    #[arg(short = 'L', long)]
    dereference: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

#[derive(Serialize)]
struct Facts {
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    inode: u64,
    mode: String,
    links: u32,
    uid: u32,
    gid: u32,
    size_bytes: u64,
    blocks_512: u64,
    modified: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

pub fn ls(args: &Ls) -> Result<u8, Fail> {
    let mut links = Links::default();
    let mut facts = Vec::new();
    let many = args.paths.len() > 1;
    let code = for_each(&args.paths, |typed| {
        let (remote, path) = args.place.connect(typed, &mut links)?;
        let attr = remote.stat(&path, !args.long || path.ends_with(b"/"))?;
        let mut found = Vec::new();
        if attr.is_dir() {
            for (entry, attr) in remote.read_dir(&path)? {
                if args.all || !entry.name.starts_with(b".") {
                    let name = String::from_utf8_lossy(&entry.name).into_owned();
                    found.push(describe(&remote, &join(&path, &entry.name), name, &attr)?);
                }
            }
        } else {
            found.push(describe(
                &remote,
                &path,
                typed.to_string_lossy().into_owned(),
                &attr,
            )?);
        }
        if args.json {
            facts.append(&mut found);
            return Ok(());
        }
        if many && attr.is_dir() {
            print(&format!("{}:\n", typed.display()))?;
        }
        print(
            &found
                .iter()
                .map(|f| {
                    if args.long {
                        long(f)
                    } else {
                        f.path.clone() + "\n"
                    }
                })
                .collect::<String>(),
        )
    });
    if args.json {
        print_json(&facts)?;
    }
    Ok(code)
}

pub fn stat(args: &Stat) -> Result<u8, Fail> {
    let mut links = Links::default();
    let mut facts = Vec::new();
    let code = for_each(&args.paths, |typed| {
        let (remote, path) = args.place.connect(typed, &mut links)?;
        let attr = remote.stat(&path, args.dereference)?;
        let found = describe(&remote, &path, typed.to_string_lossy().into_owned(), &attr)?;
        if args.json {
            facts.push(found);
            return Ok(());
        }
        print(&paragraph(&found))
    });
    if args.json {
        print_json(&facts)?;
    }
    Ok(code)
}

fn describe(remote: &Remote, path: &[u8], name: String, attr: &Attr) -> Result<Facts, Fail> {
    let target = if attr.is_symlink() {
        Some(String::from_utf8_lossy(&remote.read_link(path)?).into_owned())
    } else {
        None
    };
    Ok(Facts {
        path: name,
        kind: kind(attr.mode),
        inode: attr.ino.0,
        mode: format!("{:04o}", attr.mode & 0o7777),
        links: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        size_bytes: attr.size_bytes,
        blocks_512: attr.blocks_512,
        modified: time(attr.mtime),
        target,
    })
}

/// The type of a file in words.
fn kind(mode: u32) -> &'static str {
    match mode & S_IFMT {
        S_IFDIR => "directory",
        S_IFLNK => "symbolic link",
        S_IFIFO => "pipe",
        S_IFSOCK => "socket",
        S_IFCHR => "character device",
        S_IFBLK => "block device",
        _ => "file",
    }
}

fn time(t: Time) -> String {
    let seconds = u64::try_from(t.seconds).unwrap_or(0);
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, t.nanoseconds));
    // humantime shows years up to 9999.
    let shown = at.filter(|_| seconds < 253_402_300_800);
    shown.map_or_else(
        || t.seconds.to_string(),
        |at| humantime::format_rfc3339_seconds(at).to_string(),
    )
}

fn permissions(facts: &Facts) -> String {
    let bits = u32::from_str_radix(&facts.mode, 8).unwrap_or(0);
    let mut text: Vec<char> = "rwxrwxrwx".chars().collect();
    for (i, c) in text.iter_mut().enumerate() {
        if bits & (0o400 >> i) == 0 {
            *c = '-';
        }
    }
    for (bit, at, letters) in [(0o4000, 2, "sS"), (0o2000, 5, "sS"), (0o1000, 8, "tT")] {
        if bits & bit != 0 {
            let executable = text[at] == 'x';
            text[at] = letters.chars().nth(usize::from(!executable)).unwrap_or('s');
        }
    }
    text.into_iter().collect()
}

fn long(facts: &Facts) -> String {
    let letter = match facts.kind {
        "file" => '-',
        "symbolic link" => 'l',
        other => other.chars().next().unwrap_or('?'),
    };
    let arrow = facts
        .target
        .as_ref()
        .map_or(String::new(), |t| format!(" -> {t}"));
    format!(
        "{letter}{} {:>4} {:>6} {:>6} {:>12} {} {}{arrow}\n",
        permissions(facts),
        facts.links,
        facts.uid,
        facts.gid,
        facts.size_bytes,
        facts.modified,
        facts.path
    )
}

fn paragraph(facts: &Facts) -> String {
    let arrow = facts
        .target
        .as_ref()
        .map_or(String::new(), |t| format!(" -> {t}"));
    format!(
        "{}{arrow}\n  {}, inode {}, {} links\n  mode {}, uid {}, gid {}\n  {} bytes in {} blocks of 512\n  modified {}\n",
        facts.path,
        facts.kind,
        facts.inode,
        facts.links,
        facts.mode,
        facts.uid,
        facts.gid,
        facts.size_bytes,
        facts.blocks_512,
        facts.modified
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_shown_as_ls_shows_them() {
        let facts = |mode: &str| Facts {
            path: String::new(),
            kind: "file",
            inode: 0,
            mode: mode.into(),
            links: 1,
            uid: 0,
            gid: 0,
            size_bytes: 0,
            blocks_512: 0,
            modified: String::new(),
            target: None,
        };
        let shown = ["0755", "4755", "2644", "1777"].map(|m| permissions(&facts(m)));
        assert_eq!(shown, ["rwxr-xr-x", "rwsr-xr-x", "rw-r-Sr--", "rwxrwxrwt"]);
    }
}
