//! Maps the images of libc and ld.so over their text: the one moment at which the ways in open.
//!
//! What must stay true: nothing is mapped before everything was checked; the image belongs to the
//! user or root and nobody else may write it or its directory; the pointer page is filled before
//! the first jump can reach a stub. After a failure halfway the program's text is as it was.
//!
//! # Safety
//! The text of libc and ld.so is replaced by the same instructions with jumps in the windows that
//! the `sites` crate chose, while this thread is the only one.

use super::objects::{self, Object};
use super::{class, entry, format};
use crate::sys;
use core::sync::atomic::Ordering::Relaxed;

/// Why sites could not be patched, in words that name the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    NoObject,
    OldThreads,
    ThreadsExist,
    NoCache,
    Untrusted,
    NoImage,
    Damaged,
    Place,
    Refused,
}

impl Trouble {
    pub fn text(self) -> &'static str {
        match self {
            Self::NoObject => "the C library is not glibc, or carries no build-id",
            Self::OldThreads => "this glibc is older than 2.34",
            Self::ThreadsExist => "threads exist already: preload the library instead",
            Self::NoCache => "no cache of patched text: start programs by `sealfs run`",
            Self::Untrusted => "the cache of patched text belongs to, or can be written by, others",
            Self::NoImage => "no patched text for this libc: start programs by `sealfs run`",
            Self::Damaged => "the patched text is damaged: `sealfs doctor` tells more",
            Self::Place => "the place for stubs is taken",
            Self::Refused => "the system refuses to map patched text",
        }
    }
}

const PAGE_BYTES: usize = format::PAGE_BYTES as usize;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A descriptor that closes itself.
struct Fd(usize);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: ours, and closed once.
        let _ = unsafe { sys::syscall3(libc::SYS_close as usize, self.0, 0, 0) };
    }
}

/// Patches libc and ld.so from the images in the directory `cache` (a C string), for the user `uid`.
pub fn apply(cache: &core::ffi::CStr, uid: u32) -> Result<(), Trouble> {
    let found = objects::find();
    if found.old_threads {
        return Err(Trouble::OldThreads);
    }
    let [Some(libc), Some(loader)] = found.objects else {
        return Err(Trouble::NoObject);
    };
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let cache =
        open(libc::AT_FDCWD as usize, cache.as_ptr() as usize, flags).ok_or(Trouble::NoCache)?;
    trusted(&cache, uid)?;
    let first = Ready::new(&cache, &libc, uid)?;
    let second = Ready::new(&cache, &loader, uid)?;
    first.place()?;
    if let Err(trouble) = second.place() {
        first.remove();
        return Err(trouble);
    }
    second.switch()?;
    first.switch().inspect_err(|_| second.silence())
}

fn open(dir: usize, name: usize, flags: i32) -> Option<Fd> {
    // SAFETY: `name` is a C string of ours.
    let fd = unsafe { sys::syscall4(libc::SYS_openat as usize, dir, name, flags as usize, 0) };
    sys::check(fd).ok().map(Fd)
}

/// The size of what `fd` names, if nobody but the user and root can have written it.
fn trusted(fd: &Fd, uid: u32) -> Result<u64, Trouble> {
    let mut facts = core::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel fills the structure; zero is a valid one.
    let facts = unsafe {
        let asked = sys::syscall3(
            libc::SYS_fstat as usize,
            fd.0,
            facts.as_mut_ptr() as usize,
            0,
        );
        sys::check(asked).map_err(|_| Trouble::Untrusted)?;
        facts.assume_init()
    };
    let owned = facts.st_uid == uid || facts.st_uid == 0;
    if !owned || facts.st_mode & WRITABLE_BY_OTHERS != 0 {
        return Err(Trouble::Untrusted);
    }
    Ok(facts.st_size as u64)
}

/// An image that was checked against its object.
struct Ready {
    file: Fd,
    footer: format::Footer,
    base: usize,
}

impl Ready {
    fn new(cache: &Fd, object: &Object, uid: u32) -> Result<Self, Trouble> {
        let id = &object.build_id[..object.build_id_bytes];
        let mut name = [0; format::NAME_BYTES];
        format::file_name(id, &mut name);
        let file = open(
            cache.0,
            name.as_ptr() as usize,
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
        .ok_or(Trouble::NoImage)?;
        let bytes = trusted(&file, uid)?;
        let mut tail = [0; format::FOOTER_USED];
        let at = bytes
            .checked_sub(format::FOOTER_BYTES as u64)
            .ok_or(Trouble::Damaged)?;
        // SAFETY: the buffer is ours and that long.
        let read = unsafe {
            sys::syscall4(
                libc::SYS_pread64 as usize,
                file.0,
                tail.as_mut_ptr() as usize,
                tail.len(),
                at as usize,
            )
        };
        let footer = format::Footer::decode(&tail).ok_or(Trouble::Damaged)?;
        let text_pages = object.text_bytes.next_multiple_of(format::PAGE_BYTES);
        let fits = read == tail.len() as isize
            && footer.id() == id
            && footer.text_address == object.text_address
            && footer.text_bytes == text_pages
            && footer.text_offset + footer.text_bytes <= footer.stub_offset
            && footer.stub_offset + footer.stub_bytes == at;
        if !fits {
            return Err(Trouble::Damaged);
        }
        Ok(Self {
            file,
            footer,
            base: object.base,
        })
    }

    fn stubs(&self) -> usize {
        self.base
            .wrapping_add_signed(self.footer.stub_address as isize)
    }

    fn stub_bytes(&self) -> usize {
        self.footer.stub_bytes as usize
    }

    /// Maps stubs and pointer page, which nobody jumps to yet.
    fn place(&self) -> Result<(), Trouble> {
        let (at, bytes) = (self.stubs(), self.stub_bytes());
        let executable = libc::PROT_READ | libc::PROT_EXEC;
        let stubs = (self.file.0, self.footer.stub_offset);
        map_free(at, bytes, executable, libc::MAP_PRIVATE, stubs)?;
        let page = at + bytes;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        if let Err(trouble) = map_free(page, PAGE_BYTES, writable, flags, (usize::MAX, 0)) {
            unmap(at, bytes);
            return Err(trouble);
        }
        // SAFETY: the page is ours and writable; its layout is the format's.
        unsafe {
            let page = page as *mut u8;
            let classes = class::NUMBER_CLASS.as_ptr().cast::<u8>();
            core::ptr::copy_nonoverlapping(classes, page, format::CLASS_BYTES);
            let entry = entry::sealfs_entry as *const () as usize;
            page.add(format::ENTRY_AT)
                .copy_from_nonoverlapping(entry.to_ne_bytes().as_ptr(), 8);
            let map = class::FD_CLASS.as_ptr() as usize;
            page.add(format::FD_MAP_AT)
                .copy_from_nonoverlapping(map.to_ne_bytes().as_ptr(), 8);
        }
        Ok(())
    }

    fn remove(&self) {
        unmap(self.stubs(), self.stub_bytes() + PAGE_BYTES);
    }

    /// Makes every call through the stubs native.
    fn silence(&self) {
        let page = (self.stubs() + self.stub_bytes()) as *mut u8;
        // SAFETY: the pointer page is ours and writable.
        unsafe { core::ptr::write_bytes(page, class::Class::Native as u8, format::CLASS_BYTES) };
    }

    /// Replaces the text.
    fn switch(&self) -> Result<(), Trouble> {
        let at = self.base + self.footer.text_address as usize;
        let bytes = self.footer.text_bytes as usize;
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        let text = (self.file.0, self.footer.text_offset);
        let got = map(at, bytes, protection, flags, text);
        got.map(|_| ()).ok_or(Trouble::Refused)
    }
}

/// A descriptor and an offset in it.
type Source = (usize, u64);

fn map(at: usize, bytes: usize, protection: i32, flags: i32, from: Source) -> Option<usize> {
    let (number, fd, offset) = (libc::SYS_mmap as usize, from.0, from.1 as usize);
    // SAFETY: either the address is a wish, or it is the object's own text.
    let got = unsafe {
        sys::syscall6(
            number,
            at,
            bytes,
            protection as usize,
            flags as usize,
            fd,
            offset,
        )
    };
    sys::check(got).ok()
}

/// Maps at an address if that is free. (The address is a wish, checked afterwards: the flag that
/// would insist is unknown to older kernels and to valgrind.)
fn map_free(
    at: usize,
    bytes: usize,
    protection: i32,
    flags: i32,
    from: Source,
) -> Result<(), Trouble> {
    let got = map(at, bytes, protection, flags, from).ok_or(Trouble::Refused)?;
    if got != at {
        unmap(got, bytes);
        return Err(Trouble::Place);
    }
    Ok(())
}

/// Takes away what `map_free` made and nobody uses.
fn unmap(at: usize, bytes: usize) {
    // SAFETY: our own mapping.
    let _ = unsafe { sys::syscall3(libc::SYS_munmap as usize, at, bytes, 0) };
}

const _: () = {
    assert!(class::NUMBER_CLASSES == format::CLASS_BYTES);
    assert!(class::FD_CLASSES == format::FD_MAP_BYTES as usize);
};

/// Whether the process has only the thread that runs the constructor.
pub fn single_threaded() -> bool {
    unsafe extern "C" {
        /// glibc 2.32 and later: nonzero while no second thread was ever made.
        static __libc_single_threaded: core::sync::atomic::AtomicU8;
    }
    // SAFETY: libc's own byte, read only.
    unsafe { __libc_single_threaded.load(Relaxed) != 0 }
}
