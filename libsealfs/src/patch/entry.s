# The frame, from the caller's stack pointer (the CFA) downwards:
#   cfa-136  return address into the stub
#   cfa-144  address behind the syscall (what unwinders take for the return address)
#   cfa-152  rbp
#   cfa-208  Call: nr, arguments 0..5                                  <- rbp
#   rbp-8    the caller's signal mask
#   rbp-16   1 if signals were blocked here
#   rbp-24   the private stack's control block
#   rbp-32   the kernel's result, later the answer's value
#   rbp-40   1 after the kernel was tried; later 1 for an answered call, 2 for one that the kernel is to try
#   rbp-48   the control block that was current before

        .text
        .p2align 6
        .globl sealfs_entry
        .hidden sealfs_entry
        .type sealfs_entry,@function
sealfs_entry:
        .cfi_startproc
        .cfi_def_cfa rsp, 136
        .cfi_register 16, 2
        push rcx
        .cfi_def_cfa rsp, 144
        .cfi_offset 16, -144
        mov eax, eax
        cmp eax, 511
        ja .Lframe
        lea r11, [rip + {number_class}]
        movzx ecx, byte ptr [r11 + rax]
        sub ecx, 3
        cmp ecx, 1
        ja .Lframe

# --- a path that plainly is the kernel's ---------------------------------------------------------
# Absolute, and no `/` in it has the first two bytes of the mount's name behind it: no frame is
# needed, all arguments stay where they are. Whatever is not so plain is looked at again below. A
# fault from here to sealfs_glance_end goes on there.
        push rax
        .cfi_def_cfa rsp, 152
        test ecx, ecx
        mov r11, rdi
        cmovnz r11, rsi
        cmp byte ptr [rip + {catching}], 0
        je .Lnot_plain
        cmp qword ptr [rip + {mount_name_bytes}], 2
        jb .Lnot_plain
        mov rcx, qword ptr [rip + sealfs_thread@GOTTPOFF]
        cmp qword ptr fs:[rcx + 16], 0  # a fault now might kill: see thread.suspect
        jne .Lnot_plain
        test r11, r11
        jz .Lnot_plain
        sub rsp, 64
        .cfi_def_cfa rsp, 216
        movups xmmword ptr [rsp], xmm0
        movups xmmword ptr [rsp + 16], xmm1
        movups xmmword ptr [rsp + 32], xmm2
        movups xmmword ptr [rsp + 48], xmm3
        .globl sealfs_glance_begin
        .hidden sealfs_glance_begin
sealfs_glance_begin:
        cmp byte ptr [r11], '/'
        jne .Lglanced
        cmp byte ptr [r11 + 1], 'p'     # /proc
        je .Lglanced
        cmp byte ptr [r11 + 1], 'd'     # /dev
        je .Lglanced
.Lglance:
        mov eax, r11d
        and eax, 4095
        cmp eax, 4096 - 18              # stay within the page
        ja .Lglanced
        movups xmm0, xmmword ptr [r11]
        movups xmm1, xmmword ptr [r11 + 1]
        movups xmm2, xmmword ptr [r11 + 2]
        pxor xmm3, xmm3
        pcmpeqb xmm3, xmm0
        pcmpeqb xmm0, xmmword ptr [rip + {glance}]
        pcmpeqb xmm1, xmmword ptr [rip + {glance} + 16]
        pcmpeqb xmm2, xmmword ptr [rip + {glance} + 32]
        pand xmm0, xmm1
        pand xmm0, xmm2
        pmovmskb ecx, xmm0
        pmovmskb eax, xmm3
        test ecx, ecx
        jnz .Lglanced
        add r11, 16
        test eax, eax
        jz .Lglance
        movups xmm0, xmmword ptr [rsp]
        movups xmm1, xmmword ptr [rsp + 16]
        movups xmm2, xmmword ptr [rsp + 32]
        movups xmm3, xmmword ptr [rsp + 48]
        add rsp, 64
        .cfi_def_cfa rsp, 152
        mov rax, qword ptr [rsp]
        syscall
        cmp rax, -2                     # ENOENT
        je .Lplain_failed
        cmp rax, -20                    # ENOTDIR
        je .Lplain_failed
        cmp rax, -40                    # ELOOP
        je .Lplain_failed
        cmp rax, 65535
        ja .Lplain_answered             # an error, or beyond the map
        mov ecx, dword ptr [rsp]
        mov r11d, edx                   # flags of openat
        cmp ecx, 257                    # openat
        je .Lplain_opened
        mov r11d, esi                   # flags of open
        cmp ecx, 2                      # open
        je .Lplain_opened
        xor r11d, r11d
        cmp ecx, 85                     # creat
        jne .Lplain_answered
.Lplain_opened:
        test r11d, 0x10000              # O_DIRECTORY: may be above the mount, whose listing differs
        jnz .Lplain_answered
        lea r11, [rip + {fd_class}]
        add r11, rax
        cmp byte ptr [r11], 0
        jne .Lplain_answered
        push rdx
        .cfi_def_cfa rsp, 160
        mov rcx, rax
        xor eax, eax
        mov edx, 1
        lock cmpxchg byte ptr [r11], dl
        mov rax, rcx
        pop rdx
        .cfi_def_cfa rsp, 152
.Lplain_answered:
        mov r11d, 1
        add rsp, 8
        .cfi_def_cfa rsp, 144
        pop rcx
        .cfi_def_cfa rsp, 136
        .cfi_register 16, 2
        ret
        .cfi_def_cfa rsp, 216
        .cfi_offset 16, -144
.Lglanced:
        .globl sealfs_glance_end
        .hidden sealfs_glance_end
sealfs_glance_end:
        movups xmm0, xmmword ptr [rsp]
        movups xmm1, xmmword ptr [rsp + 16]
        movups xmm2, xmmword ptr [rsp + 32]
        movups xmm3, xmmword ptr [rsp + 48]
        add rsp, 64
        .cfi_def_cfa rsp, 152
.Lnot_plain:
        pop rax
        .cfi_def_cfa rsp, 144

# --- the frame ------------------------------------------------------------------------------------
.Lframe:
        push rbp
        .cfi_def_cfa rsp, 152
        .cfi_offset 6, -152
        push r9
        .cfi_def_cfa rsp, 160
        push r8
        .cfi_def_cfa rsp, 168
        push r10
        .cfi_def_cfa rsp, 176
        push rdx
        .cfi_def_cfa rsp, 184
        push rsi
        .cfi_def_cfa rsp, 192
        push rdi
        .cfi_def_cfa rsp, 200
        push rax
        .cfi_def_cfa rsp, 208
        mov rbp, rsp
        .cfi_def_cfa rbp, 208
        sub rsp, 48
        mov qword ptr [rbp - 40], 0
        mov eax, eax
        cmp eax, 511
        ja .Lfull
        lea r11, [rip + {number_class}]
        movzx ecx, byte ptr [r11 + rax]
        lea r11, [rip + {fd_class}]
        test ecx, ecx
        jz .Lnative
        cmp ecx, 1
        je .Lfd
        cmp ecx, 2
        je .Lfull
        cmp ecx, 3
        je .Lpath
        cmp ecx, 4
        je .Lat_path
        cmp ecx, 5
        je .Ltwo_fds
        cmp ecx, 6
        je .Lmap
        cmp ecx, 7
        je .Lwhen_touched
        cmp ecx, 8
        je .Lclose
        cmp ecx, 9
        je .Lsignal_action
        cmp ecx, 10
        je .Lthread_exit
        jmp .Lfull

# --- classes without a path ------------------------------------------------------------------
.Lfd:                                   # a stub has asked already, an exported symbol has not
        cmp edi, 65535
        ja .Lfull
        mov edi, edi
        cmp byte ptr [r11 + rdi], 1
        jne .Lfull
        jmp .Lnative

.Ltwo_fds:
        cmp edi, 65535
        ja .Lfull
        cmp esi, 65535
        ja .Lfull
        mov edi, edi
        mov esi, esi
        cmp byte ptr [r11 + rdi], 1
        jne .Lfull
        cmp byte ptr [r11 + rsi], 1
        jne .Lfull
        jmp .Lnative

.Lmap:
        test r10d, 0x10                 # MAP_FIXED may hit a mapping of ours
        jz 2f
        cmp byte ptr [rip + {touched}], 0
        jne .Lfull
2:
        test r10d, 0x20                 # MAP_ANONYMOUS
        jnz .Lnative
        cmp r8d, 65535
        ja .Lfull
        mov r8d, r8d
        cmp byte ptr [r11 + r8], 1
        jne .Lfull
        jmp .Lnative

.Lwhen_touched:
        cmp byte ptr [rip + {touched}], 0
        jne .Lfull
        jmp .Lnative

.Lclose:
        cmp edi, 65535
        ja .Lfull
        mov edi, edi
        cmp byte ptr [r11 + rdi], 1
        jne .Lfull
        mov byte ptr [r11 + rdi], 0
        jmp .Lnative

.Lsignal_action:
        cmp edi, 11                     # SIGSEGV
        je .Lfull
        cmp edi, 7                      # SIGBUS
        je .Lfull
        jmp .Lnative

.Lthread_exit:
        mov rcx, qword ptr [rip + sealfs_thread@GOTTPOFF]
        xor eax, eax
        xchg rax, qword ptr fs:[rcx]
        test rax, rax
        jz .Lnative
        call sealfs_stack_give
        jmp .Lnative

# --- paths ------------------------------------------------------------------------------------
# rsi: path, edi: directory descriptor. A fault from here to sealfs_scan_end goes on there.
.Lpath:
        mov rsi, rdi
        mov edi, -100                   # AT_FDCWD
.Lat_path:
        cmp byte ptr [rip + {catching}], 0
        je .Lfull
        mov rcx, qword ptr [rip + sealfs_thread@GOTTPOFF]
        cmp qword ptr fs:[rcx + 16], 0  # a fault now might kill: see thread.suspect
        jne .Lfull
        lea r8, [rip + {mount_name}]
        mov r9, qword ptr [rip + {mount_name_bytes}]
        lea r10, [rsi + 4096]           # PATH_MAX: longer ones are the kernel's to refuse
        test rsi, rsi
        jz .Lrelative                   # no path: about the descriptor itself
        .globl sealfs_scan_begin
        .hidden sealfs_scan_begin
sealfs_scan_begin:
        movzx eax, byte ptr [rsi]
        cmp al, '/'
        jne .Lrelative
        cmp byte ptr [rsi + 1], 'p'     # /proc/...: may name descriptors of ours
        je .Lmaybe_proc
        cmp byte ptr [rsi + 1], 'd'     # /dev/fd, /dev/stdin, ...
        je .Lmaybe_dev
.Lscan:
        movzx eax, byte ptr [rsi]
        cmp rsi, r10
        jae .Ltry
        inc rsi
        test al, al
        jz .Ltry
        cmp al, '/'
        jne .Lscan
.Lcomponent:
        xor ecx, ecx
.Lcompare:
        cmp rcx, r9
        je .Lwhole_name
        movzx eax, byte ptr [rsi + rcx]
        cmp al, byte ptr [r8 + rcx]
        jne .Lscan
        inc rcx
        jmp .Lcompare
.Lwhole_name:
        movzx eax, byte ptr [rsi + rcx]
        test al, al
        jz .Lfull
        cmp al, '/'
        je .Lfull
        jmp .Lscan
.Lmaybe_proc:
        cmp byte ptr [rsi + 2], 'r'
        jne .Lscan
        cmp byte ptr [rsi + 3], 'o'
        jne .Lscan
        cmp byte ptr [rsi + 4], 'c'
        jne .Lscan
        jmp .Lfull
.Lmaybe_dev:
        cmp byte ptr [rsi + 2], 'e'
        jne .Lscan
        cmp byte ptr [rsi + 3], 'v'
        jne .Lscan
        cmp byte ptr [rsi + 4], '/'
        jne .Lscan
        cmp byte ptr [rsi + 5], 'f'
        je .Lfull
        cmp byte ptr [rsi + 5], 's'
        je .Lfull
        jmp .Lscan
.Lrelative:
        cmp edi, -100
        jne 2f
        cmp byte ptr [rip + {cwd_special}], 0
        jne .Lfull
        jmp 3f
2:
        cmp edi, 65535
        ja .Lfull
        mov edi, edi
        cmp byte ptr [r11 + rdi], 1
        jne .Lfull
3:
        test rsi, rsi
        jz .Ltry
        jmp .Lcomponent

        .globl sealfs_scan_end
        .hidden sealfs_scan_end
sealfs_scan_end:
.Ltry:
        mov rax, qword ptr [rbp]
        mov rdi, qword ptr [rbp + 8]
        mov rsi, qword ptr [rbp + 16]
        mov rdx, qword ptr [rbp + 24]
        mov r10, qword ptr [rbp + 32]
        mov r8, qword ptr [rbp + 40]
        mov r9, qword ptr [rbp + 48]
        syscall
        cmp rax, -2                     # ENOENT
        je .Lafter_kernel
        cmp rax, -20                    # ENOTDIR
        je .Lafter_kernel
        cmp rax, -40                    # ELOOP
        je .Lafter_kernel
        cmp rax, 65535
        ja .Lanswered                   # an error, or beyond the map
        mov ecx, dword ptr [rbp]
        mov edx, dword ptr [rbp + 24]   # flags of openat
        cmp ecx, 257                    # openat
        je .Lopened
        mov edx, dword ptr [rbp + 16]   # flags of open
        cmp ecx, 2                      # open
        je .Lopened
        xor edx, edx
        cmp ecx, 85                     # creat
        jne .Lanswered
.Lopened:
        cmp qword ptr [rbp - 40], 0     # the dispatcher could not tell it by its text
        jne .Lanswered
        test edx, 0x10000               # O_DIRECTORY: may be above the mount, whose listing differs
        jnz .Lanswered
        lea r11, [rip + {fd_class}]
        cmp byte ptr [r11 + rax], 0
        jne .Lanswered
        mov rcx, rax
        xor eax, eax
        mov edx, 1
        lock cmpxchg byte ptr [r11 + rcx], dl
        mov rax, rcx
.Lanswered:
        mov qword ptr [rbp], rax
        mov r11d, 1
        jmp .Lout
        .cfi_remember_state
        .cfi_def_cfa rsp, 152
        .cfi_restore 6
.Lplain_failed:                         # makes the frame that the rest needs, with the number in it
        pop rcx
        .cfi_def_cfa rsp, 144
        push rbp
        .cfi_def_cfa rsp, 152
        .cfi_offset 6, -152
        push r9
        .cfi_def_cfa rsp, 160
        push r8
        .cfi_def_cfa rsp, 168
        push r10
        .cfi_def_cfa rsp, 176
        push rdx
        .cfi_def_cfa rsp, 184
        push rsi
        .cfi_def_cfa rsp, 192
        push rdi
        .cfi_def_cfa rsp, 200
        push rcx
        .cfi_def_cfa rsp, 208
        mov rbp, rsp
        sub rsp, 48
        mov qword ptr [rbp - 40], 0
        .cfi_restore_state
.Lafter_kernel:
        mov rcx, qword ptr [rbp - 40]
        mov qword ptr [rbp - 32], rax
        mov qword ptr [rbp - 40], 1
        cmp byte ptr [rip + {seccomped}], 0
        jne .Lanswered                  # a sandboxed process: no question it did not ask itself
        test ecx, ecx
        jnz .Lfull                      # not so plain a path: the dispatcher looks itself
        cmp rax, -40
        je .Lfull
        # Nearly always the path is simply not there. The kernel tells: walked without following any
        # symbolic link, it ends the same way, so no link on it leads into the mount.
        mov rdi, -100
        mov rsi, qword ptr [rbp + 8]
        mov ecx, dword ptr [rbp]
        lea r11, [rip + {number_class}]
        cmp byte ptr [r11 + rcx], 4
        jne 2f
        mov rdi, rsi
        mov rsi, qword ptr [rbp + 16]
2:
        mov eax, 437                    # openat2
        lea rdx, [rip + {how}]
        mov r10d, 24
        syscall
        cmp rax, qword ptr [rbp - 32]
        je .Lanswered
        test rax, rax
        js .Lfull
        mov edi, eax                    # it has come into being meanwhile
        mov eax, 3                      # close
        syscall

# --- the whole way ------------------------------------------------------------------------------
.Lfull:
        mov qword ptr [rbp - 16], 0
        cmp byte ptr [rip + {seccomped}], 0
        jne 2f
        mov eax, 14                     # rt_sigprocmask(SIG_BLOCK, BLOCKED, the caller's, 8)
        xor edi, edi
        lea rsi, [rip + {blocked}]
        lea rdx, [rbp - 8]
        mov r10d, 8
        syscall
        mov qword ptr [rbp - 16], 1
2:
        mov rcx, qword ptr [rip + sealfs_thread@GOTTPOFF]
        xor eax, eax
        xchg rax, qword ptr fs:[rcx]
        test rax, rax
        jnz 3f
        call sealfs_stack_take
        test rax, rax
        jz .Lno_stack
3:
        mov qword ptr [rbp - 24], rax
        mov qword ptr [rax + 8], rbp
        mov rcx, qword ptr fs:[0]
        mov qword ptr [rax + 16], rcx
        mov qword ptr [rax + 24], 1
        mov rcx, qword ptr [rip + sealfs_thread@GOTTPOFF]
        mov rdx, qword ptr fs:[rcx + 8]
        mov qword ptr [rbp - 48], rdx
        mov qword ptr fs:[rcx + 8], rax
        mov rsp, rax
        mov r11, rax
        xor edx, edx
        mov eax, dword ptr [rip + {saved}]
        test eax, eax
        jz 4f
        xsave64 [r11 + 64]
        jmp 5f
4:
        fxsave64 [r11 + 64]
5:
        mov rdi, rbp
        mov rsi, qword ptr [rbp - 40]
        mov rdx, qword ptr [rbp - 32]
        call {enter}
        mov qword ptr [rbp - 32], rax
        mov qword ptr [rbp - 40], rdx
        mov r11, qword ptr [rbp - 24]
        xor edx, edx
        mov eax, dword ptr [rip + {saved}]
        test eax, eax
        jz 6f
        xrstor64 [r11 + 64]
        jmp 7f
6:
        fxrstor64 [r11 + 64]
7:
        lea rsp, [rbp - 48]
        mov rcx, qword ptr [rip + sealfs_thread@GOTTPOFF]
        mov rdx, qword ptr [rbp - 48]
        mov qword ptr fs:[rcx + 8], rdx
        mov rax, r11
        mov qword ptr [rax + 24], 0
        xchg rax, qword ptr fs:[rcx]
        test rax, rax
        jz .Lunblock
        call sealfs_stack_give
.Lunblock:
        cmp qword ptr [rbp - 16], 0
        je 8f
        mov eax, 14                     # rt_sigprocmask(SIG_SETMASK, the caller's, NULL, 8)
        mov edi, 2
        lea rsi, [rbp - 8]
        xor edx, edx
        mov r10d, 8
        syscall
8:
        mov r11, qword ptr [rbp - 40]
        cmp r11d, 2
        je .Ltry
        test r11d, r11d
        jz .Lout
        mov rax, qword ptr [rbp - 32]
        mov qword ptr [rbp], rax
        jmp .Lout
.Lno_stack:
        mov qword ptr [rbp - 32], -12   # ENOMEM
        mov qword ptr [rbp - 40], 1
        jmp .Lunblock

.Lnative:
        xor r11d, r11d
.Lout:
        mov rsp, rbp
        .cfi_def_cfa rsp, 208
        pop rax
        .cfi_def_cfa rsp, 200
        pop rdi
        .cfi_def_cfa rsp, 192
        pop rsi
        .cfi_def_cfa rsp, 184
        pop rdx
        .cfi_def_cfa rsp, 176
        pop r10
        .cfi_def_cfa rsp, 168
        pop r8
        .cfi_def_cfa rsp, 160
        pop r9
        .cfi_def_cfa rsp, 152
        pop rbp
        .cfi_def_cfa rsp, 144
        .cfi_restore 6
        pop rcx
        .cfi_def_cfa rsp, 136
        .cfi_register 16, 2
        ret
        .cfi_endproc
        .size sealfs_entry, . - sealfs_entry

# --- private stacks -----------------------------------------------------------------------------
# -> rax: a stack's control block, from the pool or fresh (marked so at 40), or 0. Nothing but rax,
# rcx, rdx, rsi, rdi and r8-r11 changes.
        .p2align 4
        .type sealfs_stack_take,@function
sealfs_stack_take:
        .cfi_startproc
        push rbx
        .cfi_adjust_cfa_offset 8
        .cfi_offset 3, -16
2:
        mov rax, qword ptr [rip + {pool}]
        mov rdx, qword ptr [rip + {pool} + 8]
        test rax, rax
        jz 3f
        mov rbx, qword ptr [rax]
        lea rcx, [rdx + 1]
        lock cmpxchg16b xmmword ptr [rip + {pool}]
        jne 2b
3:
        pop rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore 3
        test rax, rax
        jz 4f
        ret
4:
        mov eax, 9                      # mmap
        xor edi, edi
        mov esi, {total}
        mov edx, 3                      # readable, writable
        mov r10d, 0x4022                # private, anonymous, no reserve
        mov r8, -1
        xor r9d, r9d
        syscall
        cmp rax, -4096
        ja 6f
        mov r8, rax
        mov rdi, rax
        mov eax, 10                     # mprotect: the lowest page is the guard
        mov esi, 4096
        xor edx, edx
        syscall
        add r8, {total} - {control}
        mov qword ptr [r8 + 40], 1
        mov rax, qword ptr [rip + {all}]
5:
        mov qword ptr [r8 + 32], rax
        lock cmpxchg qword ptr [rip + {all}], r8
        jne 5b
        mov rax, r8
        ret
6:
        xor eax, eax
        ret
        .cfi_endproc
        .size sealfs_stack_take, . - sealfs_stack_take

# rax: a control block for the pool. Nothing but rax, rcx, rdx and r8 changes.
        .p2align 4
        .globl sealfs_stack_give
        .hidden sealfs_stack_give
        .type sealfs_stack_give,@function
sealfs_stack_give:
        .cfi_startproc
        push rbx
        .cfi_adjust_cfa_offset 8
        .cfi_offset 3, -16
        mov rbx, rax
        mov r8, rax
2:
        mov rax, qword ptr [rip + {pool}]
        mov rdx, qword ptr [rip + {pool} + 8]
        mov qword ptr [r8], rax
        lea rcx, [rdx + 1]
        lock cmpxchg16b xmmword ptr [rip + {pool}]
        jne 2b
        pop rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore 3
        ret
        .cfi_endproc
        .size sealfs_stack_give, . - sealfs_stack_give

# The thread's own words: its spare stack; the stack it is on; "suspect", raised when a handler of
# the program was entered for a fault, which may mean that SIGSEGV is blocked. Initial-exec, so that
# reaching them calls nobody.
        .section .tbss,"awT",@nobits
        .p2align 4
        .globl sealfs_thread
        .hidden sealfs_thread
        .type sealfs_thread,@object
        .size sealfs_thread, 32
sealfs_thread:
        .zero 32
        .text
