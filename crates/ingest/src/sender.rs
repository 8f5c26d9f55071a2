//! Who sends events.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::extract::ConnectInfo;
use http::Extensions;
use thalweg_access::{Caller, NoGate, Principal, TokenId};
use thalweg_edge::client_of;

/// Who sends events: on whose word, and from where.
///
/// Nothing is admitted without one, so that no endpoint can forget to ask.
#[derive(Debug, Clone)]
pub struct Sender {
    /// On whose word.
    pub principal: Arc<Principal>,
    /// From where.
    pub address: IpAddr,
}

/// Whose limits a request counts against: those of a token wherever it is used, or else those of
/// the client it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    Token(TokenId),
    Address(IpAddr),
}

impl Sender {
    /// Who sends the request with these extensions.
    ///
    /// # Errors
    /// [`NoGate`] when nobody asked.
    pub fn of(extensions: &Extensions) -> Result<Self, NoGate> {
        let Caller(principal) = Caller::of(extensions)?;
        let address = extensions.get::<ConnectInfo<SocketAddr>>();
        let address = address.map_or(Ipv4Addr::UNSPECIFIED.into(), |client| client.0.ip());
        Ok(Self { principal, address })
    }

    /// Someone at `address` who needs no token, as with syslog; or this process itself.
    pub fn anyone(address: IpAddr) -> Self {
        Self { principal: Principal::anyone(), address }
    }

    pub(crate) fn client(&self) -> Client {
        match self.principal.token() {
            Some(token) => Client::Token(token),
            None => Client::Address(client_of(self.address)),
        }
    }
}
