//! Who a Postgres client is.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::auth::{
    DefaultServerParameterProvider, ServerParameterProvider, StartupHandler, finish_authentication,
    protocol_negotiation, save_startup_parameters_to_metadata,
};
use datafusion_postgres::pgwire::api::{
    ClientInfo, ConnectionHandle, ConnectionManager, METADATA_USER, PgWireConnectionState,
    PidSecretKeyGenerator, RandomPidSecretKeyGenerator,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::startup::Authentication;
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::{Sink, SinkExt};
use thalweg_access::{Credential, Denial, Gate, Principal, Scope};

use super::fatal;
use crate::pg_functions::POSTGRES_VERSION;

/// The login of one connection: by a token as the password, where one is asked for.
///
/// The password comes in clear text, so only over TLS or from this machine: with SCRAM and MD5 the
/// server would have to know more of the secret than its Argon2 hash.
pub(super) struct Login<'a> {
    gate: &'a Gate,
    manager: &'a Arc<ConnectionManager>,
    is_admitted: bool,
    principal: OnceLock<Arc<Principal>>,
}

impl<'a> Login<'a> {
    pub(super) fn new(
        gate: &'a Gate,
        manager: &'a Arc<ConnectionManager>,
        is_admitted: bool,
    ) -> Self {
        Self { gate, manager, is_admitted, principal: OnceLock::new() }
    }

    /// Who the client has proved to be.
    pub(super) fn principal(&self) -> Option<Arc<Principal>> {
        self.principal.get().cloned()
    }

    async fn welcome<C>(&self, client: &mut C, principal: Arc<Principal>) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !principal.may(Scope::Query) {
            let name = principal.name().to_owned();
            return Err(denied(&Denial::Scope { name, needed: Scope::Query }));
        }
        let (pid, secret) = RandomPidSecretKeyGenerator::default().generate(client);
        client.set_pid_and_secret_key(pid, secret);
        let (pid, secret) = client.pid_and_secret_key();
        let (handle, guard) = self.manager.register(pid, secret);
        client.session_extensions().insert::<Arc<ConnectionHandle>>(handle);
        client.session_extensions().insert(guard);
        finish_authentication(client, &Parameters).await?;
        let _ = self.principal.set(principal);
        Ok(())
    }
}

#[async_trait]
impl StartupHandler for Login<'_> {
    async fn on_startup<C>(
        &self,
        client: &mut C,
        message: PgWireFrontendMessage,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let address = client.socket_addr().ip();
        match (client.state(), message) {
            (PgWireConnectionState::AwaitingStartup, PgWireFrontendMessage::Startup(startup)) => {
                protocol_negotiation(client, &startup).await?;
                save_startup_parameters_to_metadata(client, &startup);
                if !self.is_admitted {
                    let text = "too many connections; close some or raise max_postgres_connections";
                    return Err(fatal("53300", text));
                }
                if !self.gate.asks_for_token() {
                    return self.welcome(client, Principal::anyone()).await;
                }
                if !client.is_secure() && !address.is_loopback() {
                    let text = "a password would cross the network in clear text; connect with \
                                sslmode=verify-full";
                    return Err(fatal("28000", text));
                }
                client.set_state(PgWireConnectionState::AuthenticationInProgress);
                let ask = Authentication::CleartextPassword;
                Ok(client.send(PgWireBackendMessage::Authentication(ask)).await?)
            }
            (
                PgWireConnectionState::AuthenticationInProgress,
                PgWireFrontendMessage::PasswordMessageFamily(password),
            ) => {
                let password = password.into_password()?.password;
                let user = client.metadata().get(METADATA_USER).cloned().unwrap_or_default();
                let shown = Credential::of_login(&user, &password);
                let admitted = match &shown {
                    None => Err(Denial::Invalid),
                    Some(shown) => self.gate.admit(Some(shown), address).await,
                };
                self.welcome(client, admitted.map_err(|denial| denied(&denial))?).await
            }
            _ => Err(fatal("08P01", "expected the startup message, and then a password")),
        }
    }
}

/// The denial as Postgres clients know it.
fn denied(denial: &Denial) -> PgWireError {
    metrics::counter!("thalweg_access_denied_total", "reason" => denial.kind()).increment(1);
    let code = match denial {
        Denial::Busy(_) => "53300",
        Denial::Scope { .. } => "42501",
        _ => "28P01",
    };
    let advice = match denial {
        Denial::Missing | Denial::Malformed(_) | Denial::Invalid => {
            "; the password is a token, tw_ID_SECRET, of any user"
        }
        _ => "",
    };
    fatal(code, format!("{denial}{advice}"))
}

/// Settings that clients read at the start.
struct Parameters;

impl ServerParameterProvider for Parameters {
    fn server_parameters<C: ClientInfo>(&self, client: &C) -> Option<HashMap<String, String>> {
        let mut defaults = DefaultServerParameterProvider::default();
        defaults.server_version = POSTGRES_VERSION.to_owned();
        defaults.is_superuser = false;
        defaults.default_transaction_read_only = true;
        defaults.server_parameters(client)
    }
}
