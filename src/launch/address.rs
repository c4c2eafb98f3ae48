//! The addresses at which rank 0 listens and the others find it.

use super::{Endpoint, Rendezvous};
use crate::{bail_user, user_error};
use anyhow::{Context, Error, Result, anyhow};
use nix::ifaddrs::getifaddrs;
use std::io::ErrorKind;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket,
};
use std::thread;
use std::time::{Duration, Instant};

/// How long a host may take to answer before the next of its addresses is tried.
const CONNECT: Duration = Duration::from_secs(3);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the socket of a process that was here before may still be open.
const RELEASE: Duration = Duration::from_secs(10);

impl Rendezvous {
    /// The socket at which rank 0 waits for the others. It listens at one address of this host, the one that the endpoint
    /// or the interface names: c10d knows no passwords. Where torchrun's store is at the endpoint, the port is any that is
    /// free, and the address may be that of the route to another host.
    ///
    /// # Errors
    /// A user error if this is not the endpoint's host, or the port is taken.
    pub fn listen(&self) -> Result<TcpListener> {
        let address = match self.own_address()? {
            Some(address) => address,
            None => self.host_address()?,
        };
        let port = match self.agent_store {
            true => 0,
            false => self.endpoint.port,
        };
        let deadline = Instant::now() + RELEASE;
        loop {
            let error = match TcpListener::bind((address, port)) {
                Ok(listener) => return Ok(listener),
                Err(error) => error,
            };
            if error.kind() != ErrorKind::AddrInUse {
                return Err(error).with_context(|| {
                    format!("failed to listen at {address}, port {port}, for the other ranks")
                });
            }
            if Instant::now() >= deadline {
                bail_user!(
                    "--rdzv-endpoint: got {}, whose port another process of this host has; want one that is free",
                    self.endpoint
                );
            }
            thread::sleep(PAUSE);
        }
    }

    /// The address of this host's interface, if one is named.
    ///
    /// # Errors
    /// A user error if there is none of this name, or it has no address.
    pub fn own_address(&self) -> Result<Option<IpAddr>> {
        let Some(name) = &self.interface else {
            return Ok(None);
        };
        let interfaces = interfaces()?;
        let found = interfaces.iter().filter(|(interface, _)| interface == name);
        // IPv4 first, as names of hosts mostly mean it.
        let address = found
            .map(|&(_, address)| address)
            .min_by_key(IpAddr::is_ipv6);
        let address = address.ok_or_else(|| {
            let mut names: Vec<&str> = interfaces.iter().map(|(name, _)| &**name).collect();
            names.dedup();
            user_error!(
                "--interface: got {name}, which has no address on this host; want one of {}",
                names.join(", ")
            )
        })?;
        Ok(Some(address))
    }

    /// The address of this host that the endpoint names. Where torchrun's store is there, which may be on another host, also that
    /// by which others reach this one who reach the store.
    fn host_address(&self) -> Result<IpAddr> {
        let (host, endpoint) = (&self.endpoint.host, &self.endpoint);
        let named = self.addresses()?;
        let own: Vec<IpAddr> = interfaces()?.into_iter().map(|(_, it)| it).collect();
        let here =
            |address: &&SocketAddr| own.contains(&address.ip()) || address.ip().is_loopback();
        let here: Vec<IpAddr> = named.iter().filter(here).map(SocketAddr::ip).collect();
        let Some(&first) = here.iter().min_by_key(|address| address.is_loopback()) else {
            if self.agent_store
                && let Some(store) = named.first()
            {
                return route_to(*store);
            }
            bail_user!(
                "--rdzv-endpoint: got {endpoint}, which is no address of this host, where rank 0 is; want one of {}",
                texts(&own).join(", ")
            );
        };
        let is_literal = host.parse::<IpAddr>().is_ok() || host == "localhost";
        if first.is_loopback() && !is_literal {
            // As Debian's /etc/hosts has it: others could not connect.
            let outside: Vec<IpAddr> = own.into_iter().filter(|it| !it.is_loopback()).collect();
            match outside[..] {
                [only] => return Ok(only),
                [] => {}
                _ => bail_user!(
                    "{endpoint} is {first} on this host, where other hosts cannot connect; want --interface with it, or \
                     an address: one of {}",
                    texts(&outside).join(", ")
                ),
            }
        }
        Ok(first)
    }

    /// The addresses that the endpoint's name has on this host.
    fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let Endpoint { host, port } = &self.endpoint;
        let addresses = (host.as_str(), *port).to_socket_addrs();
        let addresses = addresses.with_context(|| format!("failed to look up the host {host}"))?;
        Ok(addresses.collect())
    }

    /// The address at which rank 0 answers, as soon as it does.
    ///
    /// # Errors
    /// If it does not until the deadline.
    pub fn reach(&self, deadline: Instant) -> Result<SocketAddr> {
        loop {
            let error: Error = match self.addresses() {
                Ok(addresses) => {
                    let mut why = anyhow!("its name has no address");
                    for address in addresses {
                        match TcpStream::connect_timeout(&address, CONNECT) {
                            Ok(_) => return Ok(address),
                            Err(error) => why = error.into(),
                        }
                    }
                    why
                }
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                return Err(error).with_context(|| {
                    format!(
                        "rank 0 at {} does not answer within {} s",
                        self.endpoint, self.timeout_secs
                    )
                });
            }
            thread::sleep(PAUSE);
        }
    }
}

/// The address of this host on the route to another one.
///
/// # Errors
/// If there is no route.
pub fn route_to(address: SocketAddr) -> Result<IpAddr> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let route = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?; // sends nothing
        socket.local_addr()
    };
    let local = route().with_context(|| format!("no route to {address}"))?;
    Ok(local.ip())
}

/// This host's interfaces with their addresses.
fn interfaces() -> Result<Vec<(String, IpAddr)>> {
    let interfaces = getifaddrs().context("failed to list this host's network interfaces")?;
    let addressed = interfaces.filter_map(|it| {
        let address = it.address?;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        let v6 = address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip()));
        Some((it.interface_name, v4.or(v6)?))
    });
    Ok(addressed
        .filter(|(_, address)| !is_link_local(address))
        .collect())
}

/// Whether an address needs the name of an interface beside it.
fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(IpAddr::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendezvous(host: &str, port: u16) -> Rendezvous {
        Rendezvous {
            endpoint: Endpoint {
                host: host.into(),
                port,
            },
            agent_store: false,
            interface: None,
            id: "a".into(),
            timeout_secs: 5,
        }
    }

    /// A port that was free a moment ago.
    fn free() -> u16 {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().port()
    }

    #[test]
    fn rank_0_listens_at_the_endpoint_alone_and_is_reached_there() {
        for (host, interface) in [("127.0.0.1", None), ("localhost", Some("lo"))] {
            let rendezvous = Rendezvous {
                interface: interface.map(str::to_owned),
                ..rendezvous(host, free())
            };
            let listener = rendezvous.listen().unwrap();
            assert!(listener.local_addr().unwrap().ip().is_loopback());
            let reached = rendezvous.reach(Instant::now() + RELEASE).unwrap();
            assert_eq!(reached, listener.local_addr().unwrap());
        }
    }

    #[test]
    fn rank_0_listens_at_any_port_where_torchrun_has_the_one_of_the_endpoint() {
        let agent = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = agent.local_addr().unwrap().port();
        let rendezvous = Rendezvous {
            agent_store: true,
            ..rendezvous("127.0.0.1", port)
        };
        let listener = rendezvous.listen().unwrap().local_addr().unwrap();
        assert!(listener.ip().is_loopback());
        assert_ne!(listener.port(), port);
    }

    #[test]
    fn address_of_another_host_or_interface_is_refused() {
        // An address for documentation (RFC 5737), which no host has.
        let error = rendezvous("192.0.2.1", 29_500).listen().unwrap_err();
        let text = error.to_string();
        let wanted = "--rdzv-endpoint: got 192.0.2.1:29500, which is no address of this host, where rank 0 is; want one \
                      of 127.0.0.1";
        assert!(text.starts_with(wanted), "{text}");
        let rendezvous = Rendezvous {
            interface: Some("none".into()),
            ..rendezvous("localhost", 29_500)
        };
        let text = rendezvous.listen().unwrap_err().to_string();
        let wanted = "--interface: got none, which has no address on this host; want one of lo";
        assert!(text.starts_with(wanted), "{text}");
    }

    #[test]
    fn rank_0_that_is_not_there_is_an_error_with_the_reason() {
        let rendezvous = rendezvous("127.0.0.1", free());
        let error = rendezvous.reach(Instant::now()).unwrap_err();
        let text = format!("{error:#}");
        let port = rendezvous.endpoint.port;
        let wanted =
            format!("rank 0 at 127.0.0.1:{port} does not answer within 5 s: Connection refused");
        assert!(text.starts_with(&wanted), "{text}");
    }
}
