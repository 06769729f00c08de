//! Who may do what: by the CN of the subject of the certificate. Whoever is not named may do nothing.

use serde::Deserialize;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Searches, windows and receipts.
    Reader,
    /// Also labels.
    Labeler,
    /// Everything.
    Operator,
}

impl Role {
    /// Its config key.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Labeler => "labeler",
            Self::Operator => "operator",
        }
    }
}

/// `[hub.roles]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// May search and read receipts.
    pub reader: Vec<String>,
    /// May also label.
    pub labeler: Vec<String>,
    /// May do everything.
    pub operator: Vec<String>,
}

impl Roles {
    /// The highest role of a subject; `None`: it may do nothing.
    pub fn of(&self, cn: &str) -> Option<Role> {
        let named = |names: &[String]| names.iter().any(|name| name == cn);
        [(Role::Operator, &self.operator), (Role::Labeler, &self.labeler), (Role::Reader, &self.reader)]
            .into_iter()
            .find(|(_, names)| named(names))
            .map(|(role, _)| role)
    }

    /// Every name that cannot be one.
    pub fn problems(&self) -> Vec<String> {
        let lists = [("reader", &self.reader), ("labeler", &self.labeler), ("operator", &self.operator)];
        let wrong =
            |name: &str| name.is_empty() || name.len() > 64 || name.contains('*') || name.chars().any(char::is_control);
        let names = lists.into_iter().flat_map(|(role, names)| names.iter().map(move |name| (role, name)));
        names
            .filter(|(_, name)| wrong(name))
            .map(|(role, name)| {
                format!("hub.roles.{role} has {name:?}: the CN of a certificate's subject is taken, as a whole")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_role_counts_and_nobody_has_one_by_default() {
        let roles: Roles =
            toml::from_str("reader = ['console', 'alice']\nlabeler = ['alice', 'bob']\noperator = ['bob']").unwrap();
        assert_eq!(
            ["console", "alice", "bob", "Bob", ""].map(|cn| roles.of(cn)),
            [Some(Role::Reader), Some(Role::Labeler), Some(Role::Operator), None, None]
        );
        assert_eq!(Roles::default().of("console"), None);
        assert!(Role::Operator > Role::Labeler && Role::Labeler > Role::Reader);
        assert!(roles.problems().is_empty());
        let wrong = Roles { reader: vec!["*".into()], operator: vec![String::new()], ..Roles::default() };
        let problems = wrong.problems().join("\n");
        assert!(problems.contains("hub.roles.reader has \"*\"") && problems.contains("hub.roles.operator has \"\""));
        assert!(toml::from_str::<Roles>("reader = []\nlabeler = []\noperator = []\nadmin = []").is_err());
    }
}
