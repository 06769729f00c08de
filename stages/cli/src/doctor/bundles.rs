//! The bundles that judge lie in the gateway's folder, unaltered and signed: without them no restart succeeds.

use std::collections::BTreeSet;

use eddy_runtime::bundle::Library;

use super::{Patient, finding::Check};
use crate::{gateway::Gateway, rollout::seen::Seen, up::bundle};

pub async fn look(patient: &Patient, gateway: &Gateway, check: &mut Check<'_>) {
    let (Some(plan), Ok(seen)) = (&patient.plan, Seen::ask(gateway).await) else {
        return check.unchecked("which bundle judges is not known");
    };
    if !bundle::folder(&patient.dir).is_dir() {
        return check.unchecked("the gateway's bundles are not on this machine");
    }
    let library = Library::new(&bundle::folder(&patient.dir), &plan.trusted_keys(), plan.allows_unsigned());
    let shadow = seen.shadow.iter().map(|report| report.bundle.clone());
    let digests = seen.active.iter().cloned().chain(shadow).collect::<BTreeSet<_>>();
    for digest in digests.iter().filter(|digest| !digest.is_empty()) {
        of(&library, digest, check);
    }
}

fn of(library: &Library, digest: &str, check: &mut Check<'_>) {
    if let Err(problem) = library.open(digest) {
        let remedy =
            "put the bundle's folder back, named by its digest (a backup has it); `eddy model verify` looks at one";
        check.error(format!("bundle {digest}"), problem, remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::found;

    #[test]
    fn a_bundle_that_judges_and_is_gone_or_altered_is_told() {
        let folder = tempfile::tempdir().unwrap();
        bundle::write(folder.path()).unwrap();
        let place = bundle::default_place(folder.path());
        let digest = place.file_name().unwrap().to_str().unwrap();
        let library = Library::new(&bundle::folder(folder.path()), &[bundle::default_key().to_owned()], false);
        assert_eq!(found(|check| of(&library, digest, check)).findings, []);
        std::fs::write(place.join("model.onnx"), "another graph").unwrap();
        assert!(!found(|check| of(&library, digest, check)).is_sound(false));
        std::fs::remove_dir_all(&place).unwrap();
        assert!(found(|check| of(&library, digest, check)).findings[0].place.contains(digest));
    }
}
