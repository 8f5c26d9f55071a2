//! `thalweg token`: who may do what.
//!
//! Works on the token file in the data directory, whether a server runs or not.

use std::process::ExitCode;

use thalweg_access::{NewToken, TokenFile};

use crate::{
    cli::{ConfigArgs, TokenCommand, TokenCreateArgs},
    config::Config,
};

pub(crate) fn run(command: &TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create(args) => create(args)?,
        TokenCommand::List(config) => list(&file(config)?)?,
        TokenCommand::Revoke { token, config } => {
            let revoked = file(config)?.revoke(token)?;
            println!("token {} ({}) is revoked", revoked.id, revoked.name);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn file(config: &ConfigArgs) -> anyhow::Result<TokenFile> {
    Ok(TokenFile::in_directory(&Config::load(config)?.data_dir))
}

/// Prints the token on standard output, for scripts, and what to do with it on standard error.
fn create(args: &TokenCreateArgs) -> anyhow::Result<()> {
    let file = file(&args.config)?;
    let services = (!args.services.is_empty()).then(|| args.services.iter().cloned().collect());
    let scopes = args.scopes.iter().copied().collect();
    let token = file.create(NewToken { name: args.name.clone(), scopes, services })?;
    println!("{token}");
    eprintln!("This is the only time that it is shown; {} keeps a hash.", file.path().display());
    eprintln!("  curl -H 'Authorization: Bearer …'      export THALWEG_TOKEN=…");
    eprintln!("  psql: the password                    Elasticsearch clients, as API key:");
    eprintln!("  {}", token.as_elasticsearch_api_key());
    Ok(())
}

fn list(file: &TokenFile) -> anyhow::Result<()> {
    let Some(tokens) = file.read()? else {
        println!("no token was ever created in {}", file.path().display());
        return Ok(());
    };
    println!("{:<10} {:<24} {:<20} {:<20} services", "id", "name", "scopes", "created");
    for token in tokens {
        let services = token.services.map(|names| names.into_iter().collect::<Vec<_>>().join(","));
        println!(
            "{:<10} {:<24} {:<20} {:<20} {}",
            token.id,
            token.name,
            token.scopes,
            token.created.format("%Y-%m-%dT%H:%M:%SZ"),
            services.as_deref().unwrap_or("all")
        );
    }
    Ok(())
}
