//! `AdminService`: who may change the models of a running server, in front of [`Change`].

use std::{fmt, net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;
use tonic::{Request, Response, Status, transport::server::TcpConnectInfo};

use crate::{
    auth::Authenticator,
    caller::Caller,
    errors::{Reason, Refusal},
    proto::{
        LoadModelRequest, Model, UnloadModelRequest, UnloadModelResponse, admin_service_server::AdminService,
    },
};

/// Longest request of an administrator, in bytes.
pub const MAX_REQUEST_BYTES: usize = 64 << 10;

/// Changes which models there are. A change that is dropped before it is made is not made.
pub trait Change: Send + Sync + 'static {
    /// Loads a model; one of the same name serves until then.
    fn load<'a>(&'a self, request: &'a LoadModelRequest) -> BoxFuture<'a, Result<Model, Refusal>>;

    /// Takes a model away.
    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Refusal>>;
}

/// The administrators' way to [`Change`].
#[derive(Clone)]
pub struct Administration {
    /// Makes the changes; none where that is switched off.
    pub change: Option<Arc<dyn Change>>,
    /// Knows who may call.
    pub authenticator: Authenticator,
}

impl fmt::Debug for Administration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Administration").field("on", &self.change.is_some()).finish_non_exhaustive()
    }
}

impl Administration {
    /// The way for `caller`, who calls from `peer`.
    ///
    /// # Errors
    /// A [`Refusal`] if there is none, or none for this caller.
    pub fn admit(&self, caller: &Caller, peer: Option<SocketAddr>) -> Result<&dyn Change, Refusal> {
        let change = self.change.as_deref().ok_or_else(|| Refusal::new(Reason::AdminOff))?;
        let is_here = || peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        if caller.admin || (self.authenticator.is_open() && is_here()) {
            return Ok(change);
        }
        Err(Refusal::new(Reason::AdminRequired))
    }

    fn admit_call<T>(&self, request: &Request<T>) -> Result<&dyn Change, Refusal> {
        let caller = request.extensions().get::<Caller>();
        let caller = caller.ok_or_else(|| Refusal::new(Reason::AdminRequired))?;
        let peer = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        self.admit(caller, peer)
    }
}

#[tonic::async_trait]
impl AdminService for Administration {
    async fn load_model(&self, request: Request<LoadModelRequest>) -> Result<Response<Model>, Status> {
        let change = self.admit_call(&request)?;
        Ok(Response::new(change.load(request.get_ref()).await?))
    }

    async fn unload_model(
        &self,
        request: Request<UnloadModelRequest>,
    ) -> Result<Response<UnloadModelResponse>, Status> {
        let change = self.admit_call(&request)?;
        change.unload(&request.get_ref().name).await?;
        Ok(Response::new(UnloadModelResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::settings::Settings;

    struct Nothing;

    impl Change for Nothing {
        fn load<'a>(&'a self, _: &'a LoadModelRequest) -> BoxFuture<'a, Result<Model, Refusal>> {
            async { Ok(Model::default()) }.boxed()
        }

        fn unload<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), Refusal>> {
            async { Ok(()) }.boxed()
        }
    }

    /// Why a caller is refused, with or without the right, on a server with or without keys.
    fn refused(keys: bool, admin: bool, peer: Option<&str>) -> Option<Reason> {
        let mut settings = Settings::default().auth;
        if keys {
            settings.auth_keys = vec!["correct-horse".parse().unwrap()];
        }
        let authenticator = Authenticator::new(&settings).unwrap();
        let administration = Administration { change: Some(Arc::new(Nothing)), authenticator };
        let caller = Caller { admin, ..Caller::anonymous(1) };
        let peer = peer.map(|peer| peer.parse().unwrap());
        administration.admit(&caller, peer).err().map(|refusal| refusal.reason())
    }

    #[test]
    fn an_administrator_has_the_right_by_his_key_or_where_there_are_no_keys_by_the_machine() {
        let here = ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"];
        for peer in here.into_iter().chain(["192.0.2.1:1"]) {
            assert_eq!(refused(true, true, Some(peer)), None, "{peer}");
            assert_eq!(refused(true, false, Some(peer)), Some(Reason::AdminRequired), "{peer}");
        }
        for peer in here {
            assert_eq!(refused(false, false, Some(peer)), None, "{peer}");
        }
        for peer in [None, Some("192.0.2.1:1"), Some("[2001:db8::1]:1")] {
            assert_eq!(refused(false, false, peer), Some(Reason::AdminRequired), "{peer:?}");
        }
    }

    #[test]
    fn where_it_is_switched_off_nobody_has_the_right() {
        let authenticator = Authenticator::new(&Settings::default().auth).unwrap();
        let administration = Administration { change: None, authenticator };
        let caller = Caller { admin: true, ..Caller::anonymous(1) };
        let refusal = administration.admit(&caller, Some("127.0.0.1:1".parse().unwrap())).err().unwrap();
        assert_eq!(refusal.reason(), Reason::AdminOff);
    }
}
