//! Lists objects, and looks up many of them at once.

use std::{ffi::OsString, io};

use futures::{StreamExt as _, stream};
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use crate::storage::{
    location::{Location, ObjectUrl},
    object::{request::answer, stores::StoredObject, wait::Pending},
};

/// Number of requests at a time.
const CONCURRENT: usize = 32;

/// Returns the names of the objects in a folder.
///
/// # Errors
/// The store does not list them. Web servers have no lists.
pub(crate) fn file_names(folder: &ObjectUrl) -> io::Result<Vec<OsString>> {
    if folder.is_web() {
        let message = "a web server lists no files: name them, as in shard-{000..127}.tar";
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    let StoredObject { store, path, url } = StoredObject::find(folder)?;
    Pending::start(async move {
        let list = answer(&url, store.list_with_delimiter(Some(&path))).await?;
        let names = list.objects.iter().filter_map(|object| object.location.filename());
        Ok(names.map(OsString::from).collect())
    })
    .wait()
}

/// Writes the lengths of objects. Those after one whose server does not answer keep their value.
pub(crate) fn add_lengths(files: &[Location], lengths: &mut [u64]) {
    let urls = files.iter().enumerate().filter_map(|(at, file)| match file {
        Location::Url(url) => Some((at, StoredObject::find(url).ok()?)),
        Location::Path(_) => None,
    });
    let objects: Vec<_> = urls.collect();
    let lookups = stream::iter(objects).map(|(at, object)| async move {
        let StoredObject { store, path, url } = object;
        match answer(&url, store.head(&path)).await {
            Ok(meta) => Ok((at, meta.size)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((at, 0)),
            Err(error) => Err(error),
        }
    });
    let found = lookups.buffered(CONCURRENT).map(|found| found.ok()).take_while(|found| {
        let is_found = found.is_some();
        async move { is_found }
    });
    let found =
        Pending::start(async move { Ok(found.filter_map(async |found| found).collect::<Vec<_>>().await) });
    for (at, length) in found.wait().unwrap_or_default() {
        if let Some(slot) = lengths.get_mut(at) {
            *slot = length;
        }
    }
}
