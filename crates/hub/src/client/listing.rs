//! What the hub says of a model: the commit of a revision, the names of its files, a file's hash and size.

use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap};
use serde::Deserialize;

use crate::{
    client::{hub_client::HubClient, retry::RequestFailure},
    error::HubError,
    files::{checksum::ContentTag, remote_file::RemoteFile},
    repository_name::{RepositoryName, is_commit},
};

/// A revision of a model.
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
    pub(crate) async fn of(model: &RepositoryName, client: &HubClient) -> Result<Self, RequestFailure> {
        let path = ["api", "models"].into_iter().chain(model.repository().split('/'));
        let url = client.url(path.chain(["revision", model.revision()]));
        let what = model.to_string();
        let answer =
            client.get(url, &what).await.map_err(|failure| repository_error(failure, model, client))?;
        let protocol_error = |reason: String| HubError::Protocol {
            host: client.endpoint().to_owned(),
            what: what.clone(),
            reason,
        };
        let info: Info =
            serde_json::from_slice(&answer).map_err(|error| protocol_error(error.to_string()))?;
        if !is_commit(&info.sha) || model.pinned_commit().is_some_and(|commit| commit != info.sha) {
            return Err(protocol_error(format!("it names commit {:?}", info.sha)).into());
        }
        let files = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        Ok(Self { commit: info.sha, files })
    }
}

/// Asks about the file `name` of `commit`.
pub(crate) async fn describe(
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
        what: name.to_owned(),
        reason,
    })?;
    Ok(RemoteFile { name: name.to_owned(), tag, size })
}

/// Where the hub has a file's content, itself or by redirect.
pub(crate) fn content_url(model: &RepositoryName, commit: &str, name: &str, client: &HubClient) -> url::Url {
    client.url(model.repository().split('/').chain(["resolve", commit]).chain(name.split('/')))
}

/// Hash and size in `headers`; those of a large file stand beside those of its redirect.
fn tag_and_size(headers: &HeaderMap, commit: &str) -> Result<(ContentTag, u64), String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(other) = text("x-repo-commit").filter(|other| *other != commit) {
        return Err(format!("it is of commit {other:?}, not {commit}"));
    }
    let tag = text("x-linked-etag").or_else(|| text(ETAG.as_str())).unwrap_or_default();
    let tag = ContentTag::parse(tag).ok_or_else(|| format!("its ETag {tag:?} is no hash to check it by"))?;
    let size = text("x-linked-size").or_else(|| text(CONTENT_LENGTH.as_str()));
    let size = size.and_then(|size| size.parse().ok()).ok_or("its size is not given")?;
    Ok((tag, size))
}

/// The hub's refusals, by what they mean for `model`.
pub(crate) fn repository_error(
    failure: RequestFailure,
    model: &RepositoryName,
    client: &HubClient,
) -> RequestFailure {
    let HubError::Status { status, code, .. } = &failure.error else { return failure };
    let (endpoint, repository) = (client.endpoint().to_owned(), model.repository().to_owned());
    let signed_in = client.is_signed_in();
    let error = match (code.as_str(), *status) {
        ("RevisionNotFound", _) => {
            HubError::NoRevision { endpoint, repository, revision: model.revision().to_owned() }
        }
        ("GatedRepo", _) => {
            let hint = if signed_in { ", as the owner of the access token" } else { ", and set HF_TOKEN" };
            HubError::Gated { endpoint, repository, hint }
        }
        // Whether a model is there is not told to those who may not see it.
        ("RepoNotFound", _) | ("", 401 | 404) => {
            let hint =
                if signed_in { " and not for the owner of the access token" } else { ": then set HF_TOKEN" };
            HubError::NoModel { endpoint, repository, hint }
        }
        _ => return failure,
    };
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &str)]) -> Result<(ContentTag, u64), String> {
        let headers = headers
            .iter()
            .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value.parse().unwrap()));
        tag_and_size(&headers.collect(), &"c".repeat(40))
    }

    #[test]
    fn a_large_file_is_described_beside_its_redirect() {
        let (own, linked) = ("a".repeat(40), "b".repeat(64));
        let headers = [("etag", own.as_str()), ("content-length", "10")];
        assert_eq!(of(&headers).unwrap(), (ContentTag::parse(&own).unwrap(), 10));
        let linked_headers = [("x-linked-etag", linked.as_str()), ("x-linked-size", "1000")];
        let both = [headers, linked_headers].concat();
        assert_eq!(of(&both).unwrap(), (ContentTag::parse(&linked).unwrap(), 1000));
    }

    #[test]
    fn a_file_that_could_not_be_checked_is_refused() {
        let tag = "a".repeat(40);
        assert!(of(&[("etag", "\"v1\""), ("content-length", "10")]).unwrap_err().contains("ETag"));
        assert!(of(&[("etag", &tag)]).unwrap_err().contains("size"));
        assert!(of(&[("etag", &tag), ("content-length", "-1")]).unwrap_err().contains("size"));
        let other = "d".repeat(40);
        let headers = [("etag", tag.as_str()), ("content-length", "1"), ("x-repo-commit", &other)];
        assert!(of(&headers).unwrap_err().contains("commit"));
    }
}
