//! The gate of a listener: who comes in, and as whom.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, FromRequestParts, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{Extensions, StatusCode, header::EXPECT, request::Parts};
use http_body_util::BodyExt as _;

use crate::{
    access::Access,
    credential::{Credential, Malformed},
    denial::Denial,
    meters,
    principal::Principal,
    refusal::Refusal,
    scope::Scope,
};

/// Read of the body of a request that is not let in, so that its sender comes to read the answer.
const DISCARD_BYTES: usize = 1 << 20;
/// Time for that.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
/// Paths that senders ask for without credentials, to see whether a server is there.
const OPEN_PATHS: [&str; 2] = ["/services/collector/health", "/services/collector/health/1.0"];

/// Lets clients of one listener in.
#[derive(Clone)]
pub struct Gate {
    access: Arc<Access>,
    /// Whether only this machine can reach the listener.
    is_loopback: bool,
}

/// A layer's settings.
#[derive(Clone)]
struct Guard {
    gate: Gate,
    needed: Option<Scope>,
}

/// Who makes an HTTP request: what [`Gate::protect`] left for the handlers behind it.
#[derive(Debug, Clone)]
pub struct Caller(pub Arc<Principal>);

/// A request came past no gate: a mistake in the program, which must not let anyone in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this route has no access control; please report it")]
pub struct NoGate;

impl Gate {
    /// The gate of a listener at `address`.
    pub fn new(access: Arc<Access>, address: IpAddr) -> Self {
        Self { access, is_loopback: address.is_loopback() }
    }

    /// Whether a token is asked for. Without one, and only where none was ever created, this
    /// machine's own users do everything.
    pub fn asks_for_token(&self) -> bool {
        !self.is_loopback || self.access.has_tokens()
    }

    /// Whether only this machine can reach the listener.
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    /// The principal that a client at `address` proves to be with what it shows, if anything.
    ///
    /// # Errors
    /// [`Denial`].
    pub async fn admit(
        &self,
        shown: Option<&Credential>,
        address: IpAddr,
    ) -> Result<Arc<Principal>, Denial> {
        match shown {
            Some(credential) if self.access.has_tokens() => {
                self.access.authenticate(credential, address).await
            }
            _ if !self.asks_for_token() => Ok(Principal::anyone()),
            Some(_) => Err(Denial::Invalid),
            None => Err(Denial::Missing),
        }
    }

    /// Puts the gate before all `routes`: they need a token with the scope `needed`, or any token.
    /// Others are answered in the words of their protocol.
    pub fn protect(&self, routes: Router, needed: Option<Scope>) -> Router {
        let guard = Guard { gate: self.clone(), needed };
        routes.route_layer(middleware::from_fn_with_state(guard, pass))
    }
}

async fn pass(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let claim = guard.claim(&request);
    match guard.admit(claim).await {
        Ok(principal) => {
            request.extensions_mut().insert(Caller(principal));
            next.run(request).await
        }
        Err(denial) => {
            meters::denied(&denial);
            tracing::debug!(%denial, path = request.uri().path(), "request denied");
            let refusal = Refusal::of_request(&request);
            discard(request).await;
            refusal.answer(&denial)
        }
    }
}

/// What a request says of its sender.
enum Claim {
    /// The path is open to all.
    None,
    Shown {
        credential: Result<Option<Credential>, Malformed>,
        address: IpAddr,
    },
}

impl Guard {
    fn claim(&self, request: &Request) -> Claim {
        if OPEN_PATHS.contains(&request.uri().path()) {
            return Claim::None;
        }
        let credential = match Credential::of_request(request.headers()) {
            // A browser's or a proxy's own credentials do no harm where none are asked for.
            Err(_) if !self.gate.asks_for_token() => Ok(None),
            credential => credential,
        };
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
        // Without an address all clients are one: the strictest reading of the limits.
        let address = address.map_or(Ipv4Addr::UNSPECIFIED.into(), |client| client.0.ip());
        Claim::Shown { credential, address }
    }

    async fn admit(&self, claim: Claim) -> Result<Arc<Principal>, Denial> {
        let Claim::Shown { credential, address } = claim else { return Ok(Principal::anyone()) };
        let principal = self.gate.admit(credential?.as_ref(), address).await?;
        match self.needed {
            Some(needed) if !principal.may(needed) => {
                Err(Denial::Scope { name: principal.name().to_owned(), needed })
            }
            _ => Ok(principal),
        }
    }
}

/// Reads and drops some of the body.
async fn discard(request: Request) {
    // A sender that expects `100 Continue` has sent nothing yet.
    if request.headers().contains_key(EXPECT) {
        return;
    }
    let mut body: Body = request.into_body();
    let discarded = async {
        let mut bytes = 0;
        while bytes <= DISCARD_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes += frame.data_ref().map_or(0, |data| data.len());
        }
    };
    // Whether the sender made it in time, its answer is the same.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, discarded).await;
}

impl Caller {
    /// Who makes the request with these extensions.
    ///
    /// # Errors
    /// [`NoGate`].
    pub fn of(extensions: &Extensions) -> Result<Self, NoGate> {
        extensions.get::<Self>().cloned().ok_or(NoGate)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = NoGate;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, NoGate> {
        Self::of(&parts.extensions)
    }
}

impl IntoResponse for NoGate {
    fn into_response(self) -> Response {
        tracing::error!("{self}");
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string() + "\n").into_response()
    }
}
