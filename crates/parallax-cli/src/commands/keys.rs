//! `parallax keys`: API keys.

use std::time::Duration;

use anyhow::Result;
use parallax_api::keys::{CreateKey, CreatedKey, KeyView};
use parallax_core::key::Scope;
use parallax_core::name::Name;
use reqwest::Method;

use super::duration;
use crate::client::Api;
use crate::context::Context;
use crate::format;
use crate::output::{Output, Tone};
use crate::table::{Cell, Row};

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Keys that are good, without their secrets (also without a subcommand)
    List {
        /// Also those that are revoked or have expired
        #[arg(long)]
        all: bool,
    },
    /// Make a key; its secret is shown this once
    Create(Create),
    /// Make a key worthless, within seconds
    Revoke {
        /// The key's id
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// What it is for, such as ci
    name: Name,
    /// What it may do: admin, deploy, invoke, read, agent, input, approve
    #[arg(
        long = "scope",
        required = true,
        value_name = "SCOPE",
        value_delimiter = ','
    )]
    scopes: Vec<Scope>,
    /// A group that its holder belongs to, such as leads
    #[arg(long = "group", value_name = "GROUP", value_delimiter = ',')]
    groups: Vec<Name>,
    /// How long it is good for, such as 720h; for ever when absent
    #[arg(long, value_parser = duration::parse, value_name = "SPAN")]
    expires: Option<Duration>,
}

/// The state of a key that opens something.
const ACTIVE: &str = "active";

/// Lists, makes or revokes keys.
pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let api = context.api()?;
    let output = &context.output;
    match args.action.unwrap_or(Action::List { all: false }) {
        Action::List { all } => list(all, &api, output).await,
        Action::Create(wanted) => create(wanted, &api, output).await,
        Action::Revoke { id } => {
            api.answer(api.request(Method::DELETE, &["keys", &id]))
                .await?;
            output.note(format_args!("{id} opens nothing any more"));
            Ok(())
        }
    }
}

async fn list(all: bool, api: &Api, output: &Output) -> Result<()> {
    let mut keys: Vec<KeyView> = api.list(&["keys"], &[], usize::MAX).await?;
    keys.retain(|key| all || key.state == ACTIVE);
    if output.json {
        return keys.iter().try_for_each(|key| output.object(key));
    }
    let header = [
        "KEY",
        "NAME",
        "SCOPES",
        "GROUPS",
        "STATE",
        "EXPIRES",
        "LAST USED",
    ];
    let rows: Vec<_> = keys.iter().map(row).collect();
    output.table(header, &rows)
}

fn row(key: &KeyView) -> Row<7> {
    let scopes = key.scopes.iter().map(|scope| scope.as_str());
    let tone = match key.state.as_str() {
        ACTIVE => Tone::Good,
        _ => Tone::Quiet,
    };
    let used = key.last_used_at;
    Row::new([
        key.id.to_string().into(),
        key.name.as_str().into(),
        scopes.collect::<Vec<_>>().join(", ").into(),
        key.groups.join(", ").into(),
        Cell::toned(key.state.as_str(), tone),
        key.expires_at.map(format::when).into(),
        used.map(format::ago).into(),
    ])
}

async fn create(wanted: Create, api: &Api, output: &Output) -> Result<()> {
    let request = CreateKey {
        name: wanted.name.to_string(),
        scopes: wanted.scopes,
        groups: wanted.groups.iter().map(ToString::to_string).collect(),
        expires_in_s: wanted.expires.map(|span| span.as_secs()),
    };
    let created: CreatedKey = api.send(Method::POST, &["keys"], &request).await?;
    if output.json {
        return output.object(&created);
    }
    output.line(&created.secret)?;
    output.note(format_args!(
        "This is the only time that the key is shown. Revoke it with `parallax keys revoke {}`",
        created.key.id
    ));
    Ok(())
}
