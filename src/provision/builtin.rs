//! The functions of this room that run inside a root, asked from outside.

use anyhow::{Context as _, Result, bail};

use super::{PUT, Provisioning, TAKE_BACK, failure, guard};
use crate::sandbox::{Bind, Network, Outcome, Program, Run, Stream};
use crate::stop::Stop;

impl Provisioning<'_> {
    pub(super) async fn put(&self, order: &guard::Order, binds: Vec<Bind>) -> Result<guard::Answer> {
        let argument = serde_json::to_value(order).context("writing the order")?;
        let out = self.run_builtin(PUT, argument, binds, self.stop).await?;
        serde_json::from_str(&out).with_context(|| format!("reading the answer {out:?}"))
    }

    /// Also when stopping was asked for: a root that is kept is to be as the steps left it.
    pub(super) async fn take_back(&self, answer: &guard::Answer) -> Result<()> {
        if *answer == guard::Answer::default() {
            return Ok(());
        }
        let argument = serde_json::to_value(answer).context("writing the order")?;
        self.run_builtin(TAKE_BACK, argument, Vec::new(), &Stop::default()).await.map(|_| ())
    }

    async fn run_builtin(
        &self,
        name: &str,
        argument: serde_json::Value,
        binds: Vec<Bind>,
        stop: &Stop,
    ) -> Result<String> {
        let mut run = Run::new(Program::Builtin(name.to_owned(), argument));
        run.network = Network::None;
        run.binds = binds;
        // The one sync at the bake's end is enough.
        run.suppress_sync = true;
        let (mut out, mut complaints) = (String::new(), String::new());
        let mut line = |stream: Stream, text: &str| match stream {
            Stream::Out => out.push_str(text),
            Stream::Err => {
                complaints.push_str(text);
                complaints.push('\n');
            }
        };
        let outcome = self.sandbox.run(&run, stop, &mut line).await;
        match outcome.map_err(failure::of_disk)? {
            Outcome::Exited(0) => Ok(out),
            outcome => bail!("{name} ended with {outcome:?}: {}", complaints.trim_end()),
        }
    }
}
