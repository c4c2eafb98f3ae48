//! The TCP sockets of this process, from /proc (<https://docs.kernel.org/networking/proc_net_tcp.html>).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::thread;
use std::time::Duration;

/// Between two looks at the system's table.
const AGAIN: Duration = Duration::from_millis(5);

/// A TCP socket of this process.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// Its number as a file, which no later socket of the system has for long.
    pub inode: u64,
    /// Its file descriptor.
    pub descriptor: RawFd,
    /// Where it listens, or its end of a connection.
    pub local: SocketAddr,
    /// The other end of a connection, as long as that stands.
    pub remote: Option<SocketAddr>,
}

/// All that are open now; what closes meanwhile may be left out.
///
/// # Errors
/// The system's, if it does not tell which there are.
pub fn open() -> io::Result<Vec<Socket>> {
    let mut addresses = HashMap::new();
    for table in ["tcp", "tcp6"] {
        let text = match fs::read_to_string(format!("/proc/self/net/{table}")) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue, // without IPv6
            text => text?,
        };
        addresses.extend(text.lines().filter_map(parse));
    }
    let descriptors = fs::read_dir("/proc/self/fd")?.flatten();
    let socket = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        let inode = inode.parse().ok()?;
        let &(local, remote) = addresses.get(&inode)?;
        Some(Socket {
            inode,
            descriptor: entry.file_name().to_str()?.parse().ok()?,
            local,
            remote,
        })
    };
    Ok(descriptors.filter_map(socket).collect())
}

/// The rank at the other end of one of these connections that has closed it since. The system's table may change while it is read, so two
/// looks must say so.
pub fn lost(connections: &[(Socket, usize)]) -> Option<usize> {
    let first = closed(connections)?;
    thread::sleep(AGAIN);
    closed(connections).filter(|second| *second == first)
}

fn closed(connections: &[(Socket, usize)]) -> Option<usize> {
    let stands = open()
        .ok()?
        .into_iter()
        .filter(|socket| socket.remote.is_some());
    let stands: HashSet<u64> = stands.map(|socket| socket.inode).collect();
    let closed = |(socket, _): &&(Socket, usize)| !stands.contains(&socket.inode);
    connections.iter().find(closed).map(|(_, rank)| *rank)
}

/// Inode and addresses of a line such as `0: 0100007F:1F90 0100007F:A1B2 01 0:0 0:0 0 0 0 4711 ...`; that of the other end in
/// state 1 alone, a connection that neither side has closed (include/net/tcp_states.h).
fn parse(line: &str) -> Option<(u64, (SocketAddr, Option<SocketAddr>))> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let local = address(words.get(1)?)?;
    let remote = address(words.get(2)?)?;
    let stands = *words.get(3)? == "01";
    Some((
        words.get(9)?.parse().ok()?,
        (local, stands.then_some(remote)),
    ))
}

/// The kernel writes an address as words of 32 bits, each as the number that its bytes are on this machine.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    if ip.len() == 8 {
        return Some((Ipv4Addr::from(word(0)?), port).into());
    }
    let mut bytes = [0; 16];
    for at in 0..4 {
        bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
    }
    let ip = Ipv6Addr::from(bytes);
    // A socket of IPv6 that speaks IPv4.
    Some((ip.to_canonical(), port).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::time::Instant;

    #[test]
    fn open_sockets_have_their_descriptor_and_address() {
        for ip in ["127.0.0.1", "::1"] {
            let Ok(listener) = TcpListener::bind((ip, 0)) else {
                assert_eq!(ip, "::1", "a machine without IPv6 alone may refuse");
                continue;
            };
            let local = listener.local_addr().unwrap();
            let own: Vec<Socket> = open()
                .unwrap()
                .into_iter()
                .filter(|socket| socket.descriptor == listener.as_raw_fd())
                .collect();
            assert_eq!(own.len(), 1);
            assert_eq!((own[0].local, own[0].remote), (local, None));
        }
    }

    #[test]
    fn connection_that_the_other_end_closes_is_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let near = TcpStream::connect(address).unwrap();
        let far = listener.accept().unwrap();
        let is_near = |socket: &Socket| socket.descriptor == near.as_raw_fd();
        let own: Vec<Socket> = open().unwrap().into_iter().filter(is_near).collect();
        assert_eq!(own[0].remote, Some(address));
        let own = [(own[0], 7)];
        assert_eq!(lost(&own), None);
        drop(far);
        // The kernel brings the news when it has time.
        let deadline = Instant::now() + Duration::from_secs(60);
        while lost(&own).is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(lost(&own), Some(7));
        drop(near);
        assert_eq!(lost(&own), Some(7));
    }
}
