//! Object stores: files in a bucket.

use futures_util::TryStreamExt as _;

use super::{Client, ClientError, answers::chain};

/// A file in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: usize,
}

impl Client {
    /// Puts a file into a bucket, in the place of one of this name.
    ///
    /// # Errors
    /// That there is no such bucket, or that the server does not take it.
    pub async fn put_object(&self, bucket: &str, name: &str, mut data: &[u8]) -> Result<(), ClientError> {
        let what = || format!("putting {name} into bucket {bucket}");
        let store =
            self.context.get_object_store(bucket).await.map_err(|error| ClientError::refused(what(), chain(&error)))?;
        store.put(name, &mut data).await.map(drop).map_err(|error| ClientError::refused(what(), chain(&error)))
    }

    /// The files of a bucket, by name.
    ///
    /// # Errors
    /// That there is no such bucket, or that the server does not answer.
    pub async fn objects(&self, bucket: &str) -> Result<Vec<Object>, ClientError> {
        let what = || format!("listing bucket {bucket}");
        let store =
            self.context.get_object_store(bucket).await.map_err(|error| ClientError::refused(what(), chain(&error)))?;
        let list = store.list().await.map_err(|error| ClientError::refused(what(), chain(&error)))?;
        let infos: Vec<_> = list.try_collect().await.map_err(|error| ClientError::refused(what(), chain(&error)))?;
        let mut objects: Vec<_> = infos.into_iter().map(|info| Object { name: info.name, bytes: info.size }).collect();
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(objects)
    }
}
