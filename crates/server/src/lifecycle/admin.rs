//! Loads and unloads models on request of an administrator, over gRPC or HTTP.

use std::{fmt, net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;

use crate::{
    auth::{Authenticator, client::Client},
    error::{ErrorReason, RequestError},
    models::info::ModelInfo,
};

/// A model to load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadRequest {
    /// The name that requests will use.
    pub name: String,
    /// The source: an embedded model, a folder in the folder of models, or a name on the hub.
    pub source: String,
    /// The device as in `--device`, or an empty string for the setting of the server.
    pub device: String,
    /// The number format as in `--dtype`, or an empty string for the setting of the server.
    pub dtype: String,
    /// The conventions as in `--conventions`, or an empty string for the setting of the server.
    pub conventions: String,
}

/// Loads and unloads models.
///
/// A future that is dropped before the change takes effect changes nothing.
pub trait ModelAdmin: Send + Sync + 'static {
    /// Loads a model. A model of the same name serves until the new one replaces it.
    fn load<'a>(&'a self, request: &'a LoadRequest) -> BoxFuture<'a, Result<Arc<ModelInfo>, RequestError>>;

    /// Unloads a model.
    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RequestError>>;
}

/// Access to [`ModelAdmin`] for administrators.
#[derive(Clone)]
pub struct Administration {
    /// The operations, or `None` if the setting `--admin` is off.
    pub admin: Option<Arc<dyn ModelAdmin>>,
    /// Authenticates clients.
    pub authenticator: Authenticator,
}

impl fmt::Debug for Administration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Administration").field("is_on", &self.admin.is_some()).finish_non_exhaustive()
    }
}

impl Administration {
    /// Returns the operations if `client`, connected from `peer`, is an administrator.
    ///
    /// An administrator has a key with `admin` set. If no keys are configured, every client on the
    /// local machine is an administrator.
    ///
    /// # Errors
    /// A [`RequestError`] if administration is off, or the client is not an administrator.
    pub fn authorize(
        &self,
        client: &Client,
        peer: Option<SocketAddr>,
    ) -> Result<&dyn ModelAdmin, RequestError> {
        let admin = self.admin.as_deref().ok_or_else(|| RequestError::new(ErrorReason::AdminOff))?;
        let is_local = || peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        if client.is_admin || (self.authenticator.is_open() && is_local()) {
            return Ok(admin);
        }
        Err(RequestError::new(ErrorReason::AdminRequired))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::{config::Settings, fair_share::Caller};

    struct FakeAdmin;

    impl ModelAdmin for FakeAdmin {
        fn load<'a>(&'a self, _: &'a LoadRequest) -> BoxFuture<'a, Result<Arc<ModelInfo>, RequestError>> {
            async { Ok(Arc::new(ModelInfo::for_test("demo", "demo"))) }.boxed()
        }

        fn unload<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), RequestError>> {
            async { Ok(()) }.boxed()
        }
    }

    /// Returns why a client is rejected, on a server with or without keys.
    fn rejection(has_keys: bool, is_admin: bool, peer: Option<&str>) -> Option<ErrorReason> {
        let mut settings = Settings::default().auth;
        if has_keys {
            settings.auth_keys = vec!["correct-horse".parse().unwrap()];
        }
        let authenticator = Authenticator::new(&settings).unwrap();
        let administration = Administration { admin: Some(Arc::new(FakeAdmin)), authenticator };
        let client = Client { is_admin, ..Client::anonymous(Caller::SERVER) };
        let peer = peer.map(|peer| peer.parse().unwrap());
        administration.authorize(&client, peer).err().map(|error| error.reason())
    }

    #[test]
    fn administrator_has_an_admin_key_or_is_local_without_keys() {
        let local = ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"];
        for peer in local.into_iter().chain(["192.0.2.1:1"]) {
            assert_eq!(rejection(true, true, Some(peer)), None, "{peer}");
            assert_eq!(rejection(true, false, Some(peer)), Some(ErrorReason::AdminRequired), "{peer}");
        }
        for peer in local {
            assert_eq!(rejection(false, false, Some(peer)), None, "{peer}");
        }
        for peer in [None, Some("192.0.2.1:1"), Some("[2001:db8::1]:1")] {
            assert_eq!(rejection(false, false, peer), Some(ErrorReason::AdminRequired), "{peer:?}");
        }
    }

    #[test]
    fn administration_that_is_off_rejects_every_client() {
        let authenticator = Authenticator::new(&Settings::default().auth).unwrap();
        let administration = Administration { admin: None, authenticator };
        let client = Client { is_admin: true, ..Client::anonymous(Caller::SERVER) };
        let error = administration.authorize(&client, Some("127.0.0.1:1".parse().unwrap())).err().unwrap();
        assert_eq!(error.reason(), ErrorReason::AdminOff);
    }
}
