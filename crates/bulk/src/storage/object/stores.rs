//! Clients of stores, with the settings of the environment.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use object_store::{
    BackoffConfig, ClientConfigKey, ClientOptions, Error, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    http::HttpBuilder,
    path::Path as ObjectPath,
};
use url::Url;

use crate::storage::{location::ObjectUrl, object::errors::settings_error};

/// Limits on connections. `request` limits whole requests, so that of the client is a day.
const CLIENT_OPTIONS: [(ClientConfigKey, &str); 3] = [
    (ClientConfigKey::ConnectTimeout, "10 seconds"),
    (ClientConfigKey::ReadTimeout, "60 seconds"),
    (ClientConfigKey::Timeout, "1 day"),
];

/// Number of further attempts of a request.
const MAX_RETRIES: usize = 4;

/// Time after which a request is not repeated.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest pause before a further attempt.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The number of stores that are held. Records can name any number of buckets and servers.
const MAX_STORES: usize = 64;

/// The stores of the run by their bucket or server. Each one keeps its connections.
static STORES: LazyLock<Mutex<HashMap<String, Arc<dyn ObjectStore>>>> = LazyLock::new(Mutex::default);

/// A store and the name of an object in it.
#[derive(Clone, Debug)]
pub(super) struct StoredObject {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) path: ObjectPath,
    /// For errors.
    pub(super) url: ObjectUrl,
}

impl StoredObject {
    /// Finds the store of a URL. No request is sent.
    ///
    /// # Errors
    /// A URL without bucket, an invalid name, or invalid settings.
    pub(super) fn find(url: &ObjectUrl) -> io::Result<Self> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidInput, reason);
        let (bucket, name) = url.parts();
        if bucket.is_empty() {
            return Err(invalid("the URL has no bucket or server".to_owned()));
        }
        // The store would leave out the slash, and find another object.
        if name.starts_with('/') {
            return Err(invalid("the name of the object is invalid: it begins with a slash".to_owned()));
        }
        let (key, path) = if url.is_web() {
            let base = Url::parse(&format!("{}://{bucket}/{}", url.scheme(), url.split().1));
            let base = base.map_err(|error| invalid(format!("the URL is invalid: {error}")))?;
            (base.to_string(), ObjectPath::from_url_path(name))
        } else {
            (format!("{}://{bucket}", url.scheme()), ObjectPath::parse(name))
        };
        let path = path.map_err(|error| invalid(format!("the name of the object is invalid: {error}")))?;
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        let store = match stores.get(&key) {
            Some(store) => Arc::clone(store),
            None => {
                let store = build(url, bucket, &key).map_err(|error| settings_error(&error))?;
                if stores.len() >= MAX_STORES {
                    stores.clear();
                }
                stores.insert(key, Arc::clone(&store));
                store
            }
        };
        Ok(Self { store, path, url: url.clone() })
    }
}

/// Makes a store that of a bucket, for tests.
#[cfg(test)]
pub(super) fn register(bucket: &str, store: Arc<dyn ObjectStore>) {
    STORES.lock().unwrap_or_else(PoisonError::into_inner).insert(bucket.to_owned(), store);
}

fn build(url: &ObjectUrl, bucket: &str, base: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    // The HTTP client takes the provider of the process. An earlier store can have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(match url.scheme() {
        "s3" => {
            let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retries());
            for (key, value) in CLIENT_OPTIONS {
                builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
            }
            let (name, endpoint) = match builder.get_config_value(&AmazonS3ConfigKey::S3Endpoint) {
                Some(endpoint) => ("AWS_ENDPOINT_URL_S3", Some(endpoint)),
                None => ("AWS_ENDPOINT_URL", builder.get_config_value(&AmazonS3ConfigKey::Endpoint)),
            };
            let allow = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
            check_tls(endpoint, allow, [name, "AWS_ALLOW_HTTP"])?;
            Arc::new(builder.build()?)
        }
        "gs" => {
            let mut builder =
                GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retries());
            for (key, value) in CLIENT_OPTIONS {
                builder = builder.with_config(GoogleConfigKey::Client(key), value);
            }
            Arc::new(builder.build()?)
        }
        "az" => {
            let mut builder =
                MicrosoftAzureBuilder::from_env().with_container_name(bucket).with_retry(retries());
            for (key, value) in CLIENT_OPTIONS {
                builder = builder.with_config(AzureConfigKey::Client(key), value);
            }
            let emulator = builder.get_config_value(&AzureConfigKey::UseEmulator);
            if !is_true(emulator) {
                let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
                let allow = builder.get_config_value(&AzureConfigKey::Client(ClientConfigKey::AllowHttp));
                check_tls(endpoint, allow, ["AZURE_STORAGE_ENDPOINT", "AZURE_ALLOW_HTTP"])?;
                if builder.get_config_value(&AzureConfigKey::AccountName).is_none() {
                    return Err(invalid_settings("no account: set AZURE_STORAGE_ACCOUNT_NAME"));
                }
            }
            Arc::new(builder.build()?)
        }
        _ => {
            let mut options = ClientOptions::new().with_allow_http(true);
            for (key, value) in CLIENT_OPTIONS {
                options = options.with_config(key, value);
            }
            let builder = HttpBuilder::new().with_url(base).with_client_options(options);
            Arc::new(builder.with_retry(retries()).build()?)
        }
    })
}

fn retries() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: MAX_BACKOFF, ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT }
}

/// Checks that an endpoint has TLS, or that the environment allows one without.
fn check_tls(
    endpoint: Option<String>,
    allow: Option<String>,
    [endpoint_name, allow_name]: [&str; 2],
) -> Result<(), Error> {
    if is_true(allow) || !endpoint.unwrap_or_default().starts_with("http://") {
        return Ok(());
    }
    let reason = format!("{endpoint_name} is an endpoint without TLS: set {allow_name}=true to allow it");
    Err(invalid_settings(&reason))
}

/// Returns whether a setting of a store is on.
fn is_true(setting: Option<String>) -> bool {
    let setting = setting.unwrap_or_default();
    ["1", "true", "on", "yes", "y"].iter().any(|on| setting.eq_ignore_ascii_case(on))
}

fn invalid_settings(reason: &str) -> Error {
    Error::Generic { store: "settings", source: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_without_tls_must_be_allowed() {
        let check = |endpoint: Option<&str>, allow: Option<&str>| {
            let [endpoint, allow] = [endpoint, allow].map(|text| text.map(str::to_owned));
            check_tls(endpoint, allow, ["ENDPOINT", "ALLOW"])
                .map_err(|error| settings_error(&error).to_string())
        };
        let refused = "ENDPOINT is an endpoint without TLS: set ALLOW=true to allow it".to_owned();
        for allow in [None, Some("false"), Some("0"), Some("")] {
            assert_eq!(check(Some("http://host"), allow), Err(refused.clone()));
            assert_eq!(check(Some("https://host"), allow), Ok(()));
            assert_eq!(check(None, allow), Ok(()));
        }
        for allow in ["true", "TRUE", "1", "on", "yes", "y"] {
            assert_eq!(check(Some("http://host"), Some(allow)), Ok(()));
        }
    }
}
