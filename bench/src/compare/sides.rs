//! The two sides: the gateway's programs of this build, and those of another commit.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// The folder with the programs of `base`: itself, if it is one, or else where they are built. `target` is the target folder of this build, below
/// which the other tree and its own target folder are kept, so that what was built once is not built again.
///
/// # Errors
/// If it is neither, or does not build.
pub(super) fn base(base: &str, workspace: &Path, target: &Path, profile: &str, cargo: &OsStr) -> Result<PathBuf> {
    let given = Path::new(base);
    if given.join("eddy").is_file() {
        return given.canonicalize().with_context(|| base.to_owned());
    }
    let commit = commit(base, workspace)?;
    let (tree, built) = (target.join("compare/tree"), target.join("compare/target"));
    check_out(&commit, workspace, &tree)?;
    let mut build = Command::new(cargo);
    // All of it, as this build: which features dependencies have is decided by all that use them.
    build.args(["build", "--workspace", "--bins"]).arg("--target-dir").arg(&built).current_dir(&tree);
    match profile {
        "release" => build.arg("--release"),
        "debug" => &mut build,
        other => build.args(["--profile", other]),
    };
    run(build.stdin(Stdio::null()))?;
    Ok(built.join(profile))
}

/// The full id of a commit.
fn commit(name: &str, workspace: &Path) -> Result<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(workspace).args(["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]);
    let output = git.output().context("starting git")?;
    ensure!(output.status.success(), "{name}: neither a commit of {} nor a folder with programs", workspace.display());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A working tree of its own at that commit.
fn check_out(commit: &str, workspace: &Path, tree: &Path) -> Result<()> {
    let git = |folder: &Path| {
        let mut git = Command::new("git");
        git.arg("-C").arg(folder);
        git
    };
    // One whose folder was deleted is forgotten.
    run(git(workspace).args(["worktree", "prune"]))?;
    if tree.join(".git").exists() {
        return run(git(tree).args(["checkout", "--quiet", "--force", "--detach", commit]));
    }
    run(git(workspace).args(["worktree", "add", "--quiet", "--detach", "--force"]).arg(tree).arg(commit))
}

fn run(command: &mut Command) -> Result<()> {
    // Standard output is kept for the figures.
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A repository with two commits, and a "cargo" that copies the tree's one file to where programs are built.
    fn repository(folder: &Path) -> (PathBuf, PathBuf) {
        let (workspace, cargo) = (folder.join("source"), folder.join("cargo"));
        std::fs::create_dir(&workspace).unwrap();
        let git = |arguments: &[&str]| {
            let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
            run(Command::new("git").arg("-C").arg(&workspace).args(identity).args(arguments)).unwrap();
        };
        git(&["init", "--quiet"]);
        for text in ["first", "second"] {
            std::fs::write(workspace.join("file"), text).unwrap();
            git(&["add", "file"]);
            git(&["commit", "--quiet", "--message", text]);
        }
        std::fs::write(
            &cargo,
            "#!/bin/sh\nmkdir -p \"$5/release\" && cp file \"$5/release/eddy\" && [ \"$6\" = --release ]\n",
        )
        .unwrap();
        std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
        (workspace, cargo)
    }

    #[test]
    fn another_commit_is_built_in_a_tree_of_its_own_and_again_in_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (workspace, cargo) = repository(folder.path());
        let target = folder.path().join("target");
        for (name, text) in [("HEAD~1", "first"), ("HEAD", "second"), ("HEAD~1", "first")] {
            let built = base(name, &workspace, &target, "release", cargo.as_os_str()).unwrap();
            assert_eq!(built, target.join("compare/target/release"));
            assert_eq!(std::fs::read_to_string(built.join("eddy")).unwrap(), text);
        }
        // The tree that is worked in stays as it is; one that was deleted is made anew.
        assert_eq!(std::fs::read_to_string(workspace.join("file")).unwrap(), "second");
        std::fs::remove_dir_all(&target).unwrap();
        base("HEAD", &workspace, &target, "release", cargo.as_os_str()).unwrap();
    }

    #[test]
    fn a_folder_with_programs_is_taken_as_it_is_and_anything_else_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (workspace, cargo) = repository(folder.path());
        std::fs::write(folder.path().join("eddy"), "").unwrap();
        let at = |name: &str| base(name, &workspace, folder.path(), "debug", cargo.as_os_str());
        assert_eq!(at(&folder.path().to_string_lossy()).unwrap(), folder.path().canonicalize().unwrap());
        assert!(at("no-such-commit").unwrap_err().to_string().contains("neither a commit"));
        // Cargo fails: that is told, not measured.
        assert!(at("HEAD").unwrap_err().to_string().contains("build"));
    }
}
