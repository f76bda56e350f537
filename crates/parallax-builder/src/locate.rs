//! Which folder is uploaded and built: the agent's own, or the workspace it is a member of.

use std::path::{Path, PathBuf};

use globset::GlobBuilder;
use parallax_core::manifest::AgentSpec;

use crate::detect::package_json::PackageJson;
use crate::detect::pyproject::PyProject;
use crate::plan::PlanError;
use crate::tree::{SourceTree, join, relative};

/// Workspaces are rarely nested deeper, and a search must not wander up to a home folder.
const MAX_CLIMB: usize = 6;

/// What to upload, and where in it the agent lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The folder to pack.
    pub context: PathBuf,
    /// The agent's folder in it.
    pub root_dir: String,
}

impl Located {
    /// The spec as an upload of `context` carries it.
    #[must_use]
    pub fn spec(&self, spec: &AgentSpec) -> AgentSpec {
        AgentSpec {
            root_dir: self.root_dir.clone(),
            context_dir: None,
            ..spec.clone()
        }
    }
}

/// Finds what to upload for the manifest in `folder`: `context_dir` when it is set, else the
/// workspace's root that names the agent as a member, else the agent's own folder. The search
/// climbs no higher than the folder with `.git`.
///
/// # Errors
/// When a folder does not exist, or a manifest on the way cannot be read.
pub fn locate(folder: &Path, spec: &AgentSpec) -> Result<Located, PlanError> {
    let folder = SourceTree::open(folder)?.root().to_owned();
    let no_folder = |key, path: &str| PlanError::NoSuchFolder {
        key,
        path: path.to_owned(),
    };
    let open =
        |key, path: &str| SourceTree::open(&folder.join(path)).map_err(|_| no_folder(key, path));
    let agent = open("root_dir", &spec.root_dir)?.root().to_owned();
    let context = match &spec.context_dir {
        Some(path) => open("context_dir", path)?.root().to_owned(),
        None => workspace_above(&folder, &agent)?.unwrap_or_else(|| folder.clone()),
    };
    let outside = || PlanError::RootOutsideContext {
        root: spec.root_dir.clone(),
        context: context.display().to_string(),
    };
    let root_dir = agent.strip_prefix(&context).map_err(|_| outside())?;
    let root_dir = root_dir.to_str().ok_or_else(outside)?;
    Ok(Located {
        root_dir: join(".", root_dir).ok_or_else(outside)?,
        context,
    })
}

fn workspace_above(folder: &Path, agent: &Path) -> Result<Option<PathBuf>, PlanError> {
    let mut at = folder.to_owned();
    for _ in 0..MAX_CLIMB {
        if at.join(".git").exists() {
            return Ok(None);
        }
        let Some(parent) = at.parent().map(Path::to_owned) else {
            return Ok(None);
        };
        let tree = SourceTree::open(&parent)?;
        let member = agent.strip_prefix(&parent).ok().and_then(Path::to_str); // Always below.
        if let Some(member) = member
            && names_member(&tree, ".", member)?
        {
            return Ok(Some(parent));
        }
        at = parent;
    }
    Ok(None)
}

/// The workspace in `tree` that the folder `root` is a member of, else `root` itself.
pub(crate) fn workspace_of(tree: &SourceTree, root: &str) -> Result<String, PlanError> {
    let mut at = root.to_owned();
    while at != "." {
        at = join(&at, "..").expect("a folder below the source has a parent in it");
        if names_member(tree, &at, &relative(&at, root))? {
            return Ok(at);
        }
    }
    Ok(root.to_owned())
}

/// Whether the workspace in `folder`, if there is one, counts `member` among its own.
fn names_member(tree: &SourceTree, folder: &str, member: &str) -> Result<bool, PlanError> {
    let globs = node_globs(tree, folder)?;
    if matches(&globs, member) {
        return Ok(true);
    }
    let Some(project) = PyProject::read(tree, folder)? else {
        return Ok(false);
    };
    let workspace = project.tool.uv.and_then(|uv| uv.workspace);
    Ok(workspace.is_some_and(|workspace| {
        matches(&workspace.members, member) && !matches(&workspace.exclude, member)
    }))
}

/// The members that `package.json` or `pnpm-workspace.yaml` names.
pub(crate) fn node_globs(tree: &SourceTree, folder: &str) -> Result<Vec<String>, PlanError> {
    let package = PackageJson::read(tree, folder)?.unwrap_or_default();
    let mut globs = package.workspaces.globs().to_vec();
    let path = join(folder, "pnpm-workspace.yaml").expect("a file of a normal folder");
    if let Some(text) = tree.read(&path)? {
        globs.extend(pnpm_packages(&text));
    }
    Ok(globs)
}

/// Whether any glob takes the path in, and none that begins with `!` takes it out.
pub(crate) fn matches(globs: &[String], path: &str) -> bool {
    let test = |glob: &str| {
        let glob = glob.trim_start_matches("./").trim_end_matches('/');
        GlobBuilder::new(glob)
            .literal_separator(true)
            .build()
            .is_ok_and(|glob| glob.compile_matcher().is_match(path))
    };
    let (out, within): (Vec<&String>, Vec<&String>) =
        globs.iter().partition(|glob| glob.starts_with('!'));
    within.iter().any(|glob| test(glob)) && !out.iter().any(|glob| test(&glob[1..]))
}

/// The list under `packages:`, in the two ways that YAML writes one. Nothing else of the file
/// matters here, and what is written differently is no member.
fn pnpm_packages(text: &str) -> Vec<String> {
    let unquoted = |item: &str| {
        let item = item.split(" #").next().unwrap_or(item);
        item.trim().trim_matches(['"', '\'']).to_owned()
    };
    let mut lines = text.lines();
    let Some(inline) = lines.find_map(|line| line.strip_prefix("packages:")) else {
        return Vec::new();
    };
    let inline = inline.trim();
    if let Some(items) = inline
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next())
    {
        return items
            .split(',')
            .map(unquoted)
            .filter(|item| !item.is_empty())
            .collect();
    }
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map_while(|line| line.strip_prefix("- ").or_else(|| line.strip_prefix('-')))
        .map(unquoted)
        .collect()
}

#[cfg(test)]
mod tests;
