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
        let address = self.own_listening_address()?;
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

    /// The address at which rank 0 listens, if this is its host.
    fn own_listening_address(&self) -> Result<IpAddr> {
        let Some(address) = self.own_address()? else {
            return self.host_address();
        };
        // Others learn from torchrun's store where rank 0 is; and an endpoint that is of no interface here, of a router that
        // passes on what comes for this host, say, is its user's to know.
        if !self.agent_store
            && let Ok(named) = self.addresses()
        {
            let here = self.here(&named)?;
            let is_at_home = self.is_name() && here.iter().all(IpAddr::is_loopback);
            if !here.is_empty() && !here.contains(&address) && !is_at_home {
                bail_user!(
                    "--interface: got {}, whose address is {address}, but others look for rank 0 at {} ({}); want the \
                     interface of that address, or --rdzv-endpoint with {address}",
                    self.interface.as_deref().unwrap_or_default(),
                    self.endpoint,
                    texts(&here).join(", ")
                );
            }
        }
        Ok(address)
    }

    /// Those of these addresses that are of this host.
    fn here(&self, named: &[SocketAddr]) -> Result<Vec<IpAddr>> {
        let own: Vec<IpAddr> = interfaces()?.into_iter().map(|(_, it)| it).collect();
        let named = named.iter().map(SocketAddr::ip);
        Ok(named
            .filter(|address| own.contains(address) || address.is_loopback())
            .collect())
    }

    /// Whether the endpoint has a name, which may be another address on each host: Debian's /etc/hosts has 127.0.1.1 for the
    /// host's own.
    fn is_name(&self) -> bool {
        let host = &self.endpoint.host;
        host != "localhost" && host.parse::<IpAddr>().is_err()
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
        let endpoint = &self.endpoint;
        let named = self.addresses()?;
        let own: Vec<IpAddr> = interfaces()?.into_iter().map(|(_, it)| it).collect();
        let here = self.here(&named)?;
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
        if first.is_loopback() && self.is_name() {
            // Others could not connect.
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

    /// The addresses at which rank 0 may be: where the name is this host's own, at home there, also that at which rank 0
    /// listens for other hosts.
    fn candidates(&self) -> Result<Vec<SocketAddr>> {
        let mut addresses = self.addresses()?;
        let is_home = addresses.iter().any(|it| it.ip().is_loopback());
        if is_home
            && self.is_name()
            && let Ok(listening) = self.own_listening_address()
        {
            addresses.push((listening, self.endpoint.port).into());
        }
        Ok(addresses)
    }

    /// The address at which rank 0 answers, as soon as it does.
    ///
    /// # Errors
    /// If it does not until the deadline.
    pub fn reach(&self, deadline: Instant) -> Result<SocketAddr> {
        loop {
            let error: Error = match self.candidates() {
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
    fn rank_0_is_reached_on_its_own_host_where_the_name_of_that_is_loopback() {
        // Not an address by its letters, as a name in Debian's /etc/hosts is none.
        let name = rendezvous("127.1", free());
        let outside = |(_, address): &(String, IpAddr)| !address.is_loopback() && address.is_ipv4();
        let interface = interfaces().unwrap().into_iter().find(outside);
        let rendezvous = Rendezvous {
            interface: interface.as_ref().map(|(name, _)| name.clone()),
            ..name
        };
        let listener = rendezvous.listen().unwrap();
        let listening = listener.local_addr().unwrap();
        assert_eq!(listening.ip().is_loopback(), interface.is_none());
        let reached = rendezvous.reach(Instant::now() + RELEASE).unwrap();
        assert_eq!(reached, listening);
    }

    #[test]
    fn endpoint_at_another_interface_than_the_one_that_is_named_is_refused() {
        let outside = |(_, address): &(String, IpAddr)| !address.is_loopback() && address.is_ipv4();
        let Some((interface, address)) = interfaces().unwrap().into_iter().find(outside) else {
            return; // a machine with no network
        };
        let rendezvous = Rendezvous {
            interface: Some(interface.clone()),
            ..rendezvous("127.0.0.1", free())
        };
        let error = rendezvous.listen().unwrap_err();
        let port = rendezvous.endpoint.port;
        let wanted = format!(
            "--interface: got {interface}, whose address is {address}, but others look for rank 0 at 127.0.0.1:{port} \
             (127.0.0.1); want the interface of that address, or --rdzv-endpoint with {address}"
        );
        assert_eq!(error.to_string(), wanted);
        // torchrun's store tells where rank 0 is.
        let agent_store = Rendezvous {
            agent_store: true,
            ..rendezvous
        };
        let listener = agent_store.listen().unwrap();
        assert_eq!(listener.local_addr().unwrap().ip(), address);
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
