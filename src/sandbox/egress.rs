//! No instance credentials: what programs inside can never reach, on the builder's network.
//!
//! BPF programs on the run's cgroup (version 2) refuse connecting and sending to the metadata addresses
//! (`connect4`, `connect6`, `sendmsg4`, `sendmsg6`: `EPERM`, at once), and drop every packet to them
//! (`egress`), whatever socket it came from. A socket belongs for life to the cgroup that it was made in, and
//! nothing inside can leave that cgroup: no cgroup filesystem is mounted there.
//!
//! Packets with IPv4 options or an IPv6 routing header are dropped too: such a header can name another first
//! hop (loose source routing, segment routing) and so hide where a packet ends.
//!
//! Not covered: a proxy on the builder itself that forwards to the metadata service for whoever asks.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;

use anyhow::{Result, bail};
use nix::errno::Errno;

use super::cgroup::Cgroup;
use crate::error::{Failure, Kind};
use crate::sys::bpf::{self, Instruction};
use crate::sys::net::udp_connect;

/// Where AWS serves credentials: the instance metadata service (EC2 User Guide, "Access instance metadata"),
/// the ECS agent's credentials endpoint (ECS Developer Guide, "Task IAM role") and the EKS Pod Identity agent.
pub const REFUSED_V4: &[Ipv4Addr] =
    &[Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(169, 254, 170, 2), Ipv4Addr::new(169, 254, 170, 23)];

/// The same by IPv6: metadata service (Nitro instances), EKS Pod Identity agent.
pub const REFUSED_V6: &[Ipv6Addr] =
    &[Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)];

// linux/bpf.h
const BPF_PROG_TYPE_CGROUP_SKB: u32 = 8;
const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
const BPF_CGROUP_INET_EGRESS: u32 = 1;
const BPF_CGROUP_INET4_CONNECT: u32 = 10;
const BPF_CGROUP_INET6_CONNECT: u32 = 11;
const BPF_CGROUP_UDP4_SENDMSG: u32 = 14;
const BPF_CGROUP_UDP6_SENDMSG: u32 = 15;
/// `struct bpf_sock_addr`: where the destination's words are.
const USER_IP4: i16 = 4;
const USER_IP6: i16 = 8;
const BPF_FUNC_SKB_LOAD_BYTES: i32 = 26;

/// Puts the guard on a run's cgroup.
///
/// # Errors
/// [`Kind::Host`] where this host cannot do it: a run is then refused rather than let out.
pub(super) fn guard(cgroup: Option<&Cgroup>) -> Result<()> {
    let lacking = |what: &str| {
        Failure::new(Kind::Host, format!("the metadata service cannot be kept from what runs inside: {what}")).hint(
            "mount cgroups of version 2 and run as root with CAP_BPF and CAP_NET_ADMIN, or give the step network = \"none\"",
        )
    };
    let Some(cgroup) = cgroup else { bail!(lacking("this host has mounted no cgroups of version 2")) };
    let programs = [
        (BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, address_program(false)),
        (BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP4_SENDMSG, address_program(false)),
        (BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_CONNECT, address_program(true)),
        (BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP6_SENDMSG, address_program(true)),
        (BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS, packet_program()),
    ];
    for (kind, attach_type, program) in programs {
        let loaded = bpf::load(&program, kind, attach_type, c"Apache-2.0").map_err(|(errno, log)| {
            anyhow::Error::msg(if log.is_empty() { errno.to_string() } else { format!("{errno}: {log}") })
                .context(lacking("a BPF program was refused"))
        })?;
        bpf::attach(loaded.as_fd(), cgroup.as_fd(), attach_type).map_err(|errno| {
            anyhow::Error::from(errno).context(lacking("a BPF program could not be attached"))
        })?;
    }
    Ok(())
}

/// Makes sure, from inside the cgroup, that the guard guards: a kernel can accept the programs and yet not run
/// them (before 5.15, where net_cls of version 1 was in use). A UDP socket is connected, which sends nothing.
pub(super) fn verify() -> Result<()> {
    let addresses = REFUSED_V4
        .iter()
        .map(|v4| SocketAddr::from((*v4, 80)))
        .chain(REFUSED_V4.iter().map(|v4| SocketAddr::from((v4.to_ipv6_mapped(), 80))))
        .chain(REFUSED_V6.iter().map(|v6| SocketAddr::from((*v6, 80))));
    for address in addresses {
        match udp_connect(address) {
            Err(Errno::EPERM) => {}
            // No IPv6 on this host at all.
            Err(Errno::EAFNOSUPPORT) if address.is_ipv6() => {}
            other => {
                let told = other.err().map_or("reachable".to_owned(), |errno| errno.to_string());
                bail!(
                    Failure::new(
                        Kind::Host,
                        format!("the metadata service's {} is not refused inside: {told}", address.ip())
                    )
                    .hint(
                        "this kernel does not run BPF programs of cgroups: use another, or network = \"none\""
                    )
                )
            }
        }
    }
    Ok(())
}

// --- A small assembler -----------------------------------------------------------------------------------
// Comparisons are 32 bits wide (BPF_JMP32): a 64-bit one would sign-extend its constant, and addresses with the
// top bit set would never be equal.

/// Jump targets by name, resolved at the end.
#[derive(Debug, Default)]
struct Assembler {
    code: Vec<Instruction>,
    /// Jumps that are still to be given their offset to the refusing end.
    to_refusal: Vec<usize>,
}

impl Assembler {
    fn emit(&mut self, code: u8, dst: u8, src: u8, offset: i16, immediate: i32) {
        self.code.push(Instruction { code, registers: dst | src << 4, offset, immediate });
    }

    /// `dst = *(u32 *)(src + offset)`
    fn load_word(&mut self, dst: u8, src: u8, offset: i16) {
        self.emit(0x61, dst, src, offset, 0);
    }

    /// `dst = *(u8 *)(src + offset)`
    fn load_byte(&mut self, dst: u8, src: u8, offset: i16) {
        self.emit(0x71, dst, src, offset, 0);
    }

    /// `dst = immediate`
    fn set(&mut self, dst: u8, immediate: i32) {
        self.emit(0xb7, dst, 0, 0, immediate);
    }

    /// Jumps over `skip` instructions unless the low 32 bits of `register` are `word`.
    fn skip_unless(&mut self, register: u8, word: u32, skip: i16) {
        self.emit(0x56, register, 0, skip, word.cast_signed());
    }

    /// Jumps to the refusing end if the low 32 bits of `register` are `word`.
    fn refuse_if(&mut self, register: u8, word: u32) {
        self.to_refusal.push(self.code.len());
        self.emit(0x16, register, 0, 0, word.cast_signed());
    }

    fn refuse(&mut self) {
        self.to_refusal.push(self.code.len());
        self.emit(0x05, 0, 0, 0, 0);
    }

    /// Answers 1 (allowed).
    fn allow(&mut self) {
        self.set(0, 1);
        self.emit(0x95, 0, 0, 0, 0);
    }

    /// Refuses if the four words of registers 2 to 5 are one of the addresses, as they stand in memory.
    fn refuse_addresses_v6(&mut self) {
        let mapped = |v4: &Ipv4Addr| v4.to_ipv6_mapped();
        // 64:ff9b::/96, what a NAT64 gateway takes for IPv4 (RFC 6052).
        let translated = |v4: &Ipv4Addr| {
            let [a, b, c, d] = v4.octets();
            let word = |high, low| u16::from_be_bytes([high, low]);
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, word(a, b), word(c, d))
        };
        let all = REFUSED_V6
            .iter()
            .copied()
            .chain(REFUSED_V4.iter().map(mapped))
            .chain(REFUSED_V4.iter().map(translated));
        for address in all {
            let [first, second, third, fourth] = words(address);
            self.skip_unless(2, first, 3);
            self.skip_unless(3, second, 2);
            self.skip_unless(4, third, 1);
            self.refuse_if(5, fourth);
        }
    }

    /// Adds the refusing end and resolves the jumps to it.
    fn finish(mut self) -> Vec<Instruction> {
        let end = self.code.len();
        for at in self.to_refusal {
            if let Some(jump) = self.code.get_mut(at) {
                jump.offset = i16::try_from(end - at - 1).unwrap_or(i16::MAX);
            }
        }
        // r0 = 0; exit
        self.code.push(Instruction { code: 0xb7, registers: 0, offset: 0, immediate: 0 });
        self.code.push(Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 });
        self.code
    }
}

/// The four words of an address as a load of this machine's byte order finds them in memory.
fn words(address: Ipv6Addr) -> [u32; 4] {
    let octets = address.octets();
    let word = |at: usize| {
        let mut bytes = [0; 4];
        for (byte, octet) in bytes.iter_mut().zip(octets.iter().skip(at)) {
            *byte = *octet;
        }
        u32::from_ne_bytes(bytes)
    };
    [word(0), word(4), word(8), word(12)]
}

/// For connect and sendmsg: r1 is `struct bpf_sock_addr`.
fn address_program(v6: bool) -> Vec<Instruction> {
    let mut program = Assembler::default();
    if v6 {
        for (register, offset) in [(2, 0), (3, 4), (4, 8), (5, 12)] {
            program.load_word(register, 1, USER_IP6 + offset);
        }
        program.refuse_addresses_v6();
    } else {
        program.load_word(2, 1, USER_IP4);
        for address in REFUSED_V4 {
            program.refuse_if(2, u32::from_ne_bytes(address.octets()));
        }
    }
    program.allow();
    program.finish()
}

/// For packets on their way out: r1 is `struct __sk_buff`, its data beginning with the IP header.
fn packet_program() -> Vec<Instruction> {
    let mut program = Assembler::default();
    // r6 = r1
    program.emit(0xbf, 6, 1, 0, 0);
    load_header(&mut program, 20);
    // r7 = first byte: version and, for IPv4, header length in words
    program.load_byte(7, 10, -40);
    // Version 4 with a header of other than 5 words, that is with options, falls through to the end's refusal.
    let v4_length = 1 + REFUSED_V4.len() + 2;
    program.skip_unless(7, 0x45, i16::try_from(v4_length).unwrap_or(0));
    program.load_word(2, 10, -40 + 16);
    for address in REFUSED_V4 {
        program.refuse_if(2, u32::from_ne_bytes(address.octets()));
    }
    program.allow();
    // r7 &= 0xf0
    program.emit(0x57, 7, 0, 0, 0xf0);
    program.skip_unless(7, 0x60, 1);
    // jump over the refusal
    program.emit(0x05, 0, 0, 1, 0);
    program.refuse();
    load_header(&mut program, 40);
    program.load_byte(2, 10, -40 + 6);
    // The routing header (43), and those that may stand before it: hop-by-hop (0), destination options (60).
    for next_header in [43, 0, 60] {
        program.refuse_if(2, next_header);
    }
    for (register, offset) in [(2, 24), (3, 28), (4, 32), (5, 36)] {
        program.load_word(register, 10, -40 + offset);
    }
    program.refuse_addresses_v6();
    program.allow();
    program.finish()
}

/// Copies the first `length` bytes of the packet to the stack, at r10 - 40; a shorter packet is refused.
fn load_header(program: &mut Assembler, length: i32) {
    // r1 = r6; r2 = 0; r3 = r10 - 40; r4 = length; call
    program.emit(0xbf, 1, 6, 0, 0);
    program.set(2, 0);
    program.emit(0xbf, 3, 10, 0, 0);
    program.emit(0x07, 3, 0, 0, -40);
    program.set(4, length);
    program.emit(0x85, 0, 0, 0, BPF_FUNC_SKB_LOAD_BYTES);
    program.skip_unless(0, 0, 1);
    program.emit(0x05, 0, 0, 1, 0);
    program.refuse();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_stays_within_its_program() {
        for program in [address_program(false), address_program(true), packet_program()] {
            for (at, instruction) in program.iter().enumerate() {
                if matches!(instruction.code, 0x05 | 0x16 | 0x56) {
                    let target = at as i64 + 1 + i64::from(instruction.offset);
                    assert!((0..program.len() as i64).contains(&target), "{at}: {instruction:?}");
                }
            }
            let [.., first, second] = program.as_slice() else { panic!("too short") };
            assert_eq!((first.code, first.immediate, second.code), (0xb7, 0, 0x95));
        }
    }

    #[test]
    fn mapped_addresses_are_compared_as_they_stand_in_memory() {
        let mapped = words(Ipv4Addr::new(169, 254, 169, 254).to_ipv6_mapped());
        assert_eq!(mapped[3], u32::from_ne_bytes([169, 254, 169, 254]));
        assert_eq!(mapped[2], u32::from_ne_bytes([0, 0, 0xff, 0xff]));
    }
}
