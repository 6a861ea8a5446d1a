//! Where a peer listens: `tcp://host:port`, the host a numeric address or `localhost`.
//!
//! Names are not resolved: a resolver would bring libc, files and threads into the client's side.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::str::FromStr;

/// What carries the frames. Shared memory and RDMA will be further variants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    Tcp,
}

/// A parsed address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Url {
    pub scheme: Scheme,
    pub address: SocketAddr,
}

/// Why a text is no URL of ours; its text names the remedy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlError {
    #[error("an address starts with tcp:// (as in tcp://127.0.0.1:4710)")]
    Scheme,
    #[error("an address ends with a port number (as in tcp://127.0.0.1:4710)")]
    Port,
    #[error("the host must be a numeric address or localhost (as in tcp://127.0.0.1:4710)")]
    Host,
}

impl Url {
    pub fn tcp(address: SocketAddr) -> Url {
        Url {
            scheme: Scheme::Tcp,
            address,
        }
    }

    /// Whether only processes of this node can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let rest = text.strip_prefix("tcp://").ok_or(UrlError::Scheme)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or(UrlError::Port)?;
        let port: u16 = port.parse().map_err(|_| UrlError::Port)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        let ip: IpAddr = match bare {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            _ => bare.parse().map_err(|_| UrlError::Host)?,
        };
        Ok(Url::tcp(SocketAddr::new(ip, port)))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Tcp => write!(f, "tcp://{}", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_prints_as_it_was_read() {
        for text in [
            "tcp://127.0.0.1:4710",
            "tcp://[::1]:1",
            "tcp://10.0.0.7:65535",
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), text);
        }
        let local: Url = "tcp://localhost:80/".parse().unwrap();
        assert_eq!(local.to_string(), "tcp://127.0.0.1:80");
        assert!(local.is_loopback());
    }

    #[test]
    fn a_wrong_address_names_its_wrong_part() {
        assert_eq!("127.0.0.1:1".parse::<Url>(), Err(UrlError::Scheme));
        assert_eq!("tcp://127.0.0.1".parse::<Url>(), Err(UrlError::Port));
        assert_eq!("tcp://127.0.0.1:99999".parse::<Url>(), Err(UrlError::Port));
        assert_eq!("tcp://example.org:80".parse::<Url>(), Err(UrlError::Host));
        assert_eq!("tcp://:80".parse::<Url>(), Err(UrlError::Host));
    }
}
