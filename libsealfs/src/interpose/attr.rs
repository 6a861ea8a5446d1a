//! Changing attributes: chmod, chown, utime and their kin.
//!
//! What must stay true: one call is one change at the server, so that nobody sees half of it.

use super::at::{self, PathArg};
use super::stat::flagged;
use super::{Ctx, repeat, user};
use crate::process::{self, ClientRef};
use crate::route::{Answer, Bypass, Place, Target, done, theirs};
use sealfs_client::{At, Failure};
use sealfs_protocol::Errno;
use sealfs_protocol::attr::{SetAttr, SetTime, Time};

const NANOSECONDS_MAX: i64 = 999_999_999;

fn set(ctx: &mut Ctx<'_>, arg: PathArg, change: &SetAttr) -> Answer {
    at::run(ctx, arg, |client, place| {
        set_at(client, place, arg.follow, change)
    })
}

fn set_at(
    client: &ClientRef,
    place: &Place,
    follow: bool,
    change: &SetAttr,
) -> Result<usize, Failure> {
    let attr = client.setattr(place.at(), follow, change)?;
    repeat::set(attr.ino, change);
    Ok(0)
}

/// The same on the descriptor in argument 0; it needs no name.
fn set_open(ctx: &Ctx<'_>, change: impl FnOnce() -> Result<SetAttr, Errno>) -> Answer {
    let Some(base) = at::inode(ctx)? else {
        return theirs(Bypass::NativeDescriptor);
    };
    let at = At { base, path: b"" };
    let change = change()?;
    match process::client()?.setattr(at, true, &change) {
        Ok(_) => {
            repeat::set_by(ctx.fd(0), base, &change);
            done()
        }
        Err(Failure::Errno(errno)) => Err(errno),
        Err(Failure::Outside(_)) => Err(Errno::EIO),
    }
}

fn mode_change(mode: usize) -> SetAttr {
    SetAttr {
        mode: Some(mode as u32 & 0o7777),
        ..SetAttr::default()
    }
}

/// chmod(path, mode)
pub fn chmod(ctx: &mut Ctx<'_>) -> Answer {
    let change = mode_change(ctx.arg(1));
    set(ctx, PathArg::plain(0, true), &change)
}

/// fchmod(fd, mode)
pub fn fchmod(ctx: &mut Ctx<'_>) -> Answer {
    set_open(ctx, || Ok(mode_change(ctx.arg(1))))
}

/// fchmodat(dir, path, mode): the system call takes no flags
pub fn fchmodat(ctx: &mut Ctx<'_>) -> Answer {
    let arg = PathArg::at(ctx, 1, true);
    let change = mode_change(ctx.arg(2));
    set(ctx, arg, &change)
}

/// fchmodat2(dir, path, mode, flags)
pub fn fchmodat2(ctx: &mut Ctx<'_>) -> Answer {
    let flags = ctx.int(3);
    if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let arg = flagged(ctx, 1, flags);
    let change = mode_change(ctx.arg(2));
    at::run(ctx, arg, |client, place| {
        if !arg.follow && client.stat(place.at(), false)?.is_symlink() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        set_at(client, place, arg.follow, &change)
    })
}

fn owner_change(uid: usize, gid: usize) -> SetAttr {
    let id = |raw: usize| Some(raw as u32).filter(|id| *id != u32::MAX);
    SetAttr {
        uid: id(uid),
        gid: id(gid),
        is_chown: true,
        ..SetAttr::default()
    }
}

/// chown(path, uid, gid)
pub fn chown(ctx: &mut Ctx<'_>) -> Answer {
    let change = owner_change(ctx.arg(1), ctx.arg(2));
    set(ctx, PathArg::plain(0, true), &change)
}

/// lchown(path, uid, gid)
pub fn lchown(ctx: &mut Ctx<'_>) -> Answer {
    let change = owner_change(ctx.arg(1), ctx.arg(2));
    set(ctx, PathArg::plain(0, false), &change)
}

/// fchown(fd, uid, gid)
pub fn fchown(ctx: &mut Ctx<'_>) -> Answer {
    set_open(ctx, || Ok(owner_change(ctx.arg(1), ctx.arg(2))))
}

/// fchownat(dir, path, uid, gid, flags)
pub fn fchownat(ctx: &mut Ctx<'_>) -> Answer {
    let flags = ctx.int(4);
    if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let arg = flagged(ctx, 1, flags);
    let change = owner_change(ctx.arg(2), ctx.arg(3));
    set(ctx, arg, &change)
}

fn times_change(atime: Option<SetTime>, mtime: Option<SetTime>) -> SetAttr {
    SetAttr {
        atime,
        mtime,
        ..SetAttr::default()
    }
}

/// A time as utimensat(2) passes it.
fn time_of(time: libc::timespec) -> Result<Option<SetTime>, Errno> {
    match time.tv_nsec {
        libc::UTIME_NOW => Ok(Some(SetTime::Now)),
        libc::UTIME_OMIT => Ok(None),
        nanoseconds @ 0..=NANOSECONDS_MAX => {
            let nanoseconds = nanoseconds as u32;
            Ok(Some(SetTime::At(Time {
                seconds: time.tv_sec,
                nanoseconds,
            })))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The change that a pointer to two timespecs asks for; null means now.
fn times_at(pointer: usize) -> Result<SetAttr, Errno> {
    if pointer == 0 {
        return Ok(times_change(Some(SetTime::Now), Some(SetTime::Now)));
    }
    let [atime, mtime]: [libc::timespec; 2] = user::read(pointer)?;
    Ok(times_change(time_of(atime)?, time_of(mtime)?))
}

/// utimensat(dir, path, times, flags); a null path means the descriptor itself (futimens)
pub fn utimensat(ctx: &mut Ctx<'_>) -> Answer {
    let flags = ctx.int(3);
    if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    if ctx.arg(1) == 0 {
        return set_open(ctx, || times_at(ctx.arg(2)));
    }
    let arg = flagged(ctx, 1, flags);
    let target = at::locate(ctx, arg)?;
    if let Target::Theirs(why) = target {
        return theirs(why);
    }
    let change = times_at(ctx.arg(2))?;
    at::run_from(ctx, arg, target, &mut |client, place| {
        set_at(client, place, arg.follow, &change)
    })
}

/// The change that a pointer to two timevals asks for.
fn timevals_at(pointer: usize) -> Result<SetAttr, Errno> {
    if pointer == 0 {
        return times_at(0);
    }
    let times: [libc::timeval; 2] = user::read(pointer)?;
    let [atime, mtime] = times.map(|time| {
        let valid = (0..1_000_000).contains(&time.tv_usec);
        let tv_nsec = if valid { time.tv_usec * 1000 } else { -1 };
        time_of(libc::timespec {
            tv_sec: time.tv_sec,
            tv_nsec,
        })
    });
    Ok(times_change(atime?, mtime?))
}

/// utime(path, times)
pub fn utime(ctx: &mut Ctx<'_>) -> Answer {
    let pointer = ctx.arg(1);
    let change = if pointer == 0 {
        times_at(0)?
    } else {
        let seconds: [i64; 2] = user::read(pointer)?;
        let [atime, mtime] = seconds.map(|seconds| {
            Some(SetTime::At(Time {
                seconds,
                nanoseconds: 0,
            }))
        });
        times_change(atime, mtime)
    };
    set(ctx, PathArg::plain(0, true), &change)
}

/// utimes(path, times)
pub fn utimes(ctx: &mut Ctx<'_>) -> Answer {
    let change = timevals_at(ctx.arg(1))?;
    set(ctx, PathArg::plain(0, true), &change)
}

/// futimesat(dir, path, times); a null path means the descriptor itself
pub fn futimesat(ctx: &mut Ctx<'_>) -> Answer {
    let change = timevals_at(ctx.arg(2))?;
    if ctx.arg(1) == 0 {
        return set_open(ctx, || Ok(change));
    }
    let arg = PathArg::at(ctx, 1, true);
    set(ctx, arg, &change)
}
