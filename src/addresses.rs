//! Where a client connects to, or a server listens: an address, several, or names, which a client resolves anew for each
//! connection.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use std::sync::Arc;

/// The addresses of a server. A client resolves a name anew for each connection, and so follows a service that moves.
///
/// What [`connect`](crate::Client::connect) and [`bind`](crate::ServerBuilder::bind) take is made into it: everything that
/// the standard library's [`ToSocketAddrs`] takes, and lists of addresses and of names. [`from_fn`](Self::from_fn) asks a
/// source of your own.
///
/// ```
/// use falcotcp_sync::Addresses;
/// use std::net::SocketAddr;
///
/// let name = Addresses::from("db.internal:7878");
/// let names = Addresses::from(["db-1.internal:7878", "db-2.internal:7878"]);
/// let replicas = Addresses::from(vec![SocketAddr::from(([10, 0, 0, 1], 7878)), SocketAddr::from(([10, 0, 0, 2], 7878))]);
/// let discovered = Addresses::from_fn("the registry", || Ok(vec![SocketAddr::from(([127, 0, 0, 1], 7878))]));
/// # let _ = (name, names, replicas, discovered);
/// ```
#[derive(Clone)]
pub struct Addresses {
    /// What errors call them.
    name: Arc<str>,
    resolve: Arc<Resolve>,
}

type Resolve = dyn Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync;

impl Addresses {
    /// Addresses from a source of your own, which is asked for each connection, on the thread that connects; of a shared client
    /// that is one in the background. Errors call it by `name`.
    pub fn from_fn(
        name: impl Into<String>,
        source: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into().into(), resolve: Arc::new(source) }
    }

    fn named(name: impl fmt::Display, addrs: impl ToSocketAddrs + Send + Sync + 'static) -> Self {
        Self::from_fn(name.to_string(), move || Ok(addrs.to_socket_addrs()?.collect()))
    }

    fn listed(addrs: Vec<SocketAddr>) -> Self {
        let names: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
        Self::from_fn(joined(&names), move || Ok(addrs.clone()))
    }

    /// Those of all names that resolve, in their order; what is wrong with each if none does.
    fn of_names<N: AsRef<str>>(names: &[N]) -> Self {
        if let [name] = names {
            return Self::from(name.as_ref());
        }
        let names: Vec<_> = names.iter().map(|name| name.as_ref().to_owned()).collect();
        Self::from_fn(joined(&names), move || {
            let (mut addrs, mut kind, mut failures) = (Vec::new(), io::ErrorKind::InvalidInput, Vec::new());
            for name in &names {
                match resolve_name(name) {
                    Ok(found) => addrs.extend(found),
                    Err(error) => {
                        kind = error.kind();
                        failures.push(format!("{name}: {error}"));
                    }
                }
            }
            if addrs.is_empty() && !failures.is_empty() {
                return Err(io::Error::new(kind, failures.join("; ")));
            }
            Ok(addrs)
        })
    }

    pub(crate) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let named = |kind, what: &dyn fmt::Display| io::Error::new(kind, format!("{}: {what}", self.name));
        let addrs = (self.resolve)()
            .map_err(|source| named(source.kind(), &format_args!("does not resolve: {source}")))?;
        let nothing = || named(io::ErrorKind::InvalidInput, &"resolves to no socket address");
        if addrs.is_empty() { Err(nothing()) } else { Ok(addrs) }
    }
}

/// What errors call a list.
fn joined(names: &[String]) -> String {
    if names.is_empty() { "an empty list".to_owned() } else { names.join(", ") }
}

fn resolve_name(name: &str) -> io::Result<Vec<SocketAddr>> {
    name.to_socket_addrs().map(Iterator::collect).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => io::Error::new(error.kind(), format!("{error} (it takes HOST:PORT)")),
        _ => error,
    })
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Addresses").field(&self.name).finish()
    }
}

impl From<&str> for Addresses {
    fn from(addr: &str) -> Self {
        let name = addr.to_owned();
        Self::from_fn(addr, move || resolve_name(&name))
    }
}

impl From<&&str> for Addresses {
    fn from(addr: &&str) -> Self {
        Self::from(*addr)
    }
}

impl From<String> for Addresses {
    fn from(addr: String) -> Self {
        Self::from(addr.as_str())
    }
}

impl From<&String> for Addresses {
    fn from(addr: &String) -> Self {
        Self::from(addr.as_str())
    }
}

impl From<(&str, u16)> for Addresses {
    fn from((host, port): (&str, u16)) -> Self {
        Self::named(format_args!("{host}:{port}"), (host.to_owned(), port))
    }
}

impl From<(String, u16)> for Addresses {
    fn from((host, port): (String, u16)) -> Self {
        Self::from((host.as_str(), port))
    }
}

impl From<SocketAddr> for Addresses {
    fn from(addr: SocketAddr) -> Self {
        Self::listed(vec![addr])
    }
}

impl From<&SocketAddr> for Addresses {
    fn from(addr: &SocketAddr) -> Self {
        Self::from(*addr)
    }
}

impl From<SocketAddrV4> for Addresses {
    fn from(addr: SocketAddrV4) -> Self {
        Self::from(SocketAddr::from(addr))
    }
}

impl From<SocketAddrV6> for Addresses {
    fn from(addr: SocketAddrV6) -> Self {
        Self::from(SocketAddr::from(addr))
    }
}

impl From<(IpAddr, u16)> for Addresses {
    fn from(addr: (IpAddr, u16)) -> Self {
        Self::from(SocketAddr::from(addr))
    }
}

impl From<(Ipv4Addr, u16)> for Addresses {
    fn from(addr: (Ipv4Addr, u16)) -> Self {
        Self::from(SocketAddr::from(addr))
    }
}

impl From<(Ipv6Addr, u16)> for Addresses {
    fn from(addr: (Ipv6Addr, u16)) -> Self {
        Self::from(SocketAddr::from(addr))
    }
}

impl From<Vec<SocketAddr>> for Addresses {
    fn from(addrs: Vec<SocketAddr>) -> Self {
        Self::listed(addrs)
    }
}

impl From<&Vec<SocketAddr>> for Addresses {
    fn from(addrs: &Vec<SocketAddr>) -> Self {
        Self::listed(addrs.clone())
    }
}

impl From<&[SocketAddr]> for Addresses {
    fn from(addrs: &[SocketAddr]) -> Self {
        Self::listed(addrs.to_vec())
    }
}

impl<const N: usize> From<[SocketAddr; N]> for Addresses {
    fn from(addrs: [SocketAddr; N]) -> Self {
        Self::listed(addrs.to_vec())
    }
}

impl<const N: usize> From<&[SocketAddr; N]> for Addresses {
    fn from(addrs: &[SocketAddr; N]) -> Self {
        Self::listed(addrs.to_vec())
    }
}

impl<const N: usize> From<[&str; N]> for Addresses {
    fn from(names: [&str; N]) -> Self {
        Self::of_names(&names)
    }
}

impl From<&[&str]> for Addresses {
    fn from(names: &[&str]) -> Self {
        Self::of_names(names)
    }
}

impl From<Vec<&str>> for Addresses {
    fn from(names: Vec<&str>) -> Self {
        Self::of_names(&names)
    }
}

impl From<&[String]> for Addresses {
    fn from(names: &[String]) -> Self {
        Self::of_names(names)
    }
}

impl From<&Vec<String>> for Addresses {
    fn from(names: &Vec<String>) -> Self {
        Self::of_names(names)
    }
}

impl From<Vec<String>> for Addresses {
    fn from(names: Vec<String>) -> Self {
        Self::of_names(&names)
    }
}

impl From<&Addresses> for Addresses {
    fn from(addrs: &Addresses) -> Self {
        addrs.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_an_address_is_resolved_to_it() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 7878));
        let SocketAddr::V4(v4) = addr else { unreachable!("it is one of IPv4") };
        let text = addr.to_string();
        for addrs in [
            Addresses::from(addr),
            Addresses::from(&addr),
            Addresses::from(v4),
            Addresses::from(text.as_str()),
            Addresses::from(&text.as_str()),
            Addresses::from(&text),
            Addresses::from(("127.0.0.1", 7878)),
            Addresses::from(("127.0.0.1".to_owned(), 7878)),
            Addresses::from((addr.ip(), 7878)),
            Addresses::from((*v4.ip(), 7878)),
            Addresses::from(vec![addr]),
            Addresses::from([addr]),
            Addresses::from(&[addr]),
            Addresses::from(&[addr][..]),
            Addresses::from([text.as_str()]),
            Addresses::from(&[text.as_str()][..]),
            Addresses::from(vec![text.as_str()]),
            Addresses::from(&[text.clone()][..]),
            Addresses::from(&vec![text.clone()]),
            Addresses::from(vec![text.clone()]),
            Addresses::from(text),
        ] {
            assert_eq!(addrs.resolve().unwrap(), [addr]);
            assert!(format!("{addrs:?}").contains("127.0.0.1:7878"));
        }
    }

    #[test]
    fn what_does_not_resolve_is_named() {
        for (addrs, what) in [
            (Addresses::from("no-port"), "no-port: does not resolve: "),
            (Addresses::from("no-port"), "(it takes HOST:PORT)"),
            (Addresses::from(Vec::<SocketAddr>::new()), "an empty list: resolves to no socket address"),
            (Addresses::from(["no-port", "neither"]), "no-port, neither: does not resolve: no-port: "),
            (Addresses::from(["no-port", "neither"]), "; neither: "),
            (Addresses::from(["no-port"]), "no-port"),
            (Addresses::from(Vec::<String>::new()), "an empty list: resolves to no socket address"),
            (
                Addresses::from_fn("the registry", || Err(io::ErrorKind::NotFound.into())),
                "the registry: does not",
            ),
        ] {
            let error = addrs.resolve().unwrap_err().to_string();
            assert_eq!(error.matches(what).count(), 1, "{error}");
        }
        let own = Addresses::from_fn("the registry", || Err(io::ErrorKind::InvalidInput.into()));
        let error = own.resolve().unwrap_err().to_string();
        assert!(!error.contains("HOST:PORT"), "a source of one's own is told nothing of names: {error}");
    }

    #[test]
    fn names_that_do_not_resolve_leave_the_others() {
        let addrs = Addresses::from(["no-port", "127.0.0.1:7878"]).resolve().unwrap();
        assert_eq!(addrs, [SocketAddr::from(([127, 0, 0, 1], 7878))]);
    }
}
