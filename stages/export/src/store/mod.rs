//! Where files go: a folder, or a bucket of S3. A file is there whole or not at all.

mod folder;
mod s3;

use bytes::Bytes;

use self::{folder::Folder, s3::S3};

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {problem}")]
pub struct StoreError {
    /// What was to be done, and where.
    pub what: String,
    /// What went wrong, and what can be done.
    pub problem: String,
}

/// A place for files; names are relative to its root, with `/` between folders.
#[derive(Debug)]
pub enum Store {
    /// A folder.
    Folder(Folder),
    /// A bucket, below a prefix.
    S3(Box<S3>),
}

impl Store {
    /// What `to` names: `s3://bucket/prefix`, or a folder, which is made if it is not there.
    ///
    /// # Errors
    /// That it cannot be used, with what is wrong: credentials, the bucket, the folder.
    pub async fn open(to: &str) -> Result<Self, StoreError> {
        match to.strip_prefix("s3://") {
            Some(place) => Ok(Self::S3(Box::new(S3::open(place).await?))),
            None => {
                let scheme = to.split_once("://").map(|(scheme, _)| scheme);
                if to.is_empty() || to.starts_with("s3:") {
                    let problem = "a folder or s3://bucket/prefix is taken".to_owned();
                    return Err(StoreError { what: format!("{to:?}"), problem });
                }
                if let Some(scheme) = scheme {
                    let problem = "a folder or s3://bucket/prefix is taken".to_owned();
                    return Err(StoreError { what: format!("{scheme}://"), problem });
                }
                Ok(Self::Folder(Folder::open(to)?))
            }
        }
    }

    /// Writes a file, in place of one that may be there.
    ///
    /// # Errors
    /// That it could not be written; what was there before is there still.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        match self {
            Self::Folder(folder) => folder.put(name, &bytes),
            Self::S3(s3) => s3.put(name, bytes).await,
        }
    }

    /// Writes a file if there is none of that name; whether it did. Of two writers one does.
    ///
    /// # Errors
    /// That it could not be written.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, StoreError> {
        match self {
            Self::Folder(folder) => folder.create(name, &bytes),
            Self::S3(s3) => s3.create(name, bytes).await,
        }
    }

    /// A file's bytes, if it is there.
    ///
    /// # Errors
    /// That it could not be read.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Folder(folder) => folder.get(name),
            Self::S3(s3) => s3.get(name).await,
        }
    }

    /// The files below a folder, in the order of their names, with their sizes.
    ///
    /// # Errors
    /// That it could not be read.
    pub async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let mut files = match self {
            Self::Folder(root) => root.list(folder)?,
            Self::S3(s3) => s3.list(folder).await?,
        };
        files.sort_unstable();
        Ok(files)
    }

    /// The files of a folder whose names come behind `name`, in the order of their names. What lies before is not looked at.
    ///
    /// # Errors
    /// That it could not be read.
    pub async fn list_after(&self, folder: &str, name: &str) -> Result<Vec<String>, StoreError> {
        let files = match self {
            Self::Folder(root) => root.list(folder)?,
            Self::S3(s3) => s3.list_after(folder, name).await?,
        };
        let mut names: Vec<String> =
            files.into_iter().map(|(name, _)| name).filter(|file| file.as_str() > name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// That it could not be removed.
    pub async fn delete(&self, name: &str) -> Result<(), StoreError> {
        match self {
            Self::Folder(folder) => folder.delete(name),
            Self::S3(s3) => s3.delete(name).await,
        }
    }
}
