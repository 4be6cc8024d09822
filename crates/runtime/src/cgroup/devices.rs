//! Which devices a container may open: an allow-list on v1, a BPF program on v2 (`bpf(2)`, `BPF_PROG_TYPE_CGROUP_DEVICE`).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::error::CgroupError;

/// Device access of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Devices {
    /// The nodes every container has, terminals, and `mknod` of anything.
    #[default]
    Default,
    /// Every device (`privileged`).
    All,
}

pub(super) const READ: u32 = 2;
pub(super) const WRITE: u32 = 4;
pub(super) const MKNOD: u32 = 1;

/// One allowed kind of access.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    block: bool,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

const fn character(major: u32, minor: Option<u32>) -> Rule {
    Rule {
        block: false,
        major: Some(major),
        minor,
        access: READ | WRITE | MKNOD,
    }
}

/// The OCI runtime specification's default devices, terminals and consoles; making nodes is allowed, opening them is not.
pub(super) const DEFAULT: [Rule; 11] = [
    Rule {
        block: false,
        major: None,
        minor: None,
        access: MKNOD,
    },
    Rule {
        block: true,
        major: None,
        minor: None,
        access: MKNOD,
    },
    character(1, Some(3)),
    character(1, Some(5)),
    character(1, Some(7)),
    character(1, Some(8)),
    character(1, Some(9)),
    character(5, Some(0)),
    character(5, Some(1)),
    character(5, Some(2)),
    character(136, None),
];

/// A rule as `devices.allow` takes it.
pub(super) fn v1_line(rule: &Rule) -> String {
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| rule.access & bit != 0)
        .map(|(_, c)| *c)
        .collect();
    format!(
        "{} {}:{} {access}",
        if rule.block { 'b' } else { 'c' },
        number(rule.major),
        number(rule.minor)
    )
}

/// An eBPF instruction (`struct bpf_insn`) as a little-endian word.
const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    code as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | (off as u16 as u64) << 16
        | (imm as u32 as u64) << 32
}

const LOAD_WORD: u8 = 0x61;
const MOV_IMM: u8 = 0xb7;
const MOV_REG: u8 = 0xbf;
const AND_IMM: u8 = 0x57;
const RSH_IMM: u8 = 0x77;
const JNE_IMM: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Compiles an allow-list. The context is `struct bpf_cgroup_dev_ctx`: access above type in one word, major, minor.
pub(super) fn program(rules: &[Rule]) -> Vec<u64> {
    let (kind, access, major, minor, scratch) = (2, 3, 4, 5, 6);
    let mut code = vec![
        insn(LOAD_WORD, kind, 1, 0, 0),
        insn(MOV_REG, access, kind, 0, 0),
        insn(AND_IMM, kind, 0, 0, 0xffff),
        insn(RSH_IMM, access, 0, 0, 16),
        insn(LOAD_WORD, major, 1, 4, 0),
        insn(LOAD_WORD, minor, 1, 8, 0),
    ];
    for rule in rules {
        // What is asked for beyond what is allowed must be nothing.
        let mut tests = vec![(kind, if rule.block { 1 } else { 2 })];
        tests.extend(rule.major.map(|n| (major, n as i32)));
        tests.extend(rule.minor.map(|n| (minor, n as i32)));
        let mut left = tests.len() + 2 + 3;
        for (register, value) in tests {
            left -= 1;
            code.push(insn(JNE_IMM, register, 0, left as i16, value));
        }
        code.push(insn(MOV_REG, scratch, access, 0, 0));
        code.push(insn(AND_IMM, scratch, 0, 0, !(rule.access as i32) & 7));
        code.push(insn(JNE_IMM, scratch, 0, 2, 0));
        code.push(insn(MOV_IMM, 0, 0, 0, 1));
        code.push(insn(EXIT, 0, 0, 0, 0));
    }
    code.push(insn(MOV_IMM, 0, 0, 0, 0));
    code.push(insn(EXIT, 0, 0, 0, 0));
    code
}

/// `union bpf_attr` of `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
}

/// `union bpf_attr` of `BPF_PROG_ATTACH`.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

fn bpf<T>(command: i32, attr: &T) -> io::Result<i32> {
    // SAFETY: `attr` is a valid attribute of the command and of the given size; what it points to outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attr),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}

fn load(code: &[u64]) -> io::Result<OwnedFd> {
    let attr = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the kernel returns a new descriptor that belongs to nobody else.
    bpf(PROG_LOAD, &attr).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Confines a v2 group to the default devices. The program lives as long as the group.
pub(super) fn confine_v2(dir: &Path) -> Result<(), CgroupError> {
    let failed = |step| {
        move |source| CgroupError::Devices {
            step,
            path: dir.to_owned(),
            source,
        }
    };
    let program = load(&program(&DEFAULT)).map_err(failed("load"))?;
    let group = std::fs::File::open(dir).map_err(failed("attach"))?;
    let attr = Attach {
        target: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(PROG_ATTACH, &attr).map(drop).map_err(failed("attach"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the few instructions the compiler uses.
    fn run(code: &[u64], access: u32, kind: u32, major: u32, minor: u32) -> u64 {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let i = code[at];
            let (op, dst, src) = (i as u8, (i >> 8 & 15) as usize, (i >> 12 & 15) as usize);
            let (off, imm) = ((i >> 16) as u16 as i16, (i >> 32) as u32 as i32);
            at += 1;
            match op {
                LOAD_WORD => registers[dst] = context[off as usize / 4].into(),
                MOV_IMM => registers[dst] = imm as u64,
                MOV_REG => registers[dst] = registers[src],
                AND_IMM => registers[dst] &= imm as i64 as u64,
                RSH_IMM => registers[dst] >>= imm,
                JNE_IMM if registers[dst] != imm as i64 as u64 => at += off as usize,
                JNE_IMM => {}
                EXIT => return registers[0],
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn the_program_allows_what_the_list_says() {
        let code = program(&DEFAULT);
        let (block, character) = (1, 2);
        for (access, kind, major, minor, allowed) in [
            (READ | WRITE, character, 1, 3, 1),
            (READ, character, 1, 4, 0),
            (MKNOD, character, 1, 4, 1),
            (MKNOD | READ, character, 1, 4, 0),
            (MKNOD, block, 8, 0, 1),
            (READ, block, 8, 0, 0),
            (READ, block, 1, 3, 0),
            (WRITE, character, 136, 77, 1),
            (READ | WRITE | MKNOD, character, 5, 2, 1),
            (READ, character, 10, 200, 0),
        ] {
            assert_eq!(
                run(&code, access, kind, major, minor),
                allowed,
                "{access} {kind} {major}:{minor}"
            );
        }
    }

    #[test]
    fn the_kernel_accepts_the_program() {
        load(&program(&DEFAULT)).unwrap();
        load(&program(&[])).unwrap();
    }

    #[test]
    fn v1_lines() {
        let lines: Vec<String> = DEFAULT.iter().map(v1_line).collect();
        assert_eq!(lines[..3], ["c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert_eq!(lines[10], "c 136:* rwm");
    }
}
