//! What `--model` means: the model in this program, a folder, a file of weights, or a name on a hub.

use std::{
    env,
    path::{Component, Path, PathBuf},
};

use anyhow::Context as _;
use blip::ModelFiles;
use hub::{Config, Hub, ModelName, Progress, Snapshot};

use crate::demo::DEMO_MODEL;

/// The `--model` that stands for the model inside this program.
pub const DEMO: &str = "demo";

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// This program.
    Demo,
    /// A folder in Hugging Face's layout.
    Folder(PathBuf),
    /// A file of weights, with the model's other files beside it.
    File(PathBuf),
    /// A hub, by name.
    Hub(ModelName),
}

/// A model's files, on this machine.
#[derive(Clone, Debug)]
pub struct LocalModel {
    /// The files.
    pub files: ModelFiles,
    /// The commit on the hub, if they come from there.
    pub revision: Option<String>,
}

impl ModelSource {
    /// What `model` means here and now: a folder or file that exists is one, whatever its name looks like.
    ///
    /// # Errors
    /// What was tried, if it means nothing.
    pub fn find(model: &str) -> anyhow::Result<Self> {
        if model == DEMO {
            return Ok(Self::Demo);
        }
        let path = Path::new(model);
        // A .pth that is not there is a file that is missing, not a name on the hub.
        if path.is_file() || path.extension().is_some_and(|extension| extension == "pth") {
            return Ok(Self::File(path.to_owned()));
        }
        let is_path = !matches!(path.components().next(), Some(Component::Normal(_)) | None);
        if is_path || path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        match model.parse() {
            Ok(name) => Ok(Self::Hub(name)),
            Err(reason) => {
                anyhow::bail!("not {DEMO}, there is no folder or file of that name, and {reason}")
            }
        }
    }

    /// The model's files, downloaded if they are not here yet. May be dropped at any time.
    ///
    /// # Errors
    /// Why they cannot be had, with what was tried.
    pub async fn fetch(&self) -> anyhow::Result<LocalModel> {
        Ok(match self {
            Self::Demo => LocalModel { files: ModelFiles::Embedded(DEMO_MODEL), revision: None },
            Self::Folder(folder) => LocalModel { files: ModelFiles::Folder(folder.clone()), revision: None },
            Self::File(file) => LocalModel { files: ModelFiles::File(file.clone()), revision: None },
            Self::Hub(name) => {
                let Snapshot { folder, commit } = download(name)
                    .await
                    .with_context(|| format!("there is no folder {}", name.repository()))?;
                LocalModel { files: ModelFiles::Folder(folder), revision: Some(commit) }
            }
        })
    }
}

/// `name`'s snapshot in the cache, of the hub and the cache that the environment says.
///
/// # Errors
/// [`hub::ConfigError`] and [`hub::HubError`].
pub async fn download(name: &ModelName) -> anyhow::Result<Snapshot> {
    let config = Config::from_environment(|name| env::var(name).ok())?;
    let snapshot = Hub::new(config)?.fetch(name, &Progress::on_stderr()).await?;
    tracing::info!(model = name.repository(), commit = snapshot.commit, "model found");
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_folder_and_org_name_is_on_a_hub() {
        for path in ["./blip", "../blip", "/models/blip", ".", ".."] {
            assert_eq!(ModelSource::find(path).unwrap(), ModelSource::Folder(path.into()), "{path}");
        }
        let name = "Salesforce/blip-vqa-base@v1";
        assert_eq!(ModelSource::find(name).unwrap(), ModelSource::Hub(name.parse().unwrap()));
        assert_eq!(ModelSource::find("demo").unwrap(), ModelSource::Demo);
    }

    #[test]
    fn a_folder_that_is_there_is_one_whatever_its_name_looks_like() {
        // Tests run in the root of the tree.
        assert_eq!(ModelSource::find("models/demo").unwrap(), ModelSource::Folder("models/demo".into()));
    }

    #[test]
    fn a_file_of_weights_is_one_and_a_pth_even_where_it_is_not() {
        for path in ["models/demo/model.safetensors", "org/model_base.pth", "./model_base.pth"] {
            assert_eq!(ModelSource::find(path).unwrap(), ModelSource::File(path.into()), "{path}");
        }
    }

    #[test]
    fn what_means_nothing_is_told_with_all_that_was_tried() {
        let told = ModelSource::find("blip-vqa-base").unwrap_err().to_string();
        assert_eq!(
            told,
            "not demo, there is no folder or file of that name, and \"blip-vqa-base\" is no model name of the form \
             org/name[@revision]: it has no '/'"
        );
    }
}
