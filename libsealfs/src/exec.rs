//! What exec needs to know about programs and environments, without asking anybody: the first
//! line of scripts, the head of ELF files, and which variables keep the library loaded.
//!
//! What must stay true: a variable that the program put into an environment keeps its value; what
//! was added is named in [`INJECTED`], so that the constructor of the next image takes it out.

/// Names what was added to the environment, as letters: see [`Added`].
pub const INJECTED: &[u8] = b"SEALFS_INJECTED";
/// The path below the mount that the program is started by.
pub const EXECUTABLE: &[u8] = b"SEALFS_EXECUTABLE";
/// Says to a supervisor's image that it is one: the library stays idle there.
pub const SUPERVISE: &[u8] = b"SEALFS_SUPERVISE";
/// Says that the process is under a supervisor.
pub const SUPERVISED: &[u8] = b"SEALFS_SUPERVISED";
pub const PRELOAD: &[u8] = b"LD_PRELOAD";
/// First line of a script that is looked at, as in the kernel (`BINPRM_BUF_SIZE`).
pub const HEAD_BYTES: usize = 256;

/// The interpreter of a script and its one argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shebang {
    pub interpreter: Vec<u8>,
    pub argument: Option<Vec<u8>>,
}

/// Reads `#!interpreter argument` as Linux does: the argument is the rest of the line, blanks
/// inside included. `None` if this is no script or its line names nothing.
pub fn shebang(head: &[u8]) -> Option<Shebang> {
    let line = head.strip_prefix(b"#!")?;
    let end = line.iter().position(|b| *b == b'\n');
    // A line that does not end within the head is cut; an interpreter cut short is none.
    let line = &line[..end.unwrap_or(line.len())];
    let line = line.trim_ascii();
    let split = line
        .iter()
        .position(|b| *b == b' ' || *b == b'\t' || *b == 0);
    let (interpreter, rest) = line.split_at(split.unwrap_or(line.len()));
    if interpreter.is_empty() || (split.is_none() && end.is_none()) {
        return None;
    }
    let argument = rest.trim_ascii();
    let stop = argument
        .iter()
        .position(|b| *b == 0)
        .unwrap_or(argument.len());
    let argument = (!argument[..stop].is_empty()).then(|| argument[..stop].to_vec());
    Some(Shebang {
        interpreter: interpreter.to_vec(),
        argument,
    })
}

/// What kind of program a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A 64-bit program or library of this machine.
    Elf,
    Script,
    /// Nothing the kernel runs: ENOEXEC.
    Other,
}

pub fn format(head: &[u8]) -> Format {
    const CLASS_64: u8 = 2;
    const MACHINE_X86_64: u8 = 62;
    if head.starts_with(b"#!") {
        return Format::Script;
    }
    let elf = head.starts_with(b"\x7fELF");
    if elf && head.get(4) == Some(&CLASS_64) && head.get(18) == Some(&MACHINE_X86_64) {
        return Format::Elf;
    }
    Format::Other
}

/// The dynamic linker by its usual names, whatever directory it stands in.
pub fn is_dynamic_linker(path: &[u8]) -> bool {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    name.starts_with(b"ld-linux") || name.starts_with(b"ld.so") || name.starts_with(b"ld-2.")
}

/// Which argument of the dynamic linker names the program: the first that is no option, counting
/// from 1. Options that take a value are those of ld.so(8).
pub fn linked_program(arguments: &[Vec<u8>]) -> Option<usize> {
    const WITH_VALUE: [&[u8]; 7] = [
        b"--library-path",
        b"--glibc-hwcaps-prepend",
        b"--glibc-hwcaps-mask",
        b"--inhibit-rpath",
        b"--audit",
        b"--preload",
        b"--argv0",
    ];
    let mut at = 1;
    while let Some(argument) = arguments.get(at) {
        if WITH_VALUE.contains(&&argument[..]) {
            at += 2;
        } else if argument.starts_with(b"--") {
            at += 1;
        } else {
            return Some(at);
        }
    }
    None
}

/// The value of `name` if `entry` is that variable.
pub fn value_of<'a>(entry: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    entry.strip_prefix(name)?.strip_prefix(b"=")
}

/// Whether a value of `LD_PRELOAD` names this library.
pub fn preloads(value: &[u8], library: &[u8]) -> bool {
    value
        .split(|b| *b == b':' || *b == b' ')
        .any(|path| path == library)
}

/// An environment with what keeps us loaded.
pub struct Environment {
    pub entries: Vec<Vec<u8>>,
    /// Something had to be added or changed.
    pub changed: bool,
}

/// Completes `given`: `own` are this process's own settings (`NAME=value`), `library` the path of
/// this library, `executable` the path that the new program is started by, if it is in the mount.
pub fn complete(
    given: Vec<Vec<u8>>,
    own: &[Vec<u8>],
    library: &[u8],
    executable: Option<&[u8]>,
) -> Environment {
    let is = |entry: &[u8], name: &[u8]| value_of(entry, name).is_some();
    let before = given.len();
    let mut entries: Vec<Vec<u8>> = given
        .into_iter()
        .filter(|e| !is(e, INJECTED) && !is(e, EXECUTABLE))
        .collect();
    let mut changed = entries.len() != before;
    let mut added: Vec<u8> = Vec::new();
    let preload = entries.iter_mut().find(|entry| is(entry, PRELOAD));
    match preload {
        Some(entry) if preloads(&entry[PRELOAD.len() + 1..], library) => {}
        Some(entry) => {
            // Last, so that the constructor can cut it off again.
            entry.push(b':');
            entry.extend_from_slice(library);
            push_name(&mut added, b"+LD_PRELOAD");
        }
        None => {
            entries.push([PRELOAD, b"=", library].concat());
            push_name(&mut added, PRELOAD);
        }
    }
    for setting in own {
        let name = setting.split(|b| *b == b'=').next().unwrap_or(setting);
        if !entries.iter().any(|entry| is(entry, name)) {
            entries.push(setting.clone());
            push_name(&mut added, name);
        }
    }
    if let Some(path) = executable {
        entries.push([EXECUTABLE, b"=", path].concat());
        push_name(&mut added, EXECUTABLE);
    }
    if !added.is_empty() {
        entries.push([INJECTED, b"=", &added].concat());
        changed = true;
    }
    Environment { entries, changed }
}

fn push_name(list: &mut Vec<u8>, name: &[u8]) {
    if !list.is_empty() {
        list.push(b',');
    }
    list.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        shebang(text).map(|s| (s.interpreter, s.argument))
    }

    #[test]
    fn the_rest_of_a_script_line_is_one_argument() {
        assert_eq!(line(b"#!/bin/sh\nx"), Some((b"/bin/sh".to_vec(), None)));
        let awk = line(b"#! /usr/bin/awk -f  \nBEGIN");
        assert_eq!(awk, Some((b"/usr/bin/awk".to_vec(), Some(b"-f".to_vec()))));
        let env = line(b"#!/usr/bin/env python3 -u\n");
        assert_eq!(
            env,
            Some((b"/usr/bin/env".to_vec(), Some(b"python3 -u".to_vec())))
        );
        assert_eq!(line(b"#!\n"), None);
        assert_eq!(line(b"\x7fELF"), None);
    }

    #[test]
    fn a_cleared_environment_gets_us_back_and_says_what_was_added() {
        let own = [b"SEALFS_MOUNT=/sealfs".to_vec()];
        let env = complete(vec![], &own, b"/l.so", None);
        assert!(env.changed);
        assert_eq!(env.entries[0], b"LD_PRELOAD=/l.so");
        assert_eq!(env.entries[2], b"SEALFS_INJECTED=LD_PRELOAD,SEALFS_MOUNT");
    }

    #[test]
    fn an_environment_that_keeps_us_is_left_alone() {
        let own = [b"SEALFS_MOUNT=/sealfs".to_vec()];
        let given = vec![
            b"LD_PRELOAD=/a.so:/l.so".to_vec(),
            b"SEALFS_MOUNT=/other".to_vec(),
        ];
        let env = complete(given.clone(), &own, b"/l.so", None);
        assert!(!env.changed);
        assert_eq!(env.entries, given);
    }

    #[test]
    fn another_preload_keeps_its_place_before_ours() {
        let env = complete(vec![b"LD_PRELOAD=/a.so".to_vec()], &[], b"/l.so", None);
        assert_eq!(env.entries[0], b"LD_PRELOAD=/a.so:/l.so");
        assert_eq!(env.entries[1], b"SEALFS_INJECTED=+LD_PRELOAD");
    }

    #[test]
    fn the_program_of_the_dynamic_linker_is_its_first_plain_argument() {
        let list = |words: &[&str]| {
            words
                .iter()
                .map(|w| w.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            linked_program(&list(&["ld.so", "--verify", "./v"])),
            Some(2)
        );
        assert_eq!(
            linked_program(&list(&["ld.so", "--library-path", "/x", "v"])),
            Some(3)
        );
        assert_eq!(linked_program(&list(&["ld.so", "--help"])), None);
    }
}
