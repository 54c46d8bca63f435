//! Resolves the value of `--model`: an embedded model, a folder, a weights file, or a hub name.

use std::{
    env,
    path::{Component, Path, PathBuf},
};

use anyhow::Context as _;
use blip::ModelFiles;
use hub::{Config, Hub, Progress, RepositoryName, Snapshot};

use crate::config::sections::model::{EmbeddedFiles, EmbeddedModels};

/// The source of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A model whose files are part of the program.
    Embedded(&'static str, EmbeddedFiles),
    /// A folder in the layout of Hugging Face.
    Folder(PathBuf),
    /// A folder that a client names. Links to files outside of `root` are not followed.
    ConfinedFolder {
        /// The folder of the model.
        folder: PathBuf,
        /// The folder of all models that clients may name.
        root: PathBuf,
    },
    /// A weights file, with the model's other files beside it.
    File(PathBuf),
    /// A repository on a hub.
    Hub(RepositoryName),
}

/// The local files of a model.
#[derive(Clone, Debug)]
pub struct LocalModel {
    /// The files.
    pub files: ModelFiles,
    /// The commit on the hub, for files from a hub.
    pub revision: Option<String>,
}

impl ModelSource {
    /// Resolves `model`. An existing folder or file takes precedence over a name on a hub.
    ///
    /// # Errors
    /// An error that lists the alternatives, if none of them fits.
    pub fn find(model: &str, embedded: EmbeddedModels) -> anyhow::Result<Self> {
        if let Some((name, files)) = embedded_model(embedded, model) {
            return Ok(Self::Embedded(name, files));
        }
        let path = Path::new(model);
        // A .pth path names a missing file rather than a repository on a hub.
        if path.is_file() || path.extension().is_some_and(|extension| extension == "pth") {
            return Ok(Self::File(path.to_owned()));
        }
        let is_path = !matches!(path.components().next(), Some(Component::Normal(_)) | None);
        if is_path || path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        model.parse().map(Self::Hub).map_err(|reason| {
            let embedded = names_of(embedded);
            anyhow::anyhow!("not an embedded model ({embedded}), a folder or a file; {reason}")
        })
    }

    /// Resolves `model` for a client, which may use only these sources:
    ///
    /// - an embedded model
    /// - a folder below `folder`, by its full path or relative to `folder`
    /// - a name on a hub
    ///
    /// The result says nothing about other files of the machine.
    ///
    /// # Errors
    /// [`ForbiddenSource`] for any other text.
    pub fn find_within(
        model: &str,
        folder: Option<&Path>,
        embedded: EmbeddedModels,
    ) -> Result<Self, ForbiddenSource> {
        if let Some((name, files)) = embedded_model(embedded, model) {
            return Ok(Self::Embedded(name, files));
        }
        // Both paths are canonical, so that no symbolic link leads out of `folder`.
        let within = |root: &Path| {
            let root = root.canonicalize().ok()?;
            let folder = root.join(model).canonicalize().ok()?;
            let is_below = folder.is_dir() && folder != root && folder.starts_with(&root);
            is_below.then_some(Self::ConfinedFolder { folder, root })
        };
        if let Some(source) = folder.and_then(within) {
            return Ok(source);
        }
        model.parse().map(Self::Hub).map_err(|_| ForbiddenSource { embedded: names_of(embedded) })
    }

    /// Returns the local files of the model. Downloads missing files from the hub.
    ///
    /// The future may be dropped at any time.
    ///
    /// # Errors
    /// Those of the download.
    pub async fn fetch(&self) -> anyhow::Result<LocalModel> {
        Ok(match self {
            Self::Embedded(_, files) => LocalModel { files: ModelFiles::Embedded(files), revision: None },
            Self::Folder(folder) => LocalModel { files: ModelFiles::Folder(folder.clone()), revision: None },
            Self::ConfinedFolder { folder, root } => LocalModel {
                files: ModelFiles::ConfinedFolder { folder: folder.clone(), root: root.clone() },
                revision: None,
            },
            Self::File(file) => LocalModel { files: ModelFiles::File(file.clone()), revision: None },
            Self::Hub(name) => {
                let Snapshot { folder, commit } = download(name)
                    .await
                    .with_context(|| format!("no folder {}, and the download failed", name.repository()))?;
                LocalModel { files: ModelFiles::Folder(folder), revision: Some(commit) }
            }
        })
    }
}

/// A source that clients may not use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {embedded}, a folder below the model folder, or a name of the form org/name")]
pub struct ForbiddenSource {
    /// The names of the embedded models.
    embedded: String,
}

/// Returns the name and the files of the embedded model `name`.
fn embedded_model(models: EmbeddedModels, name: &str) -> Option<(&'static str, EmbeddedFiles)> {
    models.iter().find(|(known, _)| *known == name).copied()
}

fn names_of(models: EmbeddedModels) -> String {
    models.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Downloads `name` to the local cache. The environment names the hub and the cache.
///
/// # Errors
/// [`hub::ConfigError`] and [`hub::HubError`].
pub async fn download(name: &RepositoryName) -> anyhow::Result<Snapshot> {
    let config = Config::from_environment(|name| env::var(name).ok())?;
    let snapshot = Hub::new(config)?.fetch(name, &Progress::on_stderr()).await?;
    tracing::info!(model = name.repository(), commit = snapshot.commit, "model found");
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    static EMBEDDED: EmbeddedModels = &[("demo", &[])];

    #[test]
    fn path_is_a_folder_and_org_name_is_on_a_hub() {
        for path in ["./blip", "../blip", "/models/blip", ".", ".."] {
            assert_eq!(
                ModelSource::find(path, EMBEDDED).unwrap(),
                ModelSource::Folder(path.into()),
                "{path}"
            );
        }
        let name = "Salesforce/blip-vqa-base@v1";
        assert_eq!(ModelSource::find(name, EMBEDDED).unwrap(), ModelSource::Hub(name.parse().unwrap()));
        assert_eq!(ModelSource::find("demo", EMBEDDED).unwrap(), ModelSource::Embedded("demo", &[]));
    }

    #[test]
    fn existing_folder_takes_precedence_over_a_hub_name() {
        // Tests run in the folder of the crate.
        assert_eq!(
            ModelSource::find("src/models", EMBEDDED).unwrap(),
            ModelSource::Folder("src/models".into())
        );
    }

    #[test]
    fn weights_file_is_a_file_and_so_is_a_missing_pth() {
        for path in ["src/lib.rs", "org/model_base.pth", "./model_base.pth"] {
            assert_eq!(ModelSource::find(path, EMBEDDED).unwrap(), ModelSource::File(path.into()), "{path}");
        }
    }

    #[test]
    fn invalid_source_error_lists_the_alternatives() {
        let message = ModelSource::find("blip-vqa-base", EMBEDDED).unwrap_err().to_string();
        let (alternatives, reason) = message.split_once("; ").unwrap();
        assert_eq!(alternatives, "not an embedded model (demo), a folder or a file");
        assert!(reason.contains("\"blip-vqa-base\"") && reason.contains("org/name[@revision]"), "{reason}");
    }

    #[test]
    fn client_reaches_only_folders_below_the_model_folder() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("models");
        for name in ["models/mine", "models/org/name", "private"] {
            std::fs::create_dir_all(outside.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink(outside.path().join("private"), folder.join("link")).unwrap();
        let find = |model: &str| ModelSource::find_within(model, Some(&folder), EMBEDDED);
        let root = folder.canonicalize().unwrap();
        let mine = ModelSource::ConfinedFolder { folder: root.join("mine"), root };
        assert_eq!(find("mine").as_ref(), Ok(&mine));
        assert_eq!(find(folder.join("mine").to_str().unwrap()), Ok(mine));
        assert!(matches!(find("org/name"), Ok(ModelSource::ConfinedFolder { .. })));
        assert_eq!(find("org/other"), Ok(ModelSource::Hub("org/other".parse().unwrap())));
        assert_eq!(find("demo"), Ok(ModelSource::Embedded("demo", &[])));
        let private = outside.path().join("private");
        for model in ["../private", "link", "", ".", "..", "/etc", private.to_str().unwrap()] {
            assert!(find(model).is_err(), "{model}");
            assert!(ModelSource::find_within(model, None, EMBEDDED).is_err(), "{model}");
        }
        // The working directory of the server is not visible to clients.
        assert!(matches!(ModelSource::find_within("models/demo", None, EMBEDDED), Ok(ModelSource::Hub(_))));
    }
}
