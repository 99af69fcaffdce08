//! How connections are secured. Every listener and every dialler takes a [`Credentials`], so that TLS can come without
//! touching a call site (D19).

use std::{io, net::SocketAddr};

use tokio::net::TcpStream;

/// What secures the connections of this process. Today there is only plaintext: freely on the loopback interface,
/// elsewhere only where it was asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    is_plaintext_everywhere: bool,
}

/// Plaintext was not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is not a loopback address, and without TLS whoever can reach it can read and change everything"
)]
pub struct CredentialsError {
    /// Where it would have been spoken.
    pub address: SocketAddr,
}

impl Credentials {
    /// Plaintext; off the loopback interface only if `is_insecure_allowed` (`--insecure`).
    #[must_use]
    pub fn plaintext(is_insecure_allowed: bool) -> Credentials {
        Credentials { is_plaintext_everywhere: is_insecure_allowed }
    }

    /// Whether a listener may be opened at `address`, or something be said to it.
    pub fn check(&self, address: SocketAddr) -> Result<(), CredentialsError> {
        if self.is_plaintext_everywhere || address.ip().is_loopback() {
            Ok(())
        } else {
            Err(CredentialsError { address })
        }
    }

    /// Connects to `host:port`, without delay for small writes.
    pub async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let mut last_error = io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"));
        for resolved in tokio::net::lookup_host(address).await? {
            if let Err(error) = self.check(resolved) {
                last_error = io::Error::new(io::ErrorKind::PermissionDenied, error);
                continue;
            }
            match TcpStream::connect(resolved).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_leaves_the_machine_only_where_spelled_out() {
        let loopback: SocketAddr = "127.0.0.1:20160".parse().expect("an address");
        let outside: SocketAddr = "192.0.2.1:20160".parse().expect("an address");
        assert_eq!(Credentials::plaintext(false).check(loopback), Ok(()));
        assert_eq!(Credentials::plaintext(false).check(outside), Err(CredentialsError { address: outside }));
        assert_eq!(Credentials::plaintext(true).check(outside), Ok(()));
    }
}
