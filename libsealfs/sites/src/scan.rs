//! Decodes an object's machine code once: its instructions in order, and every address to which
//! control may jump.
//!
//! What must stay true: the set of targets errs on the large side. A jump into the middle of a
//! rewritten window would be a crash in somebody's program; a site passed over is only a site.
//! Landing pads of exceptions are not read from the tables: a pad begins by saving the exception's
//! registers, which is never the tail of a system call's arguments.

use crate::{SitesError, elf::Elf};
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};
use std::collections::HashSet;

/// A jump table with more entries than this is not believed.
const TABLE_ENTRIES_MAX: usize = 4096;

/// Decoded code of one object.
pub struct Scan {
    /// In order of address.
    pub code: Vec<Instruction>,
    /// Where control may arrive by anything but falling through.
    pub targets: HashSet<u64>,
}

impl Scan {
    pub fn of(elf: &Elf<'_>) -> Result<Self, SitesError> {
        let text = elf.text()?;
        let mut starts = elf.function_starts();
        let ranges = elf.code_ranges(&text);
        for start in &mut starts {
            *start += early_byte(elf, *start);
        }
        starts.extend(ranges.iter().map(|(from, _)| *from));
        starts.sort_unstable();
        starts.dedup();
        let mut code = Vec::new();
        for (from, to) in ranges {
            let first = starts.partition_point(|start| *start < from);
            let last = starts.partition_point(|start| *start < to);
            for index in first..last {
                let end = starts.get(index + 1).map_or(to, |next| (*next).min(to));
                decode(elf, starts[index], end, &mut code);
            }
        }
        let mut targets: HashSet<u64> = starts.iter().copied().collect();
        targets.extend(elf.named_addresses());
        for (index, instruction) in code.iter().enumerate() {
            collect_targets(elf, &code, index, instruction, &starts, &mut targets);
        }
        Ok(Self { code, targets })
    }

    /// Indices of the real `syscall` instructions.
    pub fn syscalls(&self) -> impl Iterator<Item = usize> + '_ {
        let is_syscall = |index: &usize| self.code[*index].mnemonic() == Mnemonic::Syscall;
        (0..self.code.len()).filter(is_syscall)
    }
}

/// The unwind entry of the signal return trampoline begins one byte before its code (unwinders look
/// up the address before the one they return to): 1 for such a start, else 0.
fn early_byte(elf: &Elf<'_>, start: u64) -> u64 {
    const TRAMPOLINES: [&[u8]; 2] = [b"\x48\xc7\xc0\x0f\0\0\0\x0f\x05", b"\xb8\x0f\0\0\0\x0f\x05"];
    let code = elf
        .at(start)
        .and_then(|code| code.get(1..))
        .unwrap_or_default();
    u64::from(
        TRAMPOLINES
            .iter()
            .any(|trampoline| code.starts_with(trampoline)),
    )
}

fn decode(elf: &Elf<'_>, from: u64, to: u64, code: &mut Vec<Instruction>) {
    let Some(bytes) = elf.at(from) else { return };
    let bytes = &bytes[..bytes.len().min((to - from) as usize)];
    let mut decoder = Decoder::with_ip(64, bytes, from, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if !instruction.is_invalid() {
            code.push(instruction);
        }
    }
}

fn collect_targets(
    elf: &Elf<'_>,
    code: &[Instruction],
    index: usize,
    instruction: &Instruction,
    starts: &[u64],
    targets: &mut HashSet<u64>,
) {
    let near = matches!(
        instruction.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    );
    if near {
        targets.insert(instruction.near_branch_target());
    }
    if instruction.mnemonic() == Mnemonic::Xbegin {
        targets.insert(instruction.near_branch_target());
    }
    if instruction.code() == Code::Lea_r64_m && instruction.is_ip_rel_memory_operand() {
        let named = instruction.ip_rel_memory_address();
        targets.insert(named);
        jump_table(elf, code, index, named, starts, targets);
    }
}

/// A table of 32-bit distances from its own address, as compilers make for `switch`. The `lea` of
/// the table need not be followed by the jump at once, so every `lea` of data whose words look like
/// distances into the same function counts.
fn jump_table(
    elf: &Elf<'_>,
    code: &[Instruction],
    index: usize,
    table: u64,
    starts: &[u64],
    targets: &mut HashSet<u64>,
) {
    let here = code[index].ip();
    let next = starts.partition_point(|start| *start <= here);
    let begin = starts[next.saturating_sub(1)];
    let end = starts.get(next).copied().unwrap_or(u64::MAX);
    let Some(words) = elf.at(table).filter(|_| !(begin..end).contains(&table)) else {
        return;
    };
    for entry in words.chunks_exact(4).take(TABLE_ENTRIES_MAX) {
        let distance = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
        let target = table.wrapping_add_signed(i64::from(distance));
        if !(begin..end).contains(&target) {
            return;
        }
        targets.insert(target);
    }
}

/// Whether an instruction may run from another place: it falls through (or is a conditional jump,
/// which is encoded anew), and leaves the stack alone, so that a signal in the stub finds the frame
/// as its function left it.
pub fn movable(instruction: &Instruction) -> bool {
    let falls_through = match instruction.flow_control() {
        FlowControl::Next => true,
        FlowControl::ConditionalBranch => instruction.is_jcc_short_or_near(),
        _ => false,
    };
    let writes_stack_pointer = instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().full_register() == Register::RSP;
    let marks_a_target = matches!(
        instruction.mnemonic(),
        Mnemonic::Endbr64 | Mnemonic::Endbr32
    );
    falls_through && !instruction.is_stack_instruction() && !writes_stack_pointer && !marks_a_target
}
