# A call through an exported symbol: eax is the system call's number, r11 the place of the real
# function's address, the rest is as C passes arguments. Unanswered calls go on in the real
# function as if we had not been there.
#
#   rbp-8    place of the real function's address
#   rbp-16   number
#   rbp-64   the six C arguments

        .text
        .p2align 4
        .type sealfs_symbol,@function
sealfs_symbol:
        .cfi_startproc
        .globl sealfs_symbol_same
        .hidden sealfs_symbol_same
sealfs_symbol_same:
        push rbp
        .cfi_def_cfa_offset 16
        .cfi_offset 6, -16
        mov rbp, rsp
        .cfi_def_cfa_register 6
        push r11
        push rax
        push r9
        push r8
        push rcx
        push rdx
        push rsi
        push rdi
        mov r10, rcx
.Lcall:
        cmp byte ptr [rip + {started}], 0
        je .Learly
        sub rsp, 128
        lea rcx, [rip + .Lback]
        call {entry}
.Lback:
        add rsp, 128
        test r11d, r11d
        jnz .Ldone
        pop rdi
        pop rsi
        pop rdx
        pop rcx
        pop r8
        pop r9
        mov r11, qword ptr [rbp - 8]
        mov r11, qword ptr [r11]
        mov rsp, rbp
        pop rbp
        .cfi_remember_state
        .cfi_def_cfa 7, 8
        .cfi_restore 6
        test r11, r11
        jz .Lmissing
        xor eax, eax
        jmp r11
.Lmissing:
        mov rax, -38                    # ENOSYS: this libc has no such function
        push rbp
        .cfi_def_cfa_offset 16
        mov rbp, rsp
        jmp .Ldone
        .cfi_restore_state
.Learly:
        syscall
.Ldone:
        cmp rax, -4096
        jbe .Lreturn
        neg eax
        mov dword ptr [rbp - 16], eax
        lea rsp, [rbp - 64]
        and rsp, -16
        call {errno}@PLT
        mov ecx, dword ptr [rbp - 16]
        mov dword ptr [rax], ecx
        mov rax, -1
.Lreturn:
        mov rsp, rbp
        pop rbp
        .cfi_def_cfa 7, 8
        .cfi_restore 6
        ret
        .cfi_endproc
        .size sealfs_symbol, . - sealfs_symbol

# As above with a version number in front of the kernel's arguments.
        .p2align 4
        .globl sealfs_symbol_shifted
        .hidden sealfs_symbol_shifted
        .type sealfs_symbol_shifted,@function
sealfs_symbol_shifted:
        .cfi_startproc
        push rbp
        .cfi_def_cfa_offset 16
        .cfi_offset 6, -16
        mov rbp, rsp
        .cfi_def_cfa_register 6
        push r11
        push rax
        push r9
        push r8
        push rcx
        push rdx
        push rsi
        push rdi
        mov rdi, rsi
        mov rsi, rdx
        mov rdx, rcx
        mov r10, r8
        mov r8, r9
        jmp .Lcall
        .cfi_endproc
        .size sealfs_symbol_shifted, . - sealfs_symbol_shifted

# preadv2 and pwritev2: the kernel has one more word for the offset.
        .p2align 4
        .globl sealfs_symbol_flags6
        .hidden sealfs_symbol_flags6
        .type sealfs_symbol_flags6,@function
sealfs_symbol_flags6:
        .cfi_startproc
        push rbp
        .cfi_def_cfa_offset 16
        .cfi_offset 6, -16
        mov rbp, rsp
        .cfi_def_cfa_register 6
        push r11
        push rax
        push r9
        push r8
        push rcx
        push rdx
        push rsi
        push rdi
        mov r10, rcx
        mov r9, r8
        xor r8d, r8d
        jmp .Lcall
        .cfi_endproc
        .size sealfs_symbol_flags6, . - sealfs_symbol_flags6
