//! The settings of an engine with a single caller in the same process.

use blip_server::config::{Settings, sections::http::Listen};

/// Values of settings that no source sets.
///
/// The limits of a server divide it among clients, and protect it from them. A single caller limits
/// itself by `--in-flight`.
pub(super) const DEFAULTS: &[(&str, &str)] = &[
    ("grpc.max_concurrent_streams", "4096"),
    ("grpc.max_request_memory_bytes", "1TiB"),
    ("grpc.write_stall_s", "0"),
    ("grpc.max_connection_age_s", "0"),
    // In memory no peer gets lost, and pings would wait for a busy processor.
    ("grpc.keepalive_interval_s", "1day"),
    ("limits.max_unread_response_bytes", "1TiB"),
    ("limits.default_deadline_s", "0"),
    ("preprocess.queue", "1000000"),
    ("scheduler.max_queued_questions", "1000000"),
    ("scheduler.max_queued_questions_per_client", "1000000"),
    ("scheduler.max_queued_bytes", "1TiB"),
];

/// Turns off what has no meaning without clients: listeners, keys, administration, and the wait of
/// a load balancer.
pub(super) fn without_clients(mut settings: Settings) -> Settings {
    let defaults = Settings::default();
    settings.grpc.listen = defaults.grpc.listen;
    settings.http.http_listen = Listen::Off;
    settings.metrics.metrics_listen = Listen::Off;
    settings.auth = defaults.auth;
    settings.tls = defaults.tls;
    settings.admin = defaults.admin;
    settings.drain.drain_grace_s = 0;
    settings
}

#[cfg(test)]
mod tests {
    use blip_server::config::{Origin, Sources, definition};

    use super::*;

    #[test]
    fn defaults_are_valid_values_of_settings() {
        let mut sources = Sources::default();
        for (key, value) in DEFAULTS {
            let definition = definition(key).unwrap();
            let value = definition.without_unit((*value).to_owned());
            definition.check("the defaults", key, std::slice::from_ref(&value)).unwrap();
            sources.flags.set(definition, vec![value]);
        }
        let resolved = sources.resolve().unwrap();
        assert_eq!(resolved.settings.grpc.keepalive_interval_s, 24 * 60 * 60);
        assert_eq!(resolved.settings.scheduler.max_queued_bytes, 1 << 40);
        let changed = resolved.effective.iter().filter(|setting| setting.origin != Origin::Default).count();
        assert_eq!(changed, DEFAULTS.len());
    }

    #[test]
    fn engine_in_the_process_has_no_listeners_and_no_keys() {
        let mut settings = Settings::default();
        settings.auth.auth_keys = vec!["correct-horse".parse().unwrap()];
        settings.grpc.listen = "0.0.0.0:50051".parse().unwrap();
        settings.drain.drain_grace_s = 15;
        let settings = without_clients(settings);
        assert!(settings.grpc.listen.ip().is_loopback());
        assert_eq!(settings.http.http_listen, Listen::Off);
        assert_eq!(settings.metrics.metrics_listen, Listen::Off);
        assert!(settings.auth.auth_keys.is_empty());
        assert_eq!(settings.drain.drain_grace_s, 0);
    }
}
