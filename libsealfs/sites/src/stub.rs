//! One stub: the instructions that stood in the window, then the question whether the call is
//! native, then the way back or the way in.
//!
//! What must stay true: before it is known that the call is not native only rcx, r11 and the flags
//! change, which the `syscall` instruction destroys anyway, and no stack is used. `entry` in the
//! library is called with rsp 128 bytes further down (past the red zone) and, in rcx, the address
//! behind the `syscall`; it returns r11 = 1 for an answered call (in rax) and r11 = 0 for a native
//! one (rax and the arguments as it left them).

use crate::{SitesError, format};
use iced_x86::{BlockEncoder, BlockEncoderOptions, Instruction, InstructionBlock};

/// What a stub needs to know of its site.
pub struct Site<'a> {
    /// Instructions before the `syscall`, which move.
    pub before: &'a [Instruction],
    /// Address of the `syscall`.
    pub syscall: u64,
    /// The moved instructions behind the `syscall` when it is carried along.
    pub carried: Option<&'a [Instruction]>,
    /// Where the text goes on behind the window of a carried `syscall`.
    pub resume: u64,
}

/// A jump whose distance is not known yet.
struct Fix(usize);

struct Emitter {
    bytes: Vec<u8>,
    base: u64,
}

impl Emitter {
    fn here(&self) -> u64 {
        self.base.wrapping_add(self.bytes.len() as u64)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// An instruction that ends in a 32-bit distance to `target`.
    fn to(&mut self, opcode: &[u8], target: u64) -> Result<(), SitesError> {
        self.put(opcode);
        let distance = target.wrapping_sub(self.here().wrapping_add(4)) as i64;
        let distance = i32::try_from(distance).map_err(|_| SitesError::TooFar)?;
        self.put(&distance.to_le_bytes());
        Ok(())
    }

    /// A jump forward, to be landed later.
    fn forward(&mut self, opcode: &[u8]) -> Fix {
        self.put(opcode);
        self.put(&[0; 4]);
        Fix(self.bytes.len())
    }

    fn land(&mut self, fix: &Fix) {
        let distance = (self.bytes.len() - fix.0) as u32;
        self.bytes[fix.0 - 4..fix.0].copy_from_slice(&distance.to_le_bytes());
    }

    fn moved(&mut self, instructions: &[Instruction]) -> Result<(), SitesError> {
        if instructions.is_empty() {
            return Ok(());
        }
        let block = InstructionBlock::new(instructions, self.here());
        let encoded = BlockEncoder::encode(64, block, BlockEncoderOptions::NONE)
            .map_err(|error| SitesError::Encode(error.to_string()))?;
        self.put(&encoded.code_buffer);
        Ok(())
    }
}

const JMP: &[u8] = &[0xe9];
const JA: &[u8] = &[0x0f, 0x87];
const JE: &[u8] = &[0x0f, 0x84];
const JNE: &[u8] = &[0x0f, 0x85];
const SYSCALL: &[u8] = &[0x0f, 0x05];
const SYSCALL_BYTES: u64 = 2;

/// The code of one stub that will stand at `at`, with the pointer page at `page`.
pub fn emit(site: &Site<'_>, at: u64, page: u64) -> Result<Vec<u8>, SitesError> {
    let behind = site.syscall + SYSCALL_BYTES;
    let mut out = Emitter {
        bytes: Vec::with_capacity(128),
        base: at,
    };
    out.moved(site.before)?;
    let (native_jumps, slow_jumps) = question(&mut out, page)?;
    for jump in &native_jumps {
        out.land(jump);
    }
    let native = out.here();
    let answered = if let Some(carried) = site.carried {
        out.put(SYSCALL);
        let answered = out.here();
        out.moved(carried)?;
        out.to(JMP, site.resume)?;
        answered
    } else {
        out.to(JMP, site.syscall)?;
        behind
    };
    for jump in &slow_jumps {
        out.land(jump);
    }
    out.put(&[0x48, 0x8d, 0x64, 0x24, 0x80]); // lea rsp, [rsp - 128]
    out.to(&[0x48, 0x8d, 0x0d], behind)?; // lea rcx, [rip + behind]
    out.to(&[0xff, 0x15], page + format::ENTRY_AT as u64)?; // call [entry]
    out.put(&[0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0]); // lea rsp, [rsp + 128]
    out.put(&[0x45, 0x85, 0xdb]); // test r11d, r11d
    out.to(JE, native)?;
    out.to(JMP, answered)?;
    Ok(out.bytes)
}

/// Number class 0, or class 1 with a native descriptor: native. Falls through when native.
fn question(out: &mut Emitter, page: u64) -> Result<(Vec<Fix>, Vec<Fix>), SitesError> {
    let (mut native, mut slow) = (Vec::new(), Vec::new());
    out.put(&[0x3d]); // cmp eax, the last number with a class
    out.put(&(format::CLASS_BYTES as u32 - 1).to_le_bytes());
    native.push(out.forward(JA));
    out.to(&[0x48, 0x8d, 0x0d], page)?; // lea rcx, [rip + page]
    out.put(&[0x41, 0x89, 0xc3]); // mov r11d, eax
    out.put(&[0x46, 0x0f, 0xb6, 0x1c, 0x19]); // movzx r11d, byte ptr [rcx + r11]
    out.put(&[0x45, 0x85, 0xdb]); // test r11d, r11d
    native.push(out.forward(JE));
    out.put(&[0x41, 0x83, 0xfb, 1]); // cmp r11d, 1
    slow.push(out.forward(JNE));
    out.put(&[0x81, 0xff]); // cmp edi, the last descriptor with a byte
    out.put(&(format::FD_MAP_BYTES - 1).to_le_bytes());
    slow.push(out.forward(JA));
    out.to(&[0x48, 0x8b, 0x0d], page + format::FD_MAP_AT as u64)?; // mov rcx, [rip + fd map]
    out.put(&[0x41, 0x89, 0xfb]); // mov r11d, edi
    out.put(&[0x42, 0x80, 0x3c, 0x19, 1]); // cmp byte ptr [rcx + r11], 1
    slow.push(out.forward(JNE));
    Ok((native, slow))
}
