//! The current log filter, which can be changed while the server runs.

use tracing_subscriber::{EnvFilter, Registry, reload};

/// A handle to the log filter. Clones share it.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

/// An invalid log filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid log filter {filter:?}: {cause}")]
pub struct BadFilter {
    /// The text of the filter.
    pub filter: String,
    /// The error in it.
    pub cause: String,
}

impl LogFilter {
    /// Returns a handle to the filter of `layer`.
    pub(crate) fn of(layer: &reload::Layer<EnvFilter, Registry>) -> Self {
        Self(layer.handle())
    }

    /// Returns the text of the current filter.
    #[must_use]
    pub fn get(&self) -> String {
        self.0.with_current(EnvFilter::to_string).unwrap_or_default()
    }

    /// Replaces the filter for all later log lines.
    ///
    /// # Errors
    /// [`BadFilter`]. The current filter then remains in use.
    pub fn set(&self, filter: &str) -> Result<(), BadFilter> {
        let bad = |cause: String| BadFilter { filter: filter.to_owned(), cause };
        if filter.trim().is_empty() {
            return Err(bad("empty text".to_owned()));
        }
        let parsed = EnvFilter::try_new(filter).map_err(|error| bad(error.to_string()))?;
        self.0.reload(parsed).map_err(|error| bad(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn filter_changes_only_to_a_valid_text() {
        let (layer, _) = reload::Layer::new(EnvFilter::new("warn"));
        let filter = LogFilter::of(&layer);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
            filter.set("debug").unwrap();
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            let error = filter.set("server=loud").unwrap_err();
            assert!(error.to_string().starts_with("invalid log filter \"server=loud\": "), "{error}");
            assert!(filter.set(" ").is_err());
            assert_eq!(filter.get(), "debug");
        });
    }
}
