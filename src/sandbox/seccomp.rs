//! The system call filter: a list of what is refused, everything else allowed.
//!
//! Package scripts run programs of every kind and age, so that a list of what is allowed would break images.
//! What is refused falls in four kinds: calls on the kernel itself (modules, kexec, reboot, swap, its log), ways
//! around the other walls (handles of files, mounts, namespaces, keyrings), large parts of the kernel that no
//! package needs (bpf, perf, io_uring, userfaultfd), and typing into a terminal (TIOCSTI, TIOCLINUX). Most of it
//! needs capabilities that are gone anyway: this is the second wall.
//!
//! Every architecture that the kernel runs has its own numbers: the 32-bit one is filtered by its own table, and
//! the x32 variant of x86_64's numbers is refused altogether, so that neither is a way around. Only what a filter
//! cannot see stays open: the address family behind i386's `socketcall`.
//!
//! The arguments are those of seccomp(2): a filter is a program of classic BPF over `struct seccomp_data`.

use anyhow::{Context as _, Result};
use libc::sock_filter;

use super::syscalls::{self, Table};

/// What is done about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Fails with this error.
    Fail(i32),
    /// Answers 0 and does nothing.
    Succeed,
    /// Fails with EPERM if any of these bits are set in the argument of this number.
    RefuseBits(u32, u32),
    /// Fails with EPERM if the argument of this number is one of these.
    RefuseValues(u32, &'static [u32]),
    /// Fails with EAFNOSUPPORT unless the first argument is one of these.
    AllowFamilies(&'static [u32]),
    /// Fails with EPERM if the mode in the argument of this number is a block device's, or a character device's
    /// and the number in the next argument is not 0 (0/0 is an overlay filesystem's mark of a deleted file).
    RefuseDevices(u32),
    /// Answers 0 and does nothing if the first of these arguments is this value and the second, a pointer, is not
    /// null.
    Pretend(u32, u32, u32),
}

/// Where fields are in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The low 32 bits of an argument, all that the kernel looks at of those that are filtered here but pointers; its
/// high ones are at the same place with bit 2 flipped.
fn argument(index: u32) -> u32 {
    16 + 8 * index + if cfg!(target_endian = "big") { 4 } else { 0 }
}

// linux/filter.h, linux/bpf_common.h
const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const X32_BIT: u32 = 0x4000_0000;

fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number.cast_unsigned() & 0xffff
}

/// The whole filter.
pub(super) fn filter(suppress_sync: bool, mounts: bool) -> Result<Vec<sock_filter>> {
    let mut program = vec![load(ARCHITECTURE)];
    for table in syscalls::tables() {
        let body = body(&table, suppress_sync, mounts)?;
        let length = u32::try_from(body.len()).context("measuring a filter")?;
        // Conditional jumps reach 255 instructions only: over the body it takes an unconditional one.
        program.push(jump_if(IF_EQUAL, table.architecture, 1, 0));
        program.push(statement(JUMP, length));
        program.extend(body);
    }
    // An architecture without a table.
    program.push(statement(RETURN, errno(libc::ENOSYS)));
    Ok(program)
}

fn body(table: &Table, suppress_sync: bool, mounts: bool) -> Result<Vec<sock_filter>> {
    let mut body = vec![load(NUMBER)];
    if table.has_x32 {
        body.push(jump_if(IF_AT_LEAST, X32_BIT, 0, 1));
        body.push(statement(RETURN, errno(libc::ENOSYS)));
    }
    for (numbers, rule) in syscalls::rules(suppress_sync, mounts) {
        for number in table.numbers(numbers) {
            let actions = actions(rule)?;
            body.push(jump_if(IF_EQUAL, number, 0, u8::try_from(actions.len()).context("measuring a rule")?));
            body.extend(actions);
        }
    }
    body.push(statement(RETURN, ALLOW));
    Ok(body)
}

/// What is executed for a call that a rule is about; always returns.
fn actions(rule: Rule) -> Result<Vec<sock_filter>> {
    let refuse = statement(RETURN, errno(libc::EPERM));
    let allow = statement(RETURN, ALLOW);
    Ok(match rule {
        Rule::Fail(number) => vec![statement(RETURN, errno(number))],
        Rule::Succeed => vec![statement(RETURN, errno(0))],
        Rule::RefuseBits(index, bits) => {
            vec![load(argument(index)), jump_if(IF_ANY_BIT, bits, 0, 1), refuse, allow]
        }
        Rule::RefuseValues(index, values) => {
            let mut code = vec![load(argument(index))];
            for value in values {
                code.extend([jump_if(IF_EQUAL, *value, 0, 1), refuse]);
            }
            code.push(allow);
            code
        }
        Rule::AllowFamilies(families) => {
            let mut code = vec![load(argument(0))];
            for family in families {
                code.extend([jump_if(IF_EQUAL, *family, 0, 1), allow]);
            }
            code.push(statement(RETURN, errno(libc::EAFNOSUPPORT)));
            code
        }
        Rule::Pretend(index, value, pointer) => vec![
            load(argument(index)),
            jump_if(IF_EQUAL, value, 1, 0),
            allow,
            load(argument(pointer)),
            jump_if(IF_EQUAL, 0, 0, 2),
            load(argument(pointer) ^ 4),
            jump_if(IF_EQUAL, 0, 1, 0),
            statement(RETURN, errno(0)),
            allow,
        ],
        Rule::RefuseDevices(index) => vec![
            load(argument(index)),
            statement(AND, libc::S_IFMT),
            jump_if(IF_EQUAL, libc::S_IFBLK, 0, 1),
            refuse,
            jump_if(IF_EQUAL, libc::S_IFCHR, 1, 0),
            allow,
            load(argument(index + 1)),
            jump_if(IF_EQUAL, 0, 0, 1),
            allow,
            refuse,
        ],
    })
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn load(offset: u32) -> sock_filter {
    statement(LOAD_WORD, offset)
}

fn jump_if(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel does.
    fn run(program: &[sock_filter], architecture: u32, number: u32, arguments: &[u32]) -> u32 {
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { jt } else { jf });
            match code {
                LOAD_WORD if k == NUMBER => accumulator = number,
                LOAD_WORD if k == ARCHITECTURE => accumulator = architecture,
                LOAD_WORD => {
                    accumulator = arguments.get(((k - 16) / 8) as usize).copied().unwrap_or(0);
                }
                AND => accumulator &= k,
                JUMP => at += k as usize,
                IF_EQUAL => at += jump(accumulator == k),
                IF_AT_LEAST => at += jump(accumulator >= k),
                IF_ANY_BIT => at += jump(accumulator & k != 0),
                RETURN => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn each_architecture_is_held_by_its_own_numbers() {
        let program = filter(false, false).unwrap();
        for table in syscalls::tables() {
            let answer = |name: &str, arguments: &[u32]| {
                let number = *table.numbers(&[name]).first().unwrap_or_else(|| panic!("{name}"));
                run(&program, table.architecture, number, arguments)
            };
            let (eperm, enosys) = (errno(libc::EPERM), errno(libc::ENOSYS));
            assert_eq!(answer("bpf", &[]), eperm);
            assert_eq!(answer("open_by_handle_at", &[]), eperm);
            assert_eq!(answer("io_uring_setup", &[]), enosys);
            assert_eq!(answer("clone3", &[]), enosys);
            assert_eq!(answer("clone", &[0x1000_0011]), eperm, "CLONE_NEWUSER");
            assert_eq!(answer("clone", &[0x0120_0011]), ALLOW, "fork");
            assert_eq!(answer("ioctl", &[0, 0x5412]), eperm, "TIOCSTI");
            assert_eq!(answer("ioctl", &[0, 0x5413]), ALLOW, "TIOCGWINSZ");
            assert_eq!(answer("mknodat", &[0, 0, libc::S_IFBLK | 0o600, 0x700]), eperm);
            assert_eq!(answer("mknodat", &[0, 0, libc::S_IFBLK | 0o600, 0]), eperm);
            assert_eq!(answer("mknodat", &[0, 0, libc::S_IFCHR | 0o600, 0x103]), eperm);
            assert_eq!(answer("mknodat", &[0, 0, libc::S_IFCHR, 0]), ALLOW, "a whiteout");
            assert_eq!(answer("mknodat", &[0, 0, libc::S_IFIFO | 0o600, 0]), ALLOW);
            assert_eq!(answer("socket", &[2, 1, 0]), ALLOW);
            assert_eq!(answer("socket", &[40, 1, 0]), errno(libc::EAFNOSUPPORT), "vsock");
            assert_eq!(answer("mount", &[]), eperm);
            assert_eq!(answer("prlimit64", &[0, 4, 0, 0x1000]), ALLOW, "asking for the limit");
            assert_eq!(answer("prlimit64", &[0, 4, 0x1000, 0]), errno(0), "RLIMIT_CORE");
            assert_eq!(answer("prlimit64", &[0, 7, 0x1000, 0]), ALLOW, "RLIMIT_NOFILE");
            assert_eq!(answer("setrlimit", &[4, 0x1000]), errno(0));
            assert_eq!(answer("fsync", &[]), ALLOW);
            assert_eq!(run(&program, table.architecture, 0, &[]), ALLOW);
            if table.has_x32 {
                assert_eq!(run(&program, table.architecture, X32_BIT | 1, &[]), enosys);
            }
        }
        assert_eq!(run(&program, 0x1234, 0, &[]), errno(libc::ENOSYS), "unknown architecture");
    }

    #[test]
    fn sync_and_mounts_are_as_asked() {
        let program = filter(true, true).unwrap();
        for table in syscalls::tables() {
            for name in ["fsync", "fdatasync", "sync", "syncfs", "msync"] {
                let number = *table.numbers(&[name]).first().unwrap_or_else(|| panic!("{name}"));
                assert_eq!(run(&program, table.architecture, number, &[]), errno(0), "{name}");
            }
            let mount = table.numbers(&["mount"])[0];
            assert_eq!(run(&program, table.architecture, mount, &[]), ALLOW);
        }
    }

    #[test]
    fn a_filter_is_no_longer_than_the_kernel_takes() {
        assert!(filter(true, false).unwrap().len() < 4096);
    }
}
