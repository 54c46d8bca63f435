//! The log filter in force, which can be changed while the program runs.

use tracing_subscriber::{EnvFilter, Registry, reload};

/// What is logged. Clones share it.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

/// A text that is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{filter:?} is no log filter: {cause}")]
pub struct BadFilter {
    /// The text.
    pub filter: String,
    /// What is wrong with it.
    pub cause: String,
}

impl LogFilter {
    /// The filter of `layer`, which a subscriber has.
    pub(super) fn of(layer: &reload::Layer<EnvFilter, Registry>) -> Self {
        Self(layer.handle())
    }

    /// The filter in force.
    #[must_use]
    pub fn get(&self) -> String {
        self.0.with_current(EnvFilter::to_string).unwrap_or_default()
    }

    /// Puts another one in force, for all that is logged from now on.
    ///
    /// # Errors
    /// [`BadFilter`]; then the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), BadFilter> {
        let bad = |cause: String| BadFilter { filter: filter.to_owned(), cause };
        if filter.trim().is_empty() {
            return Err(bad("it is empty".to_owned()));
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
    fn what_is_set_holds_from_then_on_and_what_is_no_filter_changes_nothing() {
        let (layer, _) = reload::Layer::new(EnvFilter::new("warn"));
        let filter = LogFilter::of(&layer);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
            filter.set("debug").unwrap();
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            let refused = filter.set("blip_serve=loud").unwrap_err();
            assert!(refused.to_string().starts_with("\"blip_serve=loud\" is no log filter: "), "{refused}");
            assert!(filter.set(" ").is_err());
            assert_eq!(filter.get(), "debug");
        });
    }
}
