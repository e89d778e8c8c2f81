//! Where a bake stops on its way: `--pause-after` and `--until`.

use std::collections::BTreeSet;

use super::Plan;
use crate::error::{Failure, Kind};
use crate::provisioner::StepPlan;
use crate::recipe::HookPoint;
use crate::recipe::reader::did_you_mean;

/// Steps at which something else than the next step follows, by number; the first is 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stops {
    /// A pause for the operator follows.
    pub pause_after: BTreeSet<usize>,
    /// Nothing follows: no later step, no check, no image.
    pub until: Option<usize>,
    /// A shell in the root: after the checks, or after the step that is the last.
    pub shell: bool,
}

impl Plan {
    /// Settles where the bake stops. A step is meant by its number, or by its name as progress shows it.
    ///
    /// # Errors
    /// [`Kind::Usage`] where there is no such step, or more than one.
    pub fn stop_at(
        &mut self,
        pause_after: &[String],
        until: Option<&str>,
        shell: bool,
    ) -> Result<(), Failure> {
        let find = |flag: &str, word: &str| {
            number_of(&self.steps, word).map_err(|failure| Failure {
                message: format!("{flag} {word}: {}", failure.message),
                ..failure
            })
        };
        let pause_after =
            pause_after.iter().map(|word| find("--pause-after", word)).collect::<Result<_, _>>()?;
        let until = until.map(|word| find("--until", word)).transpose()?;
        self.stops = Stops { pause_after, until, shell };
        Ok(())
    }

    /// Rows of the plan's description.
    pub(super) fn describe_stops(&self) -> Vec<(&'static str, String)> {
        let title = |number: &usize| self.step_title(*number);
        let pauses =
            self.stops.pause_after.iter().map(|number| ("pause", format!("after {}", title(number))));
        let shell = self.stops.shell.then(|| {
            let after = self.stops.until.as_ref().map(title);
            (
                "shell",
                format!("in the root, after {}", after.as_deref().unwrap_or("the checks, before hygiene")),
            )
        });
        let until = self
            .stops
            .until
            .iter()
            .map(|number| ("until", format!("{}: no later step, no check, and no image", title(number))));
        pauses.chain(shell).chain(until).collect()
    }

    /// Whether the bake comes to this point at all.
    pub(super) fn comes_to(&self, point: HookPoint) -> bool {
        self.stops.until.is_none() || matches!(point, HookPoint::BeforeMount | HookPoint::AfterMount)
    }

    /// `step 2 of 3: files`.
    pub fn step_title(&self, number: usize) -> String {
        let name =
            number.checked_sub(1).and_then(|at| self.steps.get(at)).map_or("", |step| step.name.as_str());
        format!("step {number} of {}: {name}", self.steps.len())
    }
}

fn number_of(steps: &[StepPlan], word: &str) -> Result<usize, Failure> {
    let known = || {
        let names: Vec<_> =
            steps.iter().enumerate().map(|(at, step)| format!("{} ({})", at + 1, step.name)).collect();
        match names.is_empty() {
            true => "this bake has no steps".to_owned(),
            false => format!("its steps are {}", names.join(", ")),
        }
    };
    let usage = |message: String, hint: String| Failure::new(Kind::Usage, message).hint(hint);
    if let Ok(number) = word.parse::<usize>() {
        return match (1..=steps.len()).contains(&number) {
            true => Ok(number),
            false => Err(usage(format!("there is no step {number}"), known())),
        };
    }
    let mut named = (1..).zip(steps).filter(|(_, step)| step.name == word).map(|(number, _)| number);
    match (named.next(), named.next()) {
        (Some(number), None) => Ok(number),
        (Some(_), Some(_)) => {
            Err(usage("several steps are called so".to_owned(), format!("say its number: {}", known())))
        }
        (None, _) => {
            let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
            let hint = match did_you_mean(word, &names) {
                Some(near) => format!("did you mean {near:?}? {}", known()),
                None => known(),
            };
            Err(usage("no step is called so".to_owned(), hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_found_by_number_and_by_name() {
        let steps = ["apt", "files", "script: a.sh", "files"];
        let steps = steps.map(|name| StepPlan { name: name.to_owned(), ..StepPlan::default() });
        assert_eq!(number_of(&steps, "2").unwrap(), 2);
        assert_eq!(number_of(&steps, "script: a.sh").unwrap(), 3);
        for (word, message, hint) in [
            ("0", "no step 0", "its steps are 1 (apt)"),
            ("5", "no step 5", "4 (files)"),
            ("files", "several", "say its number"),
            ("atp", "no step is called so", "did you mean \"apt\"?"),
            ("", "no step is called so", "its steps are"),
        ] {
            let failure = number_of(&steps, word).unwrap_err();
            assert!(failure.message.contains(message), "{word}: {failure:?}");
            assert!(failure.hint.as_deref().unwrap_or_default().contains(hint), "{word}: {failure:?}");
            assert_eq!(failure.kind, Kind::Usage);
        }
        assert!(number_of(&[], "1").unwrap_err().hint.unwrap().contains("no steps"));
    }
}
