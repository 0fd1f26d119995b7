//! placeholder
#[derive(clap::Args)]
pub struct FetchArgs { name: String }
pub fn run(a: &FetchArgs) -> anyhow::Result<()> { anyhow::bail!("{}", a.name) }
