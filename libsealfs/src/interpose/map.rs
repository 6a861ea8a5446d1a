//! mmap(2) of files of the volume, always backed by memory of a memfd.
//!
//! A private mapping gets a memfd of its own with the bytes as they are now. A shared one gets the
//! node's memfd of the file from the keeper, which writes changed bytes back: at msync and fsync,
//! when the last mapping goes, and after a process was killed. While a file is mapped shared on
//! this node, its reads go to that memory and its writes to the servers and to that memory.
//!
//! What must stay true: whoever reads a mapped file on this node sees the mapping's bytes; memory
//! ends where the file ends, so that an access behind it is SIGBUS as the kernel gives it.
//!
//! # Safety
//! Mappings made here for filling are ours until they are unmapped; the program's are made by its
//! own call with another descriptor.

use super::Ctx;
use super::filled::memory_with;
use super::user::Spans;
use crate::credentials;
use crate::fds::{self, Fd, Open};
use crate::kernel::{self, AT_FDCWD, CPath};
use crate::patch::call::Call;
use crate::process;
use crate::route::{Answer, Bypass, Outcome, done, theirs};
use crate::subject;
use crate::sync::{Mutex, RawMutex};
use sealfs_client::FileRef;
use sealfs_client::node::keeper_link::{self, MappedFile};
use sealfs_client::node::mapped::FileKey;
use sealfs_protocol::{Errno, InodeId};

const PAGE_BYTES: usize = 4096;

/// A shared mapping of this process.
struct Mapping {
    start: usize,
    end: usize,
    key: FileKey,
    file: FileRef,
}

static MAPPINGS: Mutex<Vec<Mapping>> =
    Mutex::const_new(<RawMutex as lock_api::RawMutex>::INIT, Vec::new());

fn key_of(open: &Open) -> FileKey {
    FileKey {
        manager: open.slot.manager(),
        volume: open.slot.volume(),
        ino: open.ino(),
    }
}

/// The node's memory of a file that is mapped shared.
pub struct Memory {
    key: FileKey,
    file: FileRef,
    mapped: MappedFile,
}

impl Drop for Memory {
    fn drop(&mut self) {
        kernel::close(self.mapped.bytes_fd as u32);
        kernel::close(self.mapped.pristine_fd as u32);
    }
}

/// The memory of the file if it is mapped shared on this node.
pub fn memory_of(open: &Open) -> Result<Option<Memory>, Errno> {
    let node = process::node()?;
    let key = key_of(open);
    if node.arena.mapped(key).is_none() {
        return Ok(None);
    }
    fetch(open, key).map(Some)
}

fn fetch(open: &Open, key: FileKey) -> Result<Memory, Errno> {
    let node = process::node()?;
    let file = open.file();
    let _owner = credentials::as_owner(node.runtime);
    process::need_keeper(node);
    let mapped = keeper_link::map(node.runtime, key, file.open, process::deadline_ms())?;
    Ok(Memory { key, file, mapped })
}

impl Memory {
    pub fn size(&self) -> u64 {
        let known = process::known_arena().and_then(|arena| arena.mapped_size(self.mapped.id));
        known.unwrap_or(self.mapped.size_bytes)
    }

    pub fn read(&self, offset: u64, spans: &mut Spans) -> Result<usize, Errno> {
        let left = self.size().saturating_sub(offset);
        spans.cut(usize::try_from(left).unwrap_or(usize::MAX));
        if spans.total() == 0 {
            return Ok(0);
        }
        kernel::preadv(self.mapped.bytes_fd as u32, &spans.raw(), offset)
    }

    /// Writes to the servers first, then to both copies: what they have is what the servers have.
    pub fn write(&self, offset: u64, spans: &mut Spans) -> Result<usize, Errno> {
        let count = process::client()?.write(self.file, offset, &spans.sources())?;
        spans.cut(count);
        let raw = spans.raw();
        for fd in [self.mapped.bytes_fd, self.mapped.pristine_fd] {
            kernel::pwritev(fd as u32, &raw, offset)?;
        }
        let end = offset + count as u64;
        if end > self.size() {
            self.tell_size(end)?;
        }
        Ok(count)
    }

    fn tell_size(&self, size: u64) -> Result<(), Errno> {
        let runtime = process::runtime()?;
        keeper_link::resized(runtime, self.key, size, process::deadline_ms())
    }
}

/// What mappings of the file changed goes to the servers.
pub fn write_back(open: &Open) -> Result<(), Errno> {
    let node = process::node()?;
    let key = key_of(open);
    if node.arena.mapped(key).is_none() {
        return Ok(());
    }
    let _owner = credentials::as_owner(node.runtime);
    keeper_link::write_back(node.runtime, key, process::deadline_ms())
}

/// The file has another size by a truncate of ours.
pub fn resized(ino: InodeId, size: u64) -> Result<(), Errno> {
    let Some(arena) = process::known_arena() else {
        return Ok(());
    };
    let template = process::template()?;
    let key = FileKey {
        manager: template.manager,
        volume: template.volume,
        ino,
    };
    if arena.mapped(key).is_none() {
        return Ok(());
    }
    keeper_link::resized(process::runtime()?, key, size, process::deadline_ms())
}

/// A range was punched, zeroed or allocated at the servers, and the size may be another.
pub fn changed_behind(
    open: &Open,
    (offset, len): (u64, u64),
    zeroed: bool,
    size: u64,
) -> Result<(), Errno> {
    let Some(memory) = memory_of(open)? else {
        return Ok(());
    };
    if zeroed {
        for fd in [memory.mapped.bytes_fd, memory.mapped.pristine_fd] {
            kernel::punch_hole(fd as u32, offset, len)?;
        }
    }
    if size != memory.size() {
        memory.tell_size(size)?;
    }
    Ok(())
}

/// mmap(address, bytes, protection, flags, fd, offset)
pub fn mmap(ctx: &mut Ctx<'_>) -> Answer {
    let flags = ctx.int(3);
    if flags & libc::MAP_ANONYMOUS != 0 {
        return theirs(Bypass::KernelsPart);
    }
    let open = match fds::of(ctx, 4)? {
        Fd::Ours(open) => open,
        Fd::Internal => return Err(Errno::EBADF),
        Fd::Above | Fd::Listing | Fd::Theirs => return theirs(Bypass::NativeDescriptor),
    };
    open.usable()?;
    let (len, offset) = (ctx.arg(1), ctx.arg(5) as u64);
    if len == 0 || !offset.is_multiple_of(PAGE_BYTES as u64) {
        return Err(Errno::EINVAL);
    }
    let shared = match flags & libc::MAP_TYPE {
        libc::MAP_SHARED | libc::MAP_SHARED_VALIDATE => true,
        libc::MAP_PRIVATE => false,
        _ => return Err(Errno::EINVAL),
    };
    let writes = ctx.int(2) & libc::PROT_WRITE != 0;
    if !open.can_read() || (shared && writes && !open.can_write()) {
        return Err(Errno::EACCES);
    }
    if !open.is_regular() {
        return Err(Errno::ENODEV);
    }
    if shared {
        map_shared(ctx, &open)
    } else {
        map_private(ctx, &open, offset, len)
    }
}

fn map_private(ctx: &mut Ctx<'_>, open: &Open, offset: u64, len: usize) -> Answer {
    write_back(open)?;
    let client = process::client()?;
    let size = client.stat_open(open.file())?.size_bytes;
    let want = size
        .saturating_sub(offset)
        .min(len.next_multiple_of(PAGE_BYTES) as u64);
    let memory = memory_with(&client, open.file(), offset, want)?;
    let said = map_descriptor(ctx, memory, 0);
    kernel::close(memory);
    Ok(Outcome::Ours(said))
}

/// The program's call with another descriptor and offset.
fn map_descriptor(ctx: &Ctx<'_>, memory: u32, offset: u64) -> isize {
    let mut call: Call = *ctx.call;
    call.args[5] = offset as usize;
    subject::native_with(&call, 4, memory)
}

fn map_shared(ctx: &mut Ctx<'_>, open: &Open) -> Answer {
    let key = key_of(open);
    let memory = fetch(open, key)?;
    let bytes = memory.mapped.bytes_fd as u32;
    let offset = ctx.arg(5) as u64;
    let said = if open.can_write() {
        map_descriptor(ctx, bytes, offset)
    } else {
        // Through a descriptor that cannot write, so that mprotect(2) is refused later on.
        let path = CPath::new(format!("/proc/self/fd/{bytes}").as_bytes());
        let reader = kernel::open_at(AT_FDCWD, &path, libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
        let said = map_descriptor(ctx, reader, offset);
        kernel::close(reader);
        said
    };
    drop(memory);
    if !(-4095..0).contains(&said) {
        let start = said as usize;
        let end = start + ctx.arg(1).next_multiple_of(PAGE_BYTES);
        MAPPINGS.lock().push(Mapping {
            start,
            end,
            key,
            file: open.file(),
        });
    }
    Ok(Outcome::Ours(said))
}

/// munmap(address, bytes)
pub fn munmap(ctx: &mut Ctx<'_>) -> Answer {
    let (start, end) = (ctx.arg(0), ctx.arg(0).saturating_add(ctx.arg(1)));
    if !touches(start, end) {
        return theirs(Bypass::KernelsPart);
    }
    let said = ctx.native();
    if said == 0 {
        forget(start, end.next_multiple_of(PAGE_BYTES));
    }
    Ok(Outcome::Ours(said))
}

fn touches(start: usize, end: usize) -> bool {
    MAPPINGS
        .lock()
        .iter()
        .any(|m| m.start < end && start < m.end)
}

/// Takes a range out of what is noted, and tells the keeper of files that may be mapped no more.
fn forget(start: usize, end: usize) {
    let mut gone = Vec::new();
    {
        let mut mappings = MAPPINGS.lock();
        let mut split = Vec::new();
        mappings.retain_mut(|m| {
            if m.end <= start || end <= m.start {
                return true;
            }
            if !gone.contains(&m.key) {
                gone.push(m.key);
            }
            if m.start < start && end < m.end {
                split.push(Mapping {
                    start: end,
                    end: m.end,
                    key: m.key,
                    file: m.file,
                });
            }
            if m.start < start {
                m.end = start;
                return true;
            }
            m.start = end.min(m.end);
            m.start < m.end
        });
        mappings.extend(split);
    }
    if let Ok(runtime) = process::runtime() {
        for key in gone {
            keeper_link::unmapped(runtime, key);
        }
    }
}

/// mremap(address, old bytes, new bytes, flags, new address)
pub fn mremap(ctx: &mut Ctx<'_>) -> Answer {
    let (old, old_len, new_len) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let found = MAPPINGS
        .lock()
        .iter()
        .find(|m| m.start <= old && old < m.end)
        .map(|m| (m.key, m.file));
    let Some((key, file)) = found else {
        return theirs(Bypass::KernelsPart);
    };
    let said = ctx.native();
    if !(-4095..0).contains(&said) {
        let start = said as usize;
        let end = start + new_len.next_multiple_of(PAGE_BYTES);
        let mut mappings = MAPPINGS.lock();
        let old_end = old + old_len.next_multiple_of(PAGE_BYTES);
        mappings.retain(|m| !(m.key == key && old <= m.start && m.end <= old_end));
        mappings.push(Mapping {
            start,
            end,
            key,
            file,
        });
    }
    Ok(Outcome::Ours(said))
}

/// msync(address, bytes, flags)
pub fn msync(ctx: &mut Ctx<'_>) -> Answer {
    let (start, end) = (ctx.arg(0), ctx.arg(0).saturating_add(ctx.arg(1)));
    let mut files: Vec<(FileKey, FileRef)> = Vec::new();
    for m in MAPPINGS
        .lock()
        .iter()
        .filter(|m| m.start < end && start < m.end)
    {
        if !files.iter().any(|(key, _)| *key == m.key) {
            files.push((m.key, m.file));
        }
    }
    if files.is_empty() {
        return theirs(Bypass::KernelsPart);
    }
    // The kernel checks address and flags; the memory itself needs no writing.
    let said = ctx.native();
    if said < 0 {
        return Ok(Outcome::Ours(said));
    }
    let runtime = process::runtime()?;
    for (key, file) in files {
        keeper_link::write_back(runtime, key, process::deadline_ms())?;
        if ctx.int(2) & libc::MS_SYNC != 0 {
            process::client()?.fsync(file, true)?;
        }
    }
    done()
}
