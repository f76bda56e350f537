//! The examples' own tests, run in copies outside the checkout: what an example needs has to lie
//! below its own root, as it does after an upload.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::counts::Counts;
use super::sdks;
use crate::cache::{Cache, content_hash};
use crate::process::Workspace;
use crate::steps::say;
use crate::vendor;

/// Vendors the SDKs, then tests each example in its language.
pub fn test(workspace: &Workspace, cache: &Cache) -> Result<Counts> {
    let mut counts = Counts::default();
    vendor::vendor(workspace, cache)?;
    for example in vendor::examples(workspace)? {
        let name = format!("examples/{}", example.name);
        say(&format!("   {name}"));
        let programs: &[&str] = match example.language {
            vendor::Language::TypeScript => &["node", "npm"],
            vendor::Language::Python => &["python3"],
        };
        if let Some(reason) = sdks::missing(workspace, programs) {
            counts.add(sdks::skipped(&name, reason));
            continue;
        }
        let copy = copy_of(cache, &example)?;
        counts.add(match example.language {
            vendor::Language::TypeScript => {
                sdks::install_node_modules(workspace, cache, &copy)?;
                sdks::node_tests(workspace, cache, &copy, &name)?
            }
            vendor::Language::Python => python(workspace, cache, &copy, &name)?,
        });
    }
    Ok(counts)
}

fn python(workspace: &Workspace, cache: &Cache, copy: &Path, name: &str) -> Result<Counts> {
    let requirements = copy.join("requirements.txt");
    let mut install: Vec<OsString> = vec!["pytest>=8".into()];
    if requirements.exists() {
        install.extend(["--requirement".into(), requirements.into_os_string()]);
    } else {
        install.push(copy.as_os_str().to_owned());
    }
    // The copy's name is the hash of its content.
    let key = cache.path("examples-python");
    fs::create_dir_all(&key).context("creating a cache folder")?;
    let key = key.join(copy.file_name().unwrap_or(copy.as_os_str()));
    fs::write(&key, key.as_os_str().as_encoded_bytes()).context("writing a cache key")?;
    let env = sdks::python_env(workspace, cache, copy, &[key], &install)?;
    sdks::python_tests(workspace, cache, &env, copy, name)
}

/// The example by content: sources and vendored SDK, without what tools made in the checkout.
fn copy_of(cache: &Cache, example: &vendor::Example) -> Result<PathBuf> {
    let own = content_hash(std::slice::from_ref(&example.dir))?;
    let sdk = vendor::package_hash(&example.dir.join(vendor::PLACE))?;
    fs::create_dir_all(cache.path("examples")).context("creating a cache folder")?;
    cache.once(&format!("examples/{}-{own}-{sdk}", example.name), |copy| {
        let made = ["node_modules", "__pycache__", ".venv"];
        vendor::copy_tree(&example.dir, copy, &made)?;
        // What was built in the checkout; the SDK's own `dist` stays.
        for made in ["dist", "build"] {
            vendor::remove_tree(&copy.join(made))?;
        }
        Ok(())
    })
}
