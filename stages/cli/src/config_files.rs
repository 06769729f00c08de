//! Which files a gateway's config names: certificates, keys, secrets.

use std::path::{Path, PathBuf};

/// A file that a config names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its key with the tables above it: `sync.hub.tls_key_file`.
    pub key: String,
    /// Where it is, as the config has it.
    pub path: PathBuf,
}

impl Named {
    /// With a relative path as one from the folder `cwd`.
    pub fn below(self, cwd: &Path) -> Self {
        Self { path: cwd.join(self.path), ..self }
    }
}

/// Files that stages write, not read.
const WRITTEN: [&str; 1] = ["address_file"];

/// The table in a config file.
///
/// # Errors
/// That the file cannot be read or is not TOML: where, and what the parser says, but not the line, which may hold a secret.
pub fn table(file: &Path) -> anyhow::Result<toml::Table> {
    let place = file.display();
    let text = std::fs::read_to_string(file).map_err(|problem| anyhow::anyhow!("{place}: {problem}"))?;
    text.parse().map_err(|problem: toml::de::Error| {
        let message = problem.message().trim_end().replace('\n', ", ");
        let before = problem.span().and_then(|span| text.get(..span.start));
        let Some(before) = before else { return anyhow::anyhow!("{place}: {message}") };
        let (line, of_line) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default());
        anyhow::anyhow!("{place}, line {line}, column {}: {message}", of_line.chars().count() + 1)
    })
}

/// Every file that the config in `file` names by a key that ends with `_file`, in order; a stage's and the gateway's own alike.
///
/// # Errors
/// As [`table`].
pub fn named(file: &Path) -> anyhow::Result<Vec<Named>> {
    Ok(named_in(table(file)?))
}

/// Every file that a config names, as [`named`].
pub fn named_in(table: toml::Table) -> Vec<Named> {
    let mut found = Vec::new();
    gather("", &toml::Value::Table(table), &mut found);
    found
}

fn gather(place: &str, value: &toml::Value, found: &mut Vec<Named>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let key = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                gather(&key, value, found);
            }
        }
        toml::Value::Array(all) => all.iter().for_each(|value| gather(place, value, found)),
        toml::Value::String(path) if !path.is_empty() => {
            let key = place.rsplit('.').next().unwrap_or_default();
            // Public keys are named by path too, where they are not given as they are.
            let is_file =
                key == "ca_file" || key.ends_with("_file") || (key == "trusted_keys" && path.ends_with(".pub"));
            if is_file && !WRITTEN.contains(&key) {
                found.push(Named { key: place.to_owned(), path: path.into() });
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_tables_and_lists_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        let text = "[gateway]\ntrusted_keys = [\"a.pub\", \"RWQ\"]\n[sync.hub]\nurl = \"tls://h\"\ntls_key_file = \"k\"\n\
                    [[notify.webhook]]\nsecret_file = \"s\"\n[telemetry]\naddress_file = \"x\"\n[bus]\ntls_ca_file = \"\"\n";
        std::fs::write(&file, text).unwrap();
        let found: Vec<_> = named(&file).unwrap().into_iter().map(|one| (one.key, one.path)).collect();
        let expected =
            [("gateway.trusted_keys", "a.pub"), ("sync.hub.tls_key_file", "k"), ("notify.webhook.secret_file", "s")];
        let mut expected: Vec<_> = expected.map(|(key, path)| (key.to_owned(), PathBuf::from(path))).to_vec();
        expected.sort();
        let mut found = found;
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_that_is_no_toml_is_told_by_its_place_and_not_by_what_stands_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "[site]\nname = \"a\"\npassword = \"SUPERSECRETPW\n").unwrap();
        let told = format!("{:#}", named(&file).unwrap_err());
        assert!(told.contains("c.toml, line 3, column ") && !told.contains("SUPERSECRET"), "{told}");
    }
}
