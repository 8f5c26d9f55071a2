//! Verifies what clients show.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, OnceLock},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use argon2::password_hash::phc::PasswordHash;
use blake2::{
    Blake2sMac256,
    digest::{KeyInit as _, Mac as _},
};
use metrics::gauge;
use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use crate::{
    credential::Credential,
    denial::Denial,
    failures::Failures,
    file::{TokenFile, TokenFileError, TokenRecord},
    hash, meters,
    principal::Principal,
    token::{TokenId, is_secret},
};

/// How often the token file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Hashes computed at once: others have work for the processors too.
const MAX_CHECKS_AT_ONCE: usize = 2;
/// Tokens whose hash is computed or waited for; more are refused.
const MAX_CHECKS: usize = 1024;
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// The valid tokens, and what verifying them may cost.
///
/// Only the first time that a token is shown is its Argon2 hash computed. From then on the keyed
/// digest of the right secret is known, and any other secret is known to be wrong: guessing costs
/// the server no more than hashing a few bytes. Hashes computed for tokens not seen yet are
/// bounded in number, and a client that is wrong too often is refused unseen.
pub struct Access {
    file: TokenFile,
    tokens: ArcSwap<Tokens>,
    seen: Mutex<Seen>,
    digest_key: [u8; 32],
    /// Permits of [`MAX_CHECKS`], each for a token whose hash is computed or waited for.
    waiting: Semaphore,
    computing: Arc<Semaphore>,
    failures: Failures,
}

type Seen = Option<(u64, u64, i64, i64)>;
type Digest = [u8; 32];

/// The tokens in the file; `None` when there never was one.
type Tokens = Option<HashMap<TokenId, Arc<Known>>>;

/// A valid token.
struct Known {
    principal: Arc<Principal>,
    record: TokenRecord,
    /// Digest of the right secret, once it was shown.
    verified: OnceLock<Digest>,
    /// Whose turn it is to be verified: when it is the right one, the others need not be.
    turn: tokio::sync::Mutex<()>,
}

impl Access {
    /// Reads the tokens in `file`.
    ///
    /// # Errors
    /// [`TokenFileError`] when they cannot be read; no token in use is forgotten silently.
    pub fn open(file: TokenFile) -> Result<Arc<Self>, TokenFileError> {
        let at_once = available_parallelism().map_or(1, usize::from).min(MAX_CHECKS_AT_ONCE);
        meters::describe(MAX_CHECKS, at_once);
        let mut digest_key = [0; 32];
        getrandom::fill(&mut digest_key)
            .map_err(|error| TokenFileError::Refused(format!("no randomness: {error}")))?;
        let seen = file.look();
        let tokens = known(&None, file.read()?);
        Ok(Arc::new(Self {
            file,
            tokens: ArcSwap::from_pointee(tokens),
            seen: Mutex::new(seen),
            digest_key,
            waiting: Semaphore::new(MAX_CHECKS),
            computing: Arc::new(Semaphore::new(at_once)),
            failures: Failures::default(),
        }))
    }

    /// Whether a token was ever created. From then on one is asked for, even if the last one was
    /// revoked since.
    pub fn has_tokens(&self) -> bool {
        self.tokens.load().is_some()
    }

    /// The principal that `credential` proves, shown by a client at `address`.
    ///
    /// # Errors
    /// [`Denial::Invalid`]; [`Denial::Busy`] when it cannot be told now.
    pub async fn authenticate(
        &self,
        credential: &Credential,
        address: IpAddr,
    ) -> Result<Arc<Principal>, Denial> {
        if !is_secret(&credential.secret) {
            return Err(Denial::Invalid);
        }
        let tokens = self.tokens.load_full();
        let known = tokens.as_ref().as_ref().and_then(|tokens| tokens.get(&credential.id));
        let Some(known) = known else { return Err(Denial::Invalid) };
        let digest = self.digest(&credential.secret);
        if known.verified.get().is_none() {
            self.compute(known, &credential.secret, digest, address).await?;
        }
        match known.verified.get() {
            Some(verified) if bool::from(verified.ct_eq(&digest)) => {
                Ok(Arc::clone(&known.principal))
            }
            _ => Err(Denial::Invalid),
        }
    }

    /// Computes the hash of `secret`; remembers its digest if it is the right one.
    async fn compute(
        &self,
        known: &Arc<Known>,
        secret: &str,
        digest: Digest,
        address: IpAddr,
    ) -> Result<(), Denial> {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(Denial::Busy(BUSY_RETRY));
        };
        let _count = Count::new();
        let _turn = known.turn.lock().await;
        if known.verified.get().is_some() {
            return Ok(());
        }
        let computing = Arc::clone(&self.computing).acquire_owned().await;
        self.failures.spend(address, Instant::now()).map_err(Denial::Busy)?;
        let (checked, secret) = (Arc::clone(known), secret.to_owned());
        let computed = tokio::task::spawn_blocking(move || {
            // Kept until the end, whether the client stays or not: it is memory.
            let _computing = computing;
            let hash = PasswordHash::new(&checked.record.hash);
            if hash.is_ok_and(|hash| hash::verify(&secret, &hash)) {
                checked.verified.get_or_init(|| digest);
            }
        });
        // A panic leaves the token unverified.
        let _ = computed.await;
        if known.verified.get().is_some() {
            self.failures.refund(address);
        }
        Ok(())
    }

    /// A digest that tells secrets apart, and from which nobody without the key learns anything.
    fn digest(&self, secret: &str) -> Digest {
        let mut mac = Blake2sMac256::new_from_slice(&self.digest_key)
            .expect("32 bytes are a key of BLAKE2s (RFC 7693 §2.1)");
        mac.update(secret.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Reads the file again if it has changed since it was last read; says whether it was. The
    /// tokens stay as they are when it cannot be read, or is gone.
    ///
    /// # Errors
    /// [`TokenFileError`], once for each change.
    pub fn reload_if_changed(&self) -> Result<bool, TokenFileError> {
        let mut seen = self.seen.lock();
        let now = self.file.look();
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        let Some(records) = self.file.read()? else {
            let path = self.file.path().to_owned();
            let reason = std::io::ErrorKind::NotFound.into();
            return Err(TokenFileError::Io { path, reason });
        };
        let tokens = known(&self.tokens.load(), Some(records));
        self.tokens.store(Arc::new(tokens));
        Ok(true)
    }

    /// Reads the file again whenever it changes, so that tokens created and revoked by another
    /// process are known within a second; never returns.
    pub async fn keep_current(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let access = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || access.reload_if_changed()).await {
                Ok(Ok(false)) | Err(_) => {}
                Ok(Ok(true)) => tracing::info!("tokens have changed and were read again"),
                Ok(Err(error)) => {
                    tracing::error!(%error, "tokens have changed; those read before stay valid");
                }
            }
        }
    }
}

/// Counts a check for as long as it is waited for.
struct Count;

impl Count {
    fn new() -> Self {
        gauge!(meters::CHECKS).increment(1);
        Self
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        gauge!(meters::CHECKS).decrement(1);
    }
}

/// The tokens of `records`; those that are as `before` need not be verified again.
fn known(before: &Tokens, records: Option<Vec<TokenRecord>>) -> Tokens {
    let records = records?;
    meters::tokens(records.len());
    let known = records.into_iter().map(|record| {
        let before = before.as_ref().and_then(|tokens| tokens.get(&record.id));
        if let Some(same) = before.filter(|before| before.record == record) {
            return (record.id, Arc::clone(same));
        }
        let services = record.services.clone().map(Arc::new);
        let principal =
            Principal::of_token(record.id, record.name.clone(), record.scopes, services);
        let principal = Arc::new(principal);
        (
            record.id,
            Arc::new(Known {
                principal,
                record,
                verified: OnceLock::new(),
                turn: Default::default(),
            }),
        )
    });
    Some(known.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewToken, Scope, Token, failures};

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn new(name: &str) -> NewToken {
        NewToken { name: name.into(), scopes: [Scope::Query].into_iter().collect(), services: None }
    }

    fn shown(token: &Token) -> Credential {
        token.to_string().parse().unwrap()
    }

    fn wrong(token: &Token) -> Credential {
        Credential { id: token.id, secret: "a".repeat(32) }
    }

    fn file() -> (tempfile::TempDir, TokenFile) {
        let directory = tempfile::tempdir().unwrap();
        let file = TokenFile::in_directory(directory.path());
        (directory, file)
    }

    #[tokio::test]
    async fn a_token_is_known_by_its_secret_and_by_no_other() {
        let (_directory, file) = file();
        let token = file.create(new("a")).unwrap();
        let access = Access::open(file).unwrap();
        for _ in 0..2 {
            let invalid = access.authenticate(&wrong(&token), CLIENT).await;
            assert_eq!(invalid, Err(Denial::Invalid));
            let principal = access.authenticate(&shown(&token), CLIENT).await.unwrap();
            assert_eq!((principal.name(), principal.token()), ("a", Some(token.id)));
        }
        let other = Credential { id: "aaaaaaaa".parse().unwrap(), ..shown(&token) };
        assert_eq!(access.authenticate(&other, CLIENT).await, Err(Denial::Invalid));
    }

    #[tokio::test]
    async fn once_a_token_was_shown_guessing_computes_nothing_and_locks_nobody_out() {
        let (_directory, file) = file();
        let token = file.create(new("a")).unwrap();
        let access = Access::open(file).unwrap();
        access.authenticate(&shown(&token), CLIENT).await.unwrap();
        access.computing.close();
        for _ in 0..1000 {
            let guess = access.authenticate(&wrong(&token), CLIENT).await;
            assert_eq!(guess, Err(Denial::Invalid));
        }
        access.authenticate(&shown(&token), CLIENT).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_guesses_a_new_token_is_soon_refused_unseen() {
        let (_directory, file) = file();
        let token = file.create(new("a")).unwrap();
        let access = Access::open(file).unwrap();
        let mut guesses = 0;
        while access.authenticate(&wrong(&token), CLIENT).await == Err(Denial::Invalid) {
            guesses += 1;
        }
        assert!((failures::BURST..10 * failures::BURST).contains(&guesses), "{guesses}");
        // Its holder elsewhere does not notice, and from then on the guesser learns nothing more.
        access.authenticate(&shown(&token), IpAddr::from([10, 9, 9, 9])).await.unwrap();
        assert_eq!(access.authenticate(&wrong(&token), CLIENT).await, Err(Denial::Invalid));
        access.authenticate(&shown(&token), CLIENT).await.unwrap();
    }

    #[tokio::test]
    async fn many_who_show_a_new_token_at_once_wait_for_one_computation() {
        let (_directory, file) = file();
        let token = file.create(new("a")).unwrap();
        let access = Access::open(file).unwrap();
        let all = (0..200).map(|_| {
            let (access, credential) = (Arc::clone(&access), shown(&token));
            tokio::spawn(async move { access.authenticate(&credential, CLIENT).await })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn tokens_created_and_revoked_elsewhere_are_noticed_and_a_bad_file_changes_nothing() {
        let (_directory, file) = file();
        let access = Access::open(file.clone()).unwrap();
        assert!(!access.has_tokens());
        let first = file.create(new("a")).unwrap();
        assert!(access.reload_if_changed().unwrap());
        assert!(access.has_tokens());
        access.authenticate(&shown(&first), CLIENT).await.unwrap();

        let second = file.create(new("b")).unwrap();
        file.revoke("a").unwrap();
        assert!(access.reload_if_changed().unwrap());
        assert!(!access.reload_if_changed().unwrap());
        assert_eq!(access.authenticate(&shown(&first), CLIENT).await, Err(Denial::Invalid));
        access.authenticate(&shown(&second), CLIENT).await.unwrap();

        std::fs::write(file.path(), "{").unwrap();
        assert!(access.reload_if_changed().is_err());
        access.authenticate(&shown(&second), CLIENT).await.unwrap();
        std::fs::remove_file(file.path()).unwrap();
        assert!(access.reload_if_changed().is_err());
        assert!(access.has_tokens(), "a lost file must not open the server");
    }
}
