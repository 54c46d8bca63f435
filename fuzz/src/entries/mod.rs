//! The functions of the fuzz targets: one for each kind of input from clients and operators.
//!
//! Each function checks the invariants of its result and returns whether the input was accepted.
//! `tests/fuzz_corpus.rs` replays the committed seeds through the same functions in every test run.

mod checkpoint;
pub mod decode_worker;
mod http2_frames;
mod multipart_form;
mod server;

use std::{net::IpAddr, sync::LazyLock};

use blip_server::{
    auth::keys_file::parse_keys,
    config::{
        RequestLimits, Resolved, Settings, SourceValues, Sources, definition, effective_toml, parse_file,
    },
    error::RequestError,
    grpc::{
        codec::{BoundedMessage as _, MAX_MESSAGES},
        requests::DecodedRequest,
    },
    http::inference::ask_request::ask_inputs,
    request::{
        field_path::RequestFormat,
        item::{Input, ItemTask},
        validate::validate,
    },
};
use config::FileFormat;
use images::{
    Decoder, Limits,
    fetch::{FetchConfig, UrlPolicy, decode_data_url, is_data_url},
};
use prost::Message as _;
use proto::AskRequest;

pub use self::{
    checkpoint::{config_files, is_caught, safetensors_header, tokenizer_files},
    decode_worker::decode_worker,
    http2_frames::http2_frames,
    multipart_form::multipart_form,
};

/// A target: its name, which is also the name of its seed folder, and its function.
pub type Entry = (&'static str, fn(&[u8]) -> bool);

/// All targets.
pub const ENTRIES: &[Entry] = &[
    ("api_keys", api_keys),
    ("ask_json", ask_json),
    ("ask_request", ask_request),
    ("config_files", config_files),
    ("decode_image", decode_image),
    ("decode_worker", decode_worker),
    ("http2_frames", http2_frames),
    ("image_url", image_url),
    ("multipart_form", multipart_form),
    ("safetensors_header", safetensors_header),
    ("settings_file", settings_file),
    ("tokenizer_files", tokenizer_files),
];

/// Maximum size of a file in a `data:` URL, in bytes.
const MAX_DATA_URL_BYTES: usize = 1 << 16;

/// Decodes an image. The pixels must match its size, and no image is decoded without memory.
pub fn decode_image(bytes: &[u8]) -> bool {
    // A small limit, so that the fuzzer decodes many images instead of large ones.
    let limits = Limits { max_pixels: 1 << 20, ..Limits::default() };
    let without_memory = Limits { max_decode_bytes_in_flight: 0, ..limits };
    assert!(Decoder::new(without_memory).decode(bytes).is_err());
    let Ok(image) = Decoder::new(limits).decode(bytes) else { return false };
    assert_eq!(image.data.len() as u64, u64::from(image.width) * u64::from(image.height) * 3);
    true
}

/// Checks the URL of an image. An accepted URL is HTTP to a name or to a public address.
pub fn image_url(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if is_data_url(text) {
        let Ok(bytes) = decode_data_url(text, MAX_DATA_URL_BYTES) else { return false };
        assert!(bytes.len() <= MAX_DATA_URL_BYTES);
        return true;
    }
    let policy = UrlPolicy::new(&FetchConfig::default());
    let Ok(url) = policy.parse(text) else { return false };
    assert!(matches!(url.scheme(), "http" | "https"));
    assert!(url.username().is_empty() && url.password().is_none());
    assert!(matches!(url.port_or_known_default(), Some(80 | 443)));
    let host = url.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    if let Some(address) = address {
        assert!(policy.addresses().check(address).is_ok(), "{url}");
    }
    // The normalised form of an accepted URL is accepted as well.
    assert_eq!(policy.parse(url.as_str()).as_ref(), Ok(&url));
    true
}

/// Counts, decodes and validates a protobuf request.
///
/// The number of decoded messages is limited. Every item of an accepted request has a result.
pub fn ask_request(bytes: &[u8]) -> bool {
    if let Err(error) = AskRequest::check(bytes) {
        return rejected(&error);
    }
    let Ok(request) = AskRequest::decode(bytes) else { return false };
    let questions: usize = request.inputs.iter().map(|input| input.questions.len()).sum();
    assert!(request.inputs.len() + questions <= MAX_MESSAGES);
    let inputs = DecodedRequest::from(request).inputs;
    let [grpc, card] =
        [RequestFormat::GrpcAsk, RequestFormat::Json].map(|format| validated(inputs.clone(), format));
    assert_eq!(grpc, card);
    grpc
}

/// Reads the JSON of `POST /v1/ask`. The result must equal that of another JSON parser.
pub fn ask_json(bytes: &[u8]) -> bool {
    let inputs = match ask_inputs(bytes) {
        Ok(inputs) => inputs,
        Err(error) => return rejected(&error),
    };
    let texts: Vec<Vec<&str>> =
        inputs.iter().map(|input| input.texts.iter().map(|text| text.text.as_str()).collect()).collect();
    let json: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    assert_eq!(json.pointer("/inputs/texts"), Some(&serde_json::json!(texts)));
    let images = json.pointer("/inputs/images").and_then(serde_json::Value::as_array);
    assert_eq!(images.map(Vec::len), Some(inputs.len()));
    validated(inputs, RequestFormat::Json)
}

/// Validates a request. Every item of an accepted request has a result.
fn validated(inputs: Vec<Input>, format: RequestFormat) -> bool {
    static LIMITS: LazyLock<RequestLimits> = LazyLock::new(|| Settings::default().limits);
    let texts: Vec<usize> = inputs.iter().map(|input| input.texts.len()).collect();
    let task = ItemTask::Answer(blip::Generation::GREEDY);
    let inputs = match validate(inputs, format, &task, &LIMITS) {
        Ok(inputs) => inputs,
        Err(error) => return rejected(&error),
    };
    assert_eq!(inputs.iter().map(|input| input.items.len()).collect::<Vec<_>>(), texts);
    for input in &inputs {
        let items = input.items.iter().filter_map(|item| item.as_ref().err());
        input.image.as_ref().err().into_iter().chain(items).for_each(|error| {
            assert!(!error.to_rpc_status().message.is_empty());
        });
    }
    true
}

/// Checks an error: it has a message and is not internal.
fn rejected(error: &RequestError) -> bool {
    let status = error.to_status();
    assert!(!status.message().is_empty() && status.code() != tonic::Code::Internal, "{status:?}");
    false
}

/// Reads a settings file as TOML and as YAML.
///
/// An error has one line. Accepted settings are rendered to a file with the same content.
pub fn settings_file(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    // Not short-circuited: both formats are read.
    settings_text(FileFormat::Toml, text) | settings_text(FileFormat::Yaml, text)
}

fn settings_text(format: FileFormat, text: &str) -> bool {
    let layer = match parse_file("settings", format, text) {
        Ok(layer) => layer,
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error}");
            return false;
        }
    };
    if layer == SourceValues::default() {
        return false;
    }
    let resolve =
        |layer| Sources { file: Some(("settings".to_owned(), layer)), ..Sources::default() }.resolve();
    let has_keys =
        definition("auth.keys").is_some_and(|keys| layer.get(keys).is_some_and(|keys| !keys.is_empty()));
    let Ok(Resolved { settings, effective, .. }) = resolve(layer) else { return false };
    let printed = effective_toml(&effective);
    let again = parse_file("printed", FileFormat::Toml, &printed).and_then(resolve);
    // API keys are masked, and a mask is not a valid key.
    assert_eq!(again.is_err(), has_keys, "{printed}");
    if let Ok(again) = again {
        assert_eq!(format!("{:?}", again.settings), format!("{settings:?}"), "{printed}");
    }
    true
}

/// Reads a file of API keys. Names and keys are unique, and weights are in range.
pub fn api_keys(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let keys = match parse_keys(text) {
        Ok(keys) => keys,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    for (index, key) in keys.iter().enumerate() {
        assert!((1..=1000).contains(&key.weight), "{key:?}");
        for other in keys.iter().skip(index + 1) {
            assert!(
                key.name != other.name && !bool::from(key.secret.matches(&other.secret)),
                "{key:?} {other:?}"
            );
        }
    }
    !keys.is_empty()
}
