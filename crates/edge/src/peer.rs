//! Who is at the other end of a connection.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The other end of a connection; HTTP handlers find it among the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
    /// Its certificate, verified, where client certificates are asked for.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// Whom a client's certificate was issued to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Common name of the subject.
    pub common_name: Option<String>,
    /// DNS names among the subject's alternative names.
    pub dns_names: Vec<String>,
}

impl ClientCertificate {
    /// Reads a certificate that has been verified; `None` when it cannot be read.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        Some(Self {
            common_name: common_name(certificate.subject()).map(str::to_owned),
            dns_names: certificate.valid_dns_names().map(str::to_owned).collect(),
        })
    }
}

/// The common name within the DER of a distinguished name (RFC 5280 §4.1.2.4).
fn common_name(subject: &[u8]) -> Option<&str> {
    /// Object identifier 2.5.4.3 with its tag and length.
    const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
    /// Tags of UTF8String, PrintableString and IA5String.
    const TEXT_TAGS: [u8; 3] = [0x0c, 0x13, 0x16];
    let at = subject.windows(COMMON_NAME.len()).position(|window| window == COMMON_NAME)?;
    // A name has at most 64 characters (`ub-common-name`): its length fits the short form.
    let [tag, length @ 0..=127, text @ ..] = subject.get(at + COMMON_NAME.len()..)? else {
        return None;
    };
    let text = text.get(..usize::from(*length)).filter(|_| TEXT_TAGS.contains(tag))?;
    std::str::from_utf8(text).ok()
}

/// The client that an address belongs to, as its first address: an IPv4 address, or the /64
/// network of an IPv6 address, which is what one subscriber is given (RFC 6177).
pub fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let client = |text: &str| client_of(text.parse().unwrap());
        assert_eq!(client("2001:db8::1:2"), client("2001:db8::ffff:0:0:3"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
        assert_ne!(client("10.0.0.1"), client("10.0.0.2"));
    }

    #[test]
    fn the_common_name_is_found_and_garbage_is_not() {
        let name = [&[0x30, 14, 0x31, 12, 0x30, 10, 0x06, 3, 0x55, 4, 3, 0x0c, 3][..], b"abc"];
        assert_eq!(common_name(&name.concat()), Some("abc"));
        for cut in 0..name.concat().len() {
            assert_eq!(common_name(&name.concat()[..cut]), None);
        }
    }
}
