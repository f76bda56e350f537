//! Which server, and which key it may be shown.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use reqwest::Url;

use crate::exit::{Ended, Exit};
use crate::running::{self, Role};

/// Where the server keeps the administration key for clients on its own machine.
pub(crate) const ADMIN_KEY_FILE: &str = "admin.key";

/// A server's address.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: Url,
    /// Whether the key in the data directory is this server's.
    owns_data_dir: bool,
}

impl Target {
    /// A server that the person has named.
    ///
    /// # Errors
    /// With [`Exit::Usage`], when it is no address.
    pub(crate) fn named(url: &str, data_dir: &Path) -> Result<Self> {
        let url = parse(url)?;
        let here = running::find(data_dir, Role::Server).is_ok_and(|running| {
            Url::parse(&running.url).is_ok_and(|running| running.origin() == url.origin())
        });
        let owns_data_dir = here || is_loopback(&url);
        Ok(Self { url, owns_data_dir })
    }

    /// The server that runs in the data directory.
    ///
    /// # Errors
    /// When `server.json` names no address.
    pub(crate) fn local(url: &str) -> Result<Self> {
        Ok(Self {
            url: parse(url)?,
            owns_data_dir: true,
        })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether it is on this machine, so that no proxy is to be asked.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// The key in `file`, or else the one in the data directory, which only its own server is shown;
    /// and where it was found.
    ///
    /// # Errors
    /// With [`Exit::Denied`] and what to do, when there is none.
    pub(crate) fn key(&self, file: Option<&Path>, data_dir: &Path) -> Result<(String, PathBuf)> {
        let kept = data_dir.join(ADMIN_KEY_FILE);
        let path = match file {
            Some(file) => file,
            None if self.owns_data_dir => &kept,
            None => {
                let message = format!(
                    "{} needs an API key: name a file that holds one, with --api-key-file or PARALLAX_API_KEY_FILE",
                    self.url
                );
                return Err(Ended::new(Exit::Denied, message).into());
            }
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let message = format!(
                    "no API key: {} does not exist; name the file that holds one with --api-key-file or PARALLAX_API_KEY_FILE",
                    path.display()
                );
                return Err(Ended::new(Exit::Denied, message).into());
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("reading the API key {}", path.display()));
            }
        };
        let key = text.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!("{} holds no API key", path.display());
            return Err(Ended::new(Exit::Denied, message).into());
        }
        Ok((key.to_owned(), path.to_owned()))
    }
}

pub(crate) fn parse(text: &str) -> Result<Url> {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let message = match url {
        _ if text.contains('@') => {
            // Not said again: what stands before the @ may be a password.
            "a server's address has no user and no password: write http://HOST:PORT or \
             https://HOST:PORT, and name the file with the API key with --api-key-file"
                .to_owned()
        }
        Some(url) => return Ok(url),
        None => {
            format!("`{text}` is no server's address; write http://HOST:PORT or https://HOST:PORT")
        }
    };
    Err(Ended::new(Exit::Usage, message).into())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok(); // Else it is a name.
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    #[test]
    fn the_local_key_is_not_shown_to_a_server_elsewhere() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join(ADMIN_KEY_FILE), "plx_secret\n").expect("the folder is writable");
        let key = |url: &str| {
            let target = Target::named(url, dir.path()).expect("an address");
            target.key(None, dir.path()).map(|(key, _)| key)
        };
        assert_eq!(
            key("http://127.0.0.1:7400").expect("it is here"),
            "plx_secret"
        );
        assert_eq!(key("http://[::1]:7400").expect("it is here"), "plx_secret");
        let error = key("https://parallax.example.com").expect_err("it is elsewhere");
        assert_eq!(exit::of(&error), Exit::Denied);
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for text in [
            "http://me:hunter2@127.0.0.1:1",
            "ftp://me:hunter2@a",
            "hunter2@",
        ] {
            let error = Target::named(text, Path::new("/nowhere")).expect_err("it has a password");
            assert_eq!(exit::of(&error), Exit::Usage, "{text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_is_a_mistake_of_usage() {
        for text in ["127.0.0.1:7400", "ftp://a", "http://"] {
            let error = Target::named(text, Path::new("/nowhere")).expect_err("no address");
            assert_eq!(exit::of(&error), Exit::Usage, "{text}");
        }
    }
}
