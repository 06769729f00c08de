//! The gateway's folder of keys: `USER/USER.nk`, the seed of each user's NKey. What is not there is made; what is there is kept, and a
//! replaced one is taken up while everything runs.
//!
//! A folder for each, so that a container can be given its own and no other.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use eddy_runtime::identity;

use super::{
    Plan,
    config::AccessConfig,
    users::{self, OPERATOR, Site},
};
use crate::supervise::{UpError, register::Register, server};

/// What the server's config includes, beside it.
pub const USERS_FILE: &str = "nats-users.conf";
/// How often the keys are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where the seed of `user` lies.
pub fn file(keys_dir: &Path, user: &str) -> PathBuf {
    keys_dir.join(user).join(format!("{user}.nk"))
}

/// Every user and the public half of its key; seeds that are not there are made.
///
/// # Errors
/// That a folder or a file cannot be written or read, or that it holds no seed.
pub fn keep(keys_dir: &Path) -> io::Result<Vec<(&'static str, String)>> {
    users::ALL.iter().map(|user| Ok((*user, public(&file(keys_dir, user))?))).collect()
}

fn public(file: &Path) -> io::Result<String> {
    let wrong = |problem: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {problem}", file.display()));
    let seed = match std::fs::read_to_string(file) {
        Ok(seed) => seed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(file, &wrong)?,
        Err(error) => return Err(error),
    };
    identity::public_key(&seed)
        .map_err(|error| wrong(format!("no NKey seed: {error}; remove it, and a new one is made")))
}

/// Writes the part of the server's config that says who its users are; whether it is another one than before.
///
/// # Errors
/// As [`keep`]; that the file cannot be written.
pub fn write(plan: &Plan) -> Result<bool, UpError> {
    let access = &plan.config.access;
    let failed = |error| UpError::Io(access.keys_dir.display().to_string(), error);
    let keys = keep(&access.keys_dir).map_err(failed)?;
    open_to_group(access).map_err(failed)?;
    let token = eddy_schemas::names::encode(&plan.site);
    let text = users::config(Site { token: &token, shards: plan.shards }, &keys, access.guests);
    let path = plan.dir.join(USERS_FILE);
    if std::fs::read_to_string(&path).is_ok_and(|before| before == text) {
        return Ok(false);
    }
    let failed = |error| UpError::Io(path.display().to_string(), error);
    let draft = path.with_extension("draft");
    std::fs::create_dir_all(&plan.dir).map_err(failed)?;
    std::fs::write(&draft, text).map_err(failed)?;
    std::fs::rename(&draft, &path).map_err(failed)?;
    Ok(true)
}

/// Has the server read its config again when a key was replaced. It closes the connections of the users that changed; they come again
/// with what lies in their files then. Does not end.
pub async fn follow(plan: Plan, register: Register) {
    let mut last_problem = String::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match write(&plan) {
            Ok(false) => {}
            Ok(true) => {
                register.journal.tell("a key was replaced: the server reads its users again");
                server::reload(&register);
            }
            Err(problem) if last_problem != problem.to_string() => {
                last_problem = problem.to_string();
                register.journal.tell(&format!("keys: {last_problem}; the ones before stay in use"));
            }
            Err(_) => {}
        }
    }
}

/// Lets the group read the operator's key, if it is to.
fn open_to_group(access: &AccessConfig) -> io::Result<()> {
    let file = file(&access.keys_dir, OPERATOR);
    let mode = file.metadata()?.permissions().mode();
    if !access.operator_by_group || mode & 0o040 != 0 {
        return Ok(());
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode & 0o777 | 0o040))
}

/// Readable by its owner alone, and there only as a whole.
fn make(file: &Path, wrong: &impl Fn(String) -> io::Error) -> io::Result<String> {
    let (seed, _) = identity::new_key().map_err(wrong)?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let draft = file.with_extension("draft");
    let mut open: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(open, "{seed}")?;
    open.sync_all()?;
    std::fs::rename(&draft, file)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_key_is_its_groups_where_the_config_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut access = AccessConfig {
            host: std::net::Ipv4Addr::LOCALHOST.into(),
            keys_dir: folder.path().to_owned(),
            operator_by_group: false,
            guests: true,
            store_key_file: PathBuf::new(),
            stages_at: String::new(),
            bus_at: String::new(),
        };
        keep(folder.path()).unwrap();
        let mode = |user: &str| file(folder.path(), user).metadata().unwrap().permissions().mode() & 0o777;
        open_to_group(&access).unwrap();
        assert_eq!(mode(OPERATOR), 0o600);
        access.operator_by_group = true;
        open_to_group(&access).unwrap();
        assert_eq!((mode(OPERATOR), mode("detect")), (0o640, 0o600));
    }

    #[test]
    fn keys_are_made_once_and_a_replaced_one_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let first = keep(folder.path()).unwrap();
        assert_eq!(first.iter().map(|(user, _)| *user).collect::<Vec<_>>(), users::ALL);
        assert_eq!(keep(folder.path()).unwrap(), first);
        let detect = file(folder.path(), "detect");
        assert_eq!(detect.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_file(&detect).unwrap();
        let second = keep(folder.path()).unwrap();
        let changed: Vec<_> = first.iter().zip(&second).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
        assert_eq!(changed, ["detect"]);
        std::fs::write(&detect, "rubbish").unwrap();
        assert!(keep(folder.path()).unwrap_err().to_string().contains("detect.nk"));
    }
}
