//! Paths of one file in different forms, such as `a.json` and `./a.json`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns whether two paths stand for one file, which does not need to exist.
pub(crate) fn is_same_path(one: &Path, other: &Path) -> bool {
    one == other || resolved(one) == resolved(other)
}

/// Returns a path without links and relative parts, as far as its folders exist.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(path) = fs::canonicalize(path) {
        return path;
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    resolved(folder).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_path_are_equal() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("real")).unwrap();
        std::os::unix::fs::symlink(path("real"), path("link")).unwrap();
        for exists in [false, true] {
            if exists {
                fs::write(path("real/a.json"), "").unwrap();
            }
            for other in ["real/./a.json", "link/a.json", "real/../link/a.json"] {
                assert!(is_same_path(&path("real/a.json"), &path(other)), "{other}");
            }
            assert!(!is_same_path(&path("real/a.json"), &path("real/b.json")));
            assert!(!is_same_path(&path("real/a.json"), &path("a.json")));
        }
        assert!(is_same_path(&path("new/a.json"), &path("link/../new/a.json")));
    }

    #[test]
    fn relative_paths_are_equal_without_their_file() {
        assert!(is_same_path(Path::new("absent.json"), Path::new("./absent.json")));
        let absolute = std::env::current_dir().unwrap().join("absent.json");
        assert!(is_same_path(Path::new("absent.json"), &absolute));
        assert!(!is_same_path(Path::new("absent.json"), Path::new("..")));
    }
}
