//! A plan's steps, run through the sandbox. Knows nothing of disks or clouds, and of package managers only
//! what the provisioners' folders say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

mod builtin;
mod cache;
mod diversions;
mod download;
mod enter;
mod failure;
mod files;
mod guard;
mod hook;
mod os_release;
mod probe;
mod run;
mod secrets;
mod shrink;
mod stage;
mod template;

use crate::error::{Failure, Kind};
use crate::plan::MainPackage;
use crate::provisioner::{CacheUse, STEP_FOLDER, StepPlan, Work};
use crate::recipe::{Release, Variables};
use crate::report::Reporter;
use crate::sandbox::{Bind, Builtin, Network, Outcome, Program, Run, Sandbox, Stream};
use crate::stop::Stop;

pub use download::{fetch_staged as fetch_url, is_kept};
pub use hook::run_hook;
pub use secrets::Vault;
pub use shrink::shrink;
use template::Words;
pub use template::check as check_template;

use run::{in_folder, parse_package, program_of, run_of, show};

pub use enter::{entry as inside, has_programs};
pub use run::{Disk, DiskMount};

/// This room's functions that run inside: what [`crate::sandbox::entry`] must be told of.
pub const BUILTINS: &[Builtin] =
    &[("files", files::run), (PUT, guard::put), (TAKE_BACK, guard::take_back), (enter::SERVE, enter::serve)];

const PUT: &str = "provision-put";
const TAKE_BACK: &str = "provision-take-back";

/// Folders that are the sandbox's own, so that something can be mounted there without making a folder in the image.
const SANDBOX_OWN: [&str; 3] = ["/run", "/tmp", "/dev"];

/// What a step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepDone {
    /// The main package, where the step installed one.
    pub main: Option<MainPackage>,
}

/// Runs steps and checks in a root. [`Provisioning::finish`] must follow, however they ended.
pub struct Provisioning<'a> {
    sandbox: &'a Sandbox,
    caches: PathBuf,
    work: PathBuf,
    stop: &'a Stop,
    reporter: &'a Reporter,
    disk: Disk,
    secrets: Vault,
    words: Words,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What stands in the root as long as steps run.
    guard: guard::Answer,
    inside: Duration,
    all: Duration,
    steps: usize,
}

impl<'a> Provisioning<'a> {
    /// Steps in the sandbox's root. `caches` is the builder's cache folder, `work` one of this bake alone.
    pub fn new(
        sandbox: &'a Sandbox,
        caches: &Path,
        work: &Path,
        stop: &'a Stop,
        reporter: &'a Reporter,
    ) -> Self {
        let (caches, work) = (caches.to_owned(), work.to_owned());
        Self {
            sandbox,
            caches,
            work,
            stop,
            reporter,
            disk: Disk::default(),
            secrets: Vault::default(),
            words: Words::default(),
            state: Mutex::default(),
        }
    }

    /// The bake's own disk: what GRUB's tools are told of it, and the nodes for steps that ask for
    /// `devices = "disk"`.
    pub fn with_disk(mut self, disk: Disk) -> Self {
        self.disk = disk;
        self
    }

    /// The values of the steps' secrets. From now on they are not told.
    pub fn with_secrets(mut self, secrets: Vault) -> Self {
        self.reporter.mask(&secrets.masks());
        self.secrets = secrets;
        self
    }

    /// What files that are templates are filled in with.
    pub fn with_words(mut self, variables: &Variables, facts: &BTreeMap<String, String>) -> Self {
        self.words = Words::new(variables, facts);
        self
    }

    /// The sandbox.
    pub fn sandbox(&self) -> &Sandbox {
        self.sandbox
    }

    /// Time that steps and checks themselves took, without what is done around them.
    pub fn time_inside(&self) -> Duration {
        self.state().inside
    }

    /// Time that steps and checks took with what is done around them, and whenever they ran again.
    pub fn time_of_all(&self) -> Duration {
        self.state().all
    }

    /// Puts the guard against services in place. [`Provisioning::run_step`] does so too where it is not there.
    ///
    /// # Errors
    /// That it could not be put there.
    pub async fn begin(&self) -> Result<()> {
        let before = self.state().guard.clone();
        if before.holds(&self.sandbox.root) {
            return Ok(());
        }
        let mut place = guard::services();
        place.extend(probe::grub(&self.disk.mounts));
        let order = guard::Order { place, before, folders: Vec::new() };
        let answer = self.put(&order, Vec::new()).await.context("keeping services from starting")?;
        self.state().guard = answer;
        Ok(())
    }

    /// Runs a step.
    ///
    /// # Errors
    /// [`Kind::Step`]: its program failed, or it cannot be done in this image; [`Kind::Disk`]: the disk was full.
    pub async fn run_step(&self, step: &StepPlan) -> Result<StepDone> {
        self.run_work(step, Kind::Step).await
    }

    /// Runs a check.
    ///
    /// # Errors
    /// [`Kind::Check`]: its program failed.
    pub async fn run_check(&self, check: &StepPlan) -> Result<()> {
        self.run_work(check, Kind::Check).await.map(|_| ())
    }

    /// A shell in the root, on the caller's terminal.
    ///
    /// # Errors
    /// That none could be started.
    pub async fn shell(&self) -> Result<()> {
        let mut run = Run::new(Program::Argv(vec![shell_of(&self.sandbox.root).to_owned()]));
        run.interactive = true;
        run.device_names.clone_from(&self.disk.names);
        run.env.insert("SYSTEMD_OFFLINE".to_owned(), "1".to_owned());
        self.sandbox.run(&run, self.stop, &mut |_, _| {}).await.context("running a shell in the root")?;
        Ok(())
    }

    /// Takes away everything that provisioning put in place.
    ///
    /// # Errors
    /// That something could not be taken away: the root is not fit to be an image then.
    pub async fn finish(self) -> Result<()> {
        let guard = std::mem::take(&mut self.state().guard);
        self.take_back(&guard).await.context("taking the guard against services away")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_work(&self, step: &StepPlan, kind: Kind) -> Result<StepDone> {
        let word = if kind == Kind::Check { "check" } else { "step" };
        let what = format!("{word} {:?}", step.name);
        if let Some(why) = self.left_out(step)? {
            self.reporter.note(&format!("left out: {why}"));
            return Ok(StepDone::default());
        }
        let began = Instant::now();
        let done = self.run_here(step, &what, kind).await;
        self.state().all += began.elapsed();
        done
    }

    async fn run_here(&self, step: &StepPlan, what: &str, kind: Kind) -> Result<StepDone> {
        let chosen = self.choose(step, what, kind)?;
        self.begin().await?;
        let staged = self.stage(chosen).await.with_context(|| format!("preparing {what}"))?;
        let mut binds = staged.binds.clone();
        let result = self.run_staged(chosen, what, kind, &mut binds).await;
        let removed = staged.remove();
        let done = result?;
        removed?;
        Ok(done)
    }

    /// The image's os-release, read anew each time: a step may upgrade it.
    fn release(&self) -> Result<Release> {
        os_release::read(&self.sandbox.root).context("reading the image's os-release")
    }

    /// Why a step is left out in this root, if it is.
    fn left_out(&self, step: &StepPlan) -> Result<Option<String>> {
        match &step.when {
            _ if step.skipped.is_some() => Ok(step.skipped.clone()),
            Some(when) if when.asks_root() => Ok(when.judge_root(&self.release()?).err()),
            _ => Ok(None),
        }
    }

    /// The step itself, or the alternative that is for the image's distribution.
    fn choose<'s>(&self, step: &'s StepPlan, what: &str, kind: Kind) -> Result<&'s StepPlan> {
        if step.work != Work::Choose {
            return Ok(step);
        }
        let families = self.release()?.families;
        let matching =
            step.alternatives.iter().find(|choice| choice.id_like.iter().any(|id| families.contains(id)));
        let Some(choice) = matching else {
            let known: Vec<&str> =
                step.alternatives.iter().flat_map(|choice| &choice.id_like).map(String::as_str).collect();
            let message =
                format!("{what} cannot tell the image's package manager: its os-release says {families:?}");
            let hint = format!("known are {}; name a provisioner with `use`", known.join(", "));
            return Err(Failure::new(kind, message).hint(hint).into());
        };
        choice.step.as_ref().ok_or_else(|| {
            let why = choice.refused.as_deref().unwrap_or("it does not take these parameters");
            let message = format!("{what} needs {} in this image, and {why}", choice.provisioner);
            Failure::new(kind, message).hint("give packages of the image's own format").into()
        })
    }

    /// Where the socket of a step on the builder is.
    fn door(&self) -> PathBuf {
        self.work.join(format!("step-{}-door", self.state().steps))
    }

    async fn stage(&self, step: &StepPlan) -> Result<stage::Staged> {
        let number = {
            let mut state = self.state();
            state.steps += 1;
            state.steps
        };
        let folder = self.work.join(format!("step-{number}"));
        let mut words = self.words.clone();
        if step.staged.iter().any(|staged| staged.template) {
            let Release { families, version } = self.release()?;
            words = words.with([("distribution", families.first().cloned()), ("release", version)]);
        }
        let (step, stop) = (step.clone(), self.stop.clone());
        blocking(move || stage::stage(&step, &folder, &words, &stop)).await
    }

    async fn run_staged(
        &self,
        step: &StepPlan,
        what: &str,
        kind: Kind,
        binds: &mut Vec<Bind>,
    ) -> Result<StepDone> {
        // Files that are there during the step only, and what caches are mounted on.
        let provisioner = Path::new(STEP_FOLDER).join("provisioner");
        let place: Vec<_> = step
            .temporary
            .iter()
            .map(|file| guard::temporary(&file.path, provisioner.join(&file.source), file.mode))
            .collect();
        let own = |cache: &&CacheUse| !SANDBOX_OWN.iter().any(|folder| cache.path.starts_with(folder));
        let folders: Vec<PathBuf> = step.caches.iter().filter(own).map(|cache| cache.path.clone()).collect();
        let mut temporary = guard::Answer::default();
        if !place.is_empty() || !folders.is_empty() {
            let order = guard::Order { place, before: guard::Answer::default(), folders };
            temporary = self.put(&order, binds.clone()).await.with_context(|| format!("preparing {what}"))?;
        }
        let result = self.run_with_caches(step, what, kind, binds).await;
        self.take_back(&temporary).await.with_context(|| format!("tidying up after {what}"))?;
        result
    }

    async fn run_with_caches(
        &self,
        step: &StepPlan,
        what: &str,
        kind: Kind,
        binds: &mut Vec<Bind>,
    ) -> Result<StepDone> {
        let (caches, uses, stop) = (self.caches.clone(), step.caches.clone(), self.stop.clone());
        let caches = blocking(move || {
            uses.iter().map(|cache| cache::InUse::open(&caches, cache, &stop)).collect::<Result<Vec<_>>>()
        })
        .await?;
        binds.extend(caches.iter().flat_map(cache::InUse::binds));
        let mut run = run_of(step, program_of(step)?, binds, &self.disk)?;
        run.secrets = self.secrets.of(step);

        let mut ear = failure::Ear::new(step);
        let began = Instant::now();
        let mut line = |_: Stream, text: &str| {
            let text = self.reporter.masked(text);
            ear.hear(&text);
            self.reporter.line(&step.name, &text);
        };
        let outcome = match step.host {
            true => enter::run(self.sandbox, &run, &self.door(), self.stop, &mut line).await,
            false => self.sandbox.run(&run, self.stop, &mut line).await,
        };
        self.state().inside += began.elapsed();
        let outcome = outcome.map_err(|error| failure::of_run(error, kind, what))?;
        if outcome != Outcome::Exited(0) {
            let shown = show(&run.program);
            ear.look_for_room(&self.sandbox.root);
            return Err(ear.failure(kind, what, &shown, outcome, step.timeout).into());
        }
        // Nothing of the step lives any more: what it left can be looked at.
        let kept = blocking(move || caches.iter().try_for_each(cache::InUse::keep)).await;
        if let Err(error) = kept {
            self.reporter.warn(&format!("{error:#}"));
        }
        let main = if kind == Kind::Step { self.main_package(step, binds).await? } else { None };
        Ok(StepDone { main })
    }

    /// Asks for the step's main package. That it cannot be told is no failure here.
    async fn main_package(&self, step: &StepPlan, binds: &[Bind]) -> Result<Option<MainPackage>> {
        let Some(query) = &step.package_query else { return Ok(None) };
        // The caches are gone with the step.
        let binds: Vec<Bind> =
            binds.iter().filter(|bind| bind.target.starts_with(STEP_FOLDER)).cloned().collect();
        let mut run = run_of(step, Program::Argv(in_folder(query)), &binds, &self.disk)?;
        run.network = Network::None;
        let mut answer = None;
        let mut line = |stream: Stream, text: &str| match stream {
            Stream::Out if answer.is_none() => answer = parse_package(text),
            _ => self.reporter.log(&format!("{} | {text}", step.name)),
        };
        let outcome =
            self.sandbox.run(&run, self.stop, &mut line).await.context("asking for the main package")?;
        if outcome != Outcome::Exited(0) {
            self.reporter
                .warn(&format!("{} ended with {outcome:?}: the main package is not known", query.join(" ")));
        }
        Ok(answer)
    }
}

/// The shell for people that a root has.
pub fn shell_of(root: &Path) -> &'static str {
    let bash = crate::beneath::open(root, Path::new("/bin/bash"));
    if bash.is_ok_and(|file| file.is_some()) { "/bin/bash" } else { "/bin/sh" }
}

/// Reading and writing of the builder's own files, off the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| anyhow!("working with files: {error}"))?
}
