//! A bucket of S3, or of what speaks like it. Endpoint, region and credentials come from the environment, under the names that the
//! AWS tools read: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_DEFAULT_REGION`,
//! `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3`. (Shared files and `AWS_PROFILE` are not read.)

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{
    BackoffConfig, Error, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};

use super::StoreError;

/// A larger object goes in parts of this size. (S3 takes none below 5 MiB but the last.)
const PART_BYTES: usize = 5 << 20;
/// A request is tried so often, and for so long.
const RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug)]
pub struct S3 {
    store: AmazonS3,
    bucket: String,
    prefix: String,
}

impl S3 {
    /// `bucket/prefix`.
    pub(super) async fn open(place: &str) -> Result<Self, StoreError> {
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = prefix.trim_matches('/').to_owned();
        let refused = |problem: String| StoreError { what: format!("s3://{place}"), problem };
        if prefix.split('/').any(|part| matches!(part, "." | "..") || (part.is_empty() && !prefix.is_empty())) {
            return Err(refused("the prefix has an empty part, or one of dots alone".into()));
        }
        if bucket.is_empty() {
            return Err(refused("no bucket is named: s3://bucket/prefix is taken".into()));
        }
        if std::env::var_os("AWS_PROFILE").is_some() && std::env::var_os("AWS_ACCESS_KEY_ID").is_none() {
            let problem = "AWS_PROFILE names a profile, and profiles are not read: set AWS_ACCESS_KEY_ID and \
                           AWS_SECRET_ACCESS_KEY (`aws configure export-credentials --format env` prints them)";
            return Err(refused(problem.into()));
        }
        // More than one crate brings a provider to choose from; that it was chosen before is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let is_plain = |name| std::env::var(name).is_ok_and(|url: String| url.starts_with("http://"));
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_FOR, backoff: BackoffConfig::default() };
        let builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_allow_http(
                is_plain("AWS_ENDPOINT_URL") || is_plain("AWS_ENDPOINT_URL_S3") || is_plain("AWS_ENDPOINT"),
            )
            .with_retry(retry);
        let store = builder.build().map_err(|error| refused(error.to_string()))?;
        let s3 = Self { store, bucket: bucket.to_owned(), prefix };
        // Whether it may be used is better said before a stream is read.
        let probe = s3.store.list(Some(&s3.path("_manifests"))).next().await;
        probe.transpose().map_err(|error| s3.failed("listing", "_manifests", &error))?;
        Ok(s3)
    }

    fn path(&self, name: &str) -> Path {
        // Names hold percent signs, which are to stay as they are.
        let whole = if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Path::parse(&whole).unwrap_or_else(|_| Path::from(whole))
    }

    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.path(name);
        let put = if bytes.len() <= PART_BYTES {
            self.store.put(&path, PutPayload::from(bytes)).await.map(|_| ())
        } else {
            self.put_parts(&path, bytes).await
        };
        put.map_err(|error| self.failed("writing", name, &error))
    }

    async fn put_parts(&self, path: &Path, bytes: Bytes) -> Result<(), Error> {
        let mut upload = self.store.put_multipart(path).await?;
        let mut sent = Ok(());
        for start in (0..bytes.len()).step_by(PART_BYTES) {
            let part = bytes.slice(start..(start + PART_BYTES).min(bytes.len()));
            sent = upload.put_part(PutPayload::from(part)).await;
            if sent.is_err() {
                break;
            }
        }
        let completed = match sent {
            Ok(()) => upload.complete().await.map(|_| ()),
            Err(error) => Err(error),
        };
        if completed.is_err() {
            // If that fails too, the bucket's own rule for unfinished uploads removes it.
            let _ = upload.abort().await;
        }
        completed
    }

    pub(super) async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, StoreError> {
        let path = self.path(name);
        match self.store.put_opts(&path, PutPayload::from(bytes.clone()), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            // Not every store knows conditions. Then two writers are told apart only if one comes later.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                if self.get(name).await?.is_some() {
                    return Ok(false);
                }
                self.put(name, bytes).await.map(|()| true)
            }
            Err(error) => Err(self.failed("writing", name, &error)),
        }
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let got = match self.store.get(&self.path(name)).await {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("reading", name, &error)),
        }
    }

    pub(super) async fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        self.listed(folder, self.store.list(Some(&self.path(folder)))).await
    }

    pub(super) async fn list_after(&self, folder: &str, name: &str) -> Result<Vec<(String, u64)>, StoreError> {
        self.listed(folder, self.store.list_with_offset(Some(&self.path(folder)), &self.path(name))).await
    }

    async fn listed(
        &self,
        folder: &str,
        listing: impl futures_util::Stream<Item = Result<ObjectMeta, Error>>,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let found: Vec<_> = listing.try_collect().await.map_err(|error| self.failed("listing", folder, &error))?;
        let name = |location: &Path| {
            let whole = location.as_ref();
            whole.strip_prefix(&self.prefix).unwrap_or(whole).trim_start_matches('/').to_owned()
        };
        Ok(found.into_iter().map(|object| (name(&object.location), object.size)).collect())
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), StoreError> {
        match self.store.delete(&self.path(name)).await {
            Err(Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(self.failed("removing", name, &error)),
        }
    }

    fn failed(&self, what: &str, name: &str, error: &Error) -> StoreError {
        let text = chain(error);
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        // What a listing is answered comes as text alone.
        let hint = if says(&["NoSuchBucket"]) || matches!(error, Error::NotFound { .. }) {
            let endpoint = std::env::var("AWS_ENDPOINT_URL_S3").or_else(|_| std::env::var("AWS_ENDPOINT_URL"));
            let at = endpoint.map_or_else(|_| String::new(), |endpoint| format!(" at {endpoint}"));
            format!("bucket {:?} is not there{at}: make it, or name another", self.bucket)
        } else if matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
            || says(&["403 Forbidden", "401 Unauthorized"])
        {
            let keys = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN";
            format!("the credentials are refused: look at {keys}, and at what they may do in {:?}", self.bucket)
        } else {
            "it does not answer, or not as it should; run the export again, it goes on where it was".to_owned()
        };
        let what = format!("{what} s3://{}/{}", self.bucket, self.path(name));
        StoreError { what, problem: format!("{hint} ({text})") }
    }
}

/// An error and what caused it, on one line, of a bounded length: some answers are whole pages.
fn chain(error: &dyn std::error::Error) -> String {
    const CHARACTERS_MAX: usize = 400;
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(CHARACTERS_MAX).collect()
}
