//! Requests the metadata of a model: the commit of a revision, its files, a file's hash and size.

use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap};
use serde::Deserialize;

use crate::{
    client::{hub_client::HubClient, retry::RequestFailure},
    error::HubError,
    files::{checksum::ContentTag, remote_file::RemoteFile},
    repository_name::{RepositoryName, is_commit},
};

/// The commit of a revision and its files.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<String>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Listing {
    /// Requests the listing of the revision of `model`.
    pub(crate) async fn request(model: &RepositoryName, client: &HubClient) -> Result<Self, RequestFailure> {
        let path = ["api", "models"].into_iter().chain(model.repository().split('/'));
        let url = client.url(path.chain(["revision", model.revision()]));
        let resource = model.to_string();
        let body =
            client.get(url, &resource).await.map_err(|failure| repository_error(failure, model, client))?;
        let protocol_error = |reason: String| HubError::Protocol {
            host: client.endpoint().to_owned(),
            resource: resource.clone(),
            reason,
        };
        let info: Info = serde_json::from_slice(&body).map_err(|error| protocol_error(error.to_string()))?;
        if !is_commit(&info.sha) || model.pinned_commit().is_some_and(|commit| commit != info.sha) {
            return Err(protocol_error(format!("unexpected commit {:?}", info.sha)).into());
        }
        let files = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        Ok(Self { commit: info.sha, files })
    }
}

/// Requests the hash and size of the file `name` of `commit`.
pub(crate) async fn request_file(
    model: &RepositoryName,
    commit: &str,
    name: &str,
    client: &HubClient,
) -> Result<RemoteFile, RequestFailure> {
    let url = content_url(model, commit, name, client);
    let headers = client.head(url, name).await.map_err(|failure| repository_error(failure, model, client))?;
    let tag_and_size = tag_and_size(&headers, commit);
    let (tag, size) = tag_and_size.map_err(|reason| HubError::Protocol {
        host: client.endpoint().to_owned(),
        resource: name.to_owned(),
        reason,
    })?;
    Ok(RemoteFile { name: name.to_owned(), tag, size })
}

/// Returns the URL of a file's content. The hub may redirect it.
pub(crate) fn content_url(model: &RepositoryName, commit: &str, name: &str, client: &HubClient) -> url::Url {
    client.url(model.repository().split('/').chain(["resolve", commit]).chain(name.split('/')))
}

/// Returns the hash and size in `headers`.
///
/// For a large file, `x-linked-etag` and `x-linked-size` describe the file. The other headers
/// describe the redirect to it.
fn tag_and_size(headers: &HeaderMap, commit: &str) -> Result<(ContentTag, u64), String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(other) = text("x-repo-commit").filter(|other| *other != commit) {
        return Err(format!("commit {other:?}, expected {commit}"));
    }
    let tag = text("x-linked-etag").or_else(|| text(ETAG.as_str())).unwrap_or_default();
    let tag =
        ContentTag::parse(tag).ok_or_else(|| format!("ETag {tag:?}, expected a SHA-1 or SHA-256 hash"))?;
    let size = text("x-linked-size").or_else(|| text(CONTENT_LENGTH.as_str()));
    let size = size.and_then(|size| size.parse().ok()).ok_or("no size")?;
    Ok((tag, size))
}

/// Replaces the error of a status by one that explains the status for `model`.
pub(crate) fn repository_error(
    failure: RequestFailure,
    model: &RepositoryName,
    client: &HubClient,
) -> RequestFailure {
    let HubError::Status { status, code, .. } = &failure.error else { return failure };
    let (endpoint, repository) = (client.endpoint().to_owned(), model.repository().to_owned());
    let has_token = client.has_token();
    let error = match (code.as_str(), *status) {
        ("RevisionNotFound", _) => {
            HubError::NoRevision { endpoint, repository, revision: model.revision().to_owned() }
        }
        ("GatedRepo", _) => {
            let hint = if has_token { " with the account of the access token" } else { " and set HF_TOKEN" };
            HubError::Gated { endpoint, repository, hint }
        }
        // The hub responds alike for a missing model and for one that the client may not read.
        ("RepoNotFound", _) | ("", 401 | 404) => {
            let hint =
                if has_token { "the access token does not permit it" } else { "it is private: set HF_TOKEN" };
            HubError::NoModel { endpoint, repository, hint }
        }
        _ => return failure,
    };
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(headers: &[(&'static str, &str)]) -> Result<(ContentTag, u64), String> {
        let headers = headers
            .iter()
            .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value.parse().unwrap()));
        tag_and_size(&headers.collect(), &"c".repeat(40))
    }

    #[test]
    fn linked_headers_describe_a_large_file() {
        let (direct, linked) = ("a".repeat(40), "b".repeat(64));
        let headers = [("etag", direct.as_str()), ("content-length", "10")];
        assert_eq!(parse(&headers).unwrap(), (ContentTag::parse(&direct).unwrap(), 10));
        let linked_headers = [("x-linked-etag", linked.as_str()), ("x-linked-size", "1000")];
        let both = [headers, linked_headers].concat();
        assert_eq!(parse(&both).unwrap(), (ContentTag::parse(&linked).unwrap(), 1000));
    }

    #[test]
    fn file_without_hash_or_size_is_an_error() {
        let tag = "a".repeat(40);
        assert!(parse(&[("etag", "\"v1\""), ("content-length", "10")]).unwrap_err().contains("ETag"));
        assert!(parse(&[("etag", &tag)]).unwrap_err().contains("size"));
        assert!(parse(&[("etag", &tag), ("content-length", "-1")]).unwrap_err().contains("size"));
        let other = "d".repeat(40);
        let headers = [("etag", tag.as_str()), ("content-length", "1"), ("x-repo-commit", &other)];
        assert!(parse(&headers).unwrap_err().contains("commit"));
    }
}
