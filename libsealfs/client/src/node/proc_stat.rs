//! What `/proc/PID/stat` (proc(5)) says of a process: whether it is dead, and when it started.

use super::sys;
use rustix::fs::OFlags;

/// Numbers of fields, as proc(5) counts them.
const STATE_FIELD: usize = 3;
const START_FIELD: usize = 22;

pub struct Stat {
    /// In clock ticks since boot.
    pub start: u64,
    pub is_dead: bool,
}

/// Of the process that has `pid`. The command in parentheses may hold anything, so fields count from
/// the last `)`.
pub fn stat_of(pid: u32) -> Option<Stat> {
    let mut path = [0u8; 32];
    let mut at = 0;
    for part in [b"/proc/".as_slice(), Decimal::new(pid).as_bytes(), b"/stat"] {
        path[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    let file = sys::open(&path[..at], OFlags::RDONLY | OFlags::CLOEXEC, 0).ok()?;
    let mut bytes = [0u8; 512];
    let len = sys::read_all(file.raw(), &mut bytes).ok()?;
    parse_stat(&bytes[..len])
}

fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let after = bytes.iter().rposition(|b| *b == b')')? + 1;
    let mut fields = bytes[after..]
        .split(u8::is_ascii_whitespace)
        .filter(|f| !f.is_empty());
    let state = *fields.next()?.first()?;
    let start = core::str::from_utf8(fields.nth(START_FIELD - STATE_FIELD - 1)?).ok()?;
    let start = start.parse().ok()?;
    Some(Stat {
        start,
        is_dead: matches!(state, b'Z' | b'X' | b'x'),
    })
}

/// Whether somebody has this pid.
pub fn exists(pid: u32) -> bool {
    rustix::process::Pid::from_raw(pid as i32)
        .is_some_and(|p| rustix::process::test_kill_process(p) != Err(rustix::io::Errno::SRCH))
}

struct Decimal {
    digits: [u8; 10],
    from: usize,
}

impl Decimal {
    fn new(mut n: u32) -> Decimal {
        let mut digits = [b'0'; 10];
        let mut from = digits.len();
        loop {
            from -= 1;
            digits[from] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return Decimal { digits, from };
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.digits[self.from..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let line = b"77 (a) b) R) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987 20\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.start, stat.is_dead), (987, false));
    }
}
