//! `blip-serve ask`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueHint};
use tonic::{Request, Status};

use super::{
    connection::ConnectionOptions,
    print::{Format, Printer},
};
use crate::{
    errors::code_name,
    exit::Exit,
    proto::{
        AskRequest, Image, ImageQuestions, Question, blip_service_client::BlipServiceClient, image::Source,
    },
};

/// Ask a running server questions about images.
///
/// Every question is asked about every image. Answers are printed as they arrive, which is not the order of asking.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve ask --image cat.jpg --question \"what colour is the cat?\"
  blip-serve ask --image https://example.org/cat.jpg --question \"is it asleep?\"
  blip-serve ask --image a.png --image b.png --question \"is it red?\" --question \"how many?\" --json")]
pub struct AskCommand {
    /// An image file, or an http, https or data URL that the server is to fetch; may be given several times
    #[arg(long = "image", value_name = "FILE|URL", required = true, value_hint = ValueHint::FilePath)]
    images: Vec<PathBuf>,

    /// A question; may be given several times
    #[arg(long = "question", value_name = "TEXT", required = true)]
    questions: Vec<String>,

    #[command(flatten)]
    connection: ConnectionOptions,

    /// Print one JSON object a line, errors too
    #[arg(long)]
    json: bool,

    /// When to give up, in seconds [default: never]
    #[arg(long, value_name = "SECONDS")]
    timeout_s: Option<u64>,
}

impl AskCommand {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let request = self.request().await?;
        let channel = self.connection.connect().await?;
        let mut responses = BlipServiceClient::new(channel).ask(request).await.map_err(told)?.into_inner();
        let format = if self.json { Format::Json } else { Format::Text };
        let images: Vec<String> = self.images.iter().map(|image| name(image)).collect();
        let mut printer = Printer::new(format, &images, &self.questions);
        while let Some(response) = responses.message().await.map_err(told)? {
            printer.print(&response).context("cannot print")?;
        }
        Ok(if printer.all_answered() { Exit::Clean } else { Exit::Failed })
    }

    async fn request(&self) -> anyhow::Result<Request<AskRequest>> {
        let mut inputs = Vec::with_capacity(self.images.len());
        for image in &self.images {
            let source = match url(image) {
                Some(url) => Source::Url(url.to_owned()),
                None => Source::Data(read(image).await?.into()),
            };
            inputs.push(ImageQuestions {
                image: Some(Image { source: Some(source) }),
                questions: self
                    .questions
                    .iter()
                    .map(|text| Question { text: text.clone(), ..Question::default() })
                    .collect(),
            });
        }
        let mut request = Request::new(AskRequest { inputs, ..AskRequest::default() });
        self.connection.sign(&mut request)?;
        if let Some(seconds) = self.timeout_s {
            request.set_timeout(Duration::from_secs(seconds));
        }
        Ok(request)
    }
}

async fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    tokio::fs::read(path).await.with_context(|| format!("cannot read image {}", path.display()))
}

/// What was given for an image, if it is a URL.
fn url(image: &Path) -> Option<&str> {
    let text = image.to_str()?;
    let (scheme, _) = text.split_once(':')?;
    let scheme = scheme.to_ascii_lowercase();
    let web = matches!(scheme.as_str(), "http" | "https") && text.contains("://");
    (web || scheme == "data").then_some(text)
}

/// What an image is called in what is printed: as it was given, a data URL without its data.
fn name(image: &Path) -> String {
    match url(image).and_then(|url| url.split_once(',')) {
        Some((head, _)) if !head.contains("://") => format!("{head},..."),
        _ => image.display().to_string(),
    }
}

/// A call's status in one line.
fn told(status: Status) -> anyhow::Error {
    anyhow::anyhow!("the server answered {}: {}", code_name(status.code()), status.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_files_by_their_scheme() {
        for given in
            ["http://example.org/a.png", "HTTPS://example.org/a,b.png", "data:image/png;base64,iVBORw=="]
        {
            assert_eq!(url(Path::new(given)), Some(given));
        }
        for given in ["a.png", "/pictures/http/a.png", "http:a.png", "ftp://example.org/a.png", "c:a.png"] {
            assert_eq!(url(Path::new(given)), None, "{given}");
        }
    }

    #[test]
    fn a_data_url_is_printed_without_its_data() {
        assert_eq!(name(Path::new("data:image/png;base64,iVBORw==")), "data:image/png;base64,...");
        assert_eq!(name(Path::new("https://example.org/a,b.png")), "https://example.org/a,b.png");
        assert_eq!(name(Path::new("a,b.png")), "a,b.png");
    }
}
