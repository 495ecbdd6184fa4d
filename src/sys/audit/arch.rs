//! The numbers of the system calls that are watched, for each kernel interface (ABI) that the supported processors
//! have. A kernel with 64 bits runs programs of the older 32-bit ABI too, and counts their calls differently.
//!
//! Sources: `AUDIT_ARCH_…` in `linux/audit.h` (ELF machine number, `0x80000000` for 64 bits, `0x40000000` for little
//! endian); the calls in `asm/unistd_64.h` and `asm/unistd_32.h` of x86, `asm-generic/unistd.h` (aarch64, riscv64) and
//! `asm/unistd-common.h` of arm. `socketcall` of i386 carries the call in its first argument (`linux/net.h`).

/// One way to call the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abi {
    /// `AUDIT_ARCH_…`, as records and rules name it.
    pub arch: u32,
    /// The kernel's word for it, as `uname -m` shows it.
    pub name: &'static str,
    /// Whether it is the lesser one of a 64-bit processor.
    pub is_32_bit: bool,
    /// `execve`, `execveat`.
    pub exec: [u32; 2],
    /// `connect`.
    pub connect: u32,
    /// `accept` and `accept4`; i386 has no `accept`.
    pub accept: &'static [u32],
    /// `socketcall`, where it exists.
    pub socketcall: Option<u32>,
}

/// `SYS_CONNECT` of `socketcall`.
pub const SOCKETCALL_CONNECT: u32 = 3;
/// `SYS_ACCEPT` and `SYS_ACCEPT4` of `socketcall`.
pub const SOCKETCALL_ACCEPT: [u32; 2] = [5, 18];

const X86_64: Abi = Abi {
    arch: 0xC000_003E,
    name: "x86_64",
    is_32_bit: false,
    exec: [59, 322],
    connect: 42,
    accept: &[43, 288],
    socketcall: None,
};
const I386: Abi = Abi {
    arch: 0x4000_0003,
    name: "i386",
    is_32_bit: true,
    exec: [11, 358],
    connect: 362,
    accept: &[364],
    socketcall: Some(102),
};
const AARCH64: Abi = Abi {
    arch: 0xC000_00B7,
    name: "aarch64",
    is_32_bit: false,
    exec: [221, 281],
    connect: 203,
    accept: &[202, 242],
    socketcall: None,
};
const ARM: Abi = Abi {
    arch: 0x4000_0028,
    name: "arm",
    is_32_bit: true,
    exec: [11, 387],
    connect: 283,
    accept: &[285, 366],
    socketcall: None,
};
const RISCV64: Abi = Abi {
    arch: 0xC000_00F3,
    name: "riscv64",
    is_32_bit: false,
    exec: [221, 281],
    connect: 203,
    accept: &[202, 242],
    socketcall: None,
};

/// All of them, for reading records.
const ALL: [&Abi; 5] = [&X86_64, &I386, &AARCH64, &ARM, &RISCV64];

/// The ABIs of a machine that `uname` calls `machine`; none if it is not known here. A 32-bit name may come from a
/// 64-bit kernel that pretends (`setarch`), and a rule for an ABI that the kernel lacks matches nothing, so both are
/// always given.
#[must_use]
pub fn of_machine(machine: &str) -> &'static [&'static Abi] {
    match machine {
        "x86_64" | "i386" | "i486" | "i586" | "i686" => &[&X86_64, &I386],
        "aarch64" => &[&AARCH64, &ARM],
        "riscv64" => &[&RISCV64],
        _ if machine.starts_with("armv") => &[&AARCH64, &ARM],
        _ => &[],
    }
}

/// The ABI of a record.
#[must_use]
pub fn of_record(arch: u32) -> Option<&'static Abi> {
    ALL.into_iter().find(|abi| abi.arch == arch)
}

/// What a watched call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Starts a program.
    Exec,
    /// Connects a socket.
    Connect,
    /// Takes a connection.
    Accept,
}

impl Abi {
    /// What call `number` does, with its first argument `first`; `None` if it is not watched.
    #[must_use]
    pub fn call(&self, number: u32, first: u64) -> Option<Call> {
        if self.exec.contains(&number) {
            Some(Call::Exec)
        } else if number == self.connect {
            Some(Call::Connect)
        } else if self.accept.contains(&number) {
            Some(Call::Accept)
        } else if self.socketcall == Some(number) {
            match u32::try_from(first).ok()? {
                SOCKETCALL_CONNECT => Some(Call::Connect),
                kind if SOCKETCALL_ACCEPT.contains(&kind) => Some(Call::Accept),
                _ => None,
            }
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_64_bit_machine_has_its_32_bit_calls_too() {
        let names = |machine| of_machine(machine).iter().map(|abi| abi.name).collect::<Vec<_>>();
        assert_eq!(names("x86_64"), ["x86_64", "i386"]);
        assert_eq!(names("aarch64"), ["aarch64", "arm"]);
        assert_eq!(names("armv6l"), names("aarch64"));
        assert_eq!(names("riscv64"), ["riscv64"]);
        assert_eq!(names("s390x"), Vec::<&str>::new());
    }

    #[test]
    fn a_call_is_known_by_its_abi() {
        let abi = |arch| of_record(arch).unwrap();
        assert_eq!(abi(0xC000_003E).call(59, 0), Some(Call::Exec));
        assert_eq!(abi(0x4000_0003).call(59, 0), None);
        assert_eq!(abi(0x4000_0003).call(102, 18), Some(Call::Accept));
        assert_eq!(abi(0x4000_0003).call(102, 3), Some(Call::Connect));
        assert_eq!(abi(0x4000_0003).call(102, 1), None);
        assert_eq!(abi(0x4000_0028).call(366, 0), Some(Call::Accept));
        assert!(of_record(0).is_none());
    }

    /// The machine that runs this test agrees with the table about `execve`.
    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    fn the_table_knows_this_machine() {
        assert_eq!(of_machine(std::env::consts::ARCH)[0].name, std::env::consts::ARCH);
    }
}
