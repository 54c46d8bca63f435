//! What `--model` means: the model in this program, a folder, a file of weights, or a name on a hub.

use std::{
    env,
    path::{Component, Path, PathBuf},
};

use anyhow::Context as _;
use blip::ModelFiles;
use hub::{Config, Hub, ModelName, Progress, Snapshot};

use crate::demo::{DEMO_MODELS, demo_model};

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// This program, which holds models of these names.
    Demo(&'static str),
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
        if let Some((name, _)) = demo_model(model) {
            return Ok(Self::Demo(name));
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
        model.parse().map(Self::Hub).map_err(|reason| {
            let demos = demo_names();
            anyhow::anyhow!("not {demos}, there is no folder or file of that name, and {reason}")
        })
    }

    /// What `model` means to a caller, who is to learn nothing of this machine's files but of those in `folder`: a model
    /// in the program, a folder below that one, by its path or what follows of it, or a name on a hub.
    ///
    /// # Errors
    /// [`Forbidden`] if it is none of these.
    pub fn find_within(model: &str, folder: Option<&Path>) -> Result<Self, Forbidden> {
        if let Some((name, _)) = demo_model(model) {
            return Ok(Self::Demo(name));
        }
        // Both without links, so that none leads out.
        let within = |folder: &Path| {
            let folder = folder.canonicalize().ok()?;
            let path = folder.join(model).canonicalize().ok()?;
            (path.is_dir() && path != folder && path.starts_with(&folder)).then_some(path)
        };
        if let Some(path) = folder.and_then(within) {
            return Ok(Self::Folder(path));
        }
        model.parse().map(Self::Hub).map_err(|_| Forbidden)
    }

    /// The model's files, downloaded if they are not here yet. May be dropped at any time.
    ///
    /// # Errors
    /// Why they cannot be had, with what was tried.
    pub async fn fetch(&self) -> anyhow::Result<LocalModel> {
        Ok(match self {
            Self::Demo(name) => {
                let (_, files) = demo_model(name).with_context(|| format!("{name} is no demo model"))?;
                LocalModel { files: ModelFiles::Embedded(files), revision: None }
            }
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

/// A caller named a folder that is not for callers, or nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither {names}, nor below the folder of models, nor of the form org/name", names = demo_names())]
pub struct Forbidden;

/// The models in this program.
fn demo_names() -> String {
    DEMO_MODELS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
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
        assert_eq!(ModelSource::find("demo").unwrap(), ModelSource::Demo("demo"));
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
        let (demos, reason) = told.split_once(", there is ").unwrap();
        assert!(demos.starts_with("not demo"), "{demos}");
        assert_eq!(
            reason,
            "no folder or file of that name, and \"blip-vqa-base\" is no model name of the form \
             org/name[@revision]: it has no '/'"
        );
    }

    #[test]
    fn a_caller_reaches_the_folder_of_models_and_no_other() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("models");
        for name in ["models/mine", "models/org/name", "private"] {
            std::fs::create_dir_all(outside.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink(outside.path().join("private"), folder.join("link")).unwrap();
        let find = |model: &str| ModelSource::find_within(model, Some(&folder));
        let mine = folder.join("mine").canonicalize().unwrap();
        assert_eq!(find("mine"), Ok(ModelSource::Folder(mine.clone())));
        assert_eq!(find(folder.join("mine").to_str().unwrap()), Ok(ModelSource::Folder(mine)));
        assert!(matches!(find("org/name"), Ok(ModelSource::Folder(_))));
        assert_eq!(find("org/other"), Ok(ModelSource::Hub("org/other".parse().unwrap())));
        assert_eq!(find("demo"), Ok(ModelSource::Demo("demo")));
        let private = outside.path().join("private");
        for model in ["../private", "link", "", ".", "..", "/etc", private.to_str().unwrap()] {
            assert_eq!(find(model), Err(Forbidden), "{model}");
            assert_eq!(ModelSource::find_within(model, None), Err(Forbidden), "{model}");
        }
        // What is there where the server was started is nothing to a caller.
        assert!(matches!(ModelSource::find_within("models/demo", None), Ok(ModelSource::Hub(_))));
    }
}
