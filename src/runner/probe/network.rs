//! Networks and kinds of sockets that must not be there.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::errno::Errno;
use nix::libc;

use super::Row;
use super::sys::{self, Arg};

/// By the filter, and by a kernel that lacks the family or what it needs.
const NO_FAMILY: [Errno; 3] = [Errno::EPERM, Errno::ENOSYS, Errno::EAFNOSUPPORT];
/// Families that programs may use.
const ALLOWED: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
/// Families are tried up to this number; the kernel's last is 45.
const LAST_FAMILY: i32 = 50;
/// The metadata service of clouds, the Engine's gateway, private and public networks.
const ADDRESSES: [&str; 11] = [
    "169.254.169.254:80",
    "172.17.0.1:2375",
    "10.0.0.1:80",
    "192.168.0.1:80",
    "1.1.1.1:53",
    "192.0.2.1:80",
    "224.0.0.1:80",
    "[fd00:ec2::254]:80",
    "[2606:4700:4700::1111]:53",
    "[2001:db8::1]:80",
    "[fd12:3456::1]:80",
];

/// Kernel protocols behind an allowed family: their numbers are past those that fit an IP header.
const PROTOCOLS: [(&str, i32); 2] = [("IPPROTO_SMC", 256), ("IPPROTO_MPTCP", libc::IPPROTO_MPTCP)];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = families();
    for (name, family) in [("AF_INET", libc::AF_INET), ("AF_INET6", libc::AF_INET6)] {
        let args = [family, libc::SOCK_RAW, libc::IPPROTO_ICMP].map(|it| Arg::Number(it.into()));
        let answer = sys::call(libc::SYS_socket, &args);
        rows.push(Row::refused("sockets", format!("socket({name}, SOCK_RAW)"), answer, &NO_FAMILY));
        for (protocol, number) in PROTOCOLS {
            let args = [family, libc::SOCK_STREAM, number].map(|it| Arg::Number(it.into()));
            let answer = sys::call(libc::SYS_socket, &args);
            rows.push(Row::refused("sockets", format!("socket({name}, {protocol})"), answer, &NO_FAMILY));
        }
    }
    rows.extend(ADDRESSES.iter().map(|address| reach(address)));
    rows.push(interfaces());
    rows
}

fn families() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in (0..=LAST_FAMILY).filter(|family| !ALLOWED.contains(family)) {
        // A type that few families have: one that is let through says so, and does no more.
        let args = [family, libc::SOCK_SEQPACKET, 0].map(|it| Arg::Number(it.into()));
        let answer = sys::call(libc::SYS_socket, &args);
        rows.push(Row::refused("sockets", format!("socket({})", family_name(family)), answer, &NO_FAMILY));
        if family_name(family).starts_with("AF_") {
            let answer = sys::call(libc::SYS_socketpair, &args);
            let name = format!("socketpair({})", family_name(family));
            rows.push(Row::refused("sockets", name, answer, &NO_FAMILY));
        }
    }
    rows
}

/// Names of those that holes were found in; the others by number.
fn family_name(family: i32) -> String {
    let name = match family {
        libc::AF_NETLINK => "AF_NETLINK",
        libc::AF_PACKET => "AF_PACKET",
        libc::AF_ALG => "AF_ALG",
        libc::AF_VSOCK => "AF_VSOCK",
        libc::AF_CAN => "AF_CAN",
        libc::AF_TIPC => "AF_TIPC",
        libc::AF_RDS => "AF_RDS",
        libc::AF_BLUETOOTH => "AF_BLUETOOTH",
        libc::AF_XDP => "AF_XDP",
        libc::AF_KEY => "AF_KEY",
        43 => "AF_SMC",
        45 => "AF_MCTP",
        _ => return family.to_string(),
    };
    name.to_owned()
}

/// Connecting a datagram socket asks for a route and sends nothing.
fn reach(address: &str) -> Row {
    const UNREACHABLE: [Errno; 6] = [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::ENETDOWN,
        Errno::EADDRNOTAVAIL,
        Errno::EACCES,
        Errno::EAFNOSUPPORT,
    ];
    let connected = address.parse().map_err(|_| Errno::EINVAL).and_then(|address: SocketAddr| {
        let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).map_err(errno)?;
        socket.connect(address).map_err(errno)
    });
    Row::fails("network", format!("connect to {address}"), connected, &UNREACHABLE)
}

pub(super) fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

/// Only the loopback interface, and those that the kernel makes in every network namespace, which lead nowhere.
fn interfaces() -> Row {
    const NOWHERE: [&str; 10] =
        ["lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"];
    let name = "a network interface beside lo";
    let Ok(text) = std::fs::read_to_string("/proc/net/dev") else {
        return Row::new("network", name, super::Outcome::Unknown, "/proc/net/dev can't be read");
    };
    let names = text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    let more: Vec<_> = names.filter(|name| !NOWHERE.contains(name)).collect();
    Row::holds("network", name, more.is_empty(), more.join(", "))
}
