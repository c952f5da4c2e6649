//! What a language may offer beside running a program, and which of its templates does it.

use crate::runtime::{Catalogue, Command, Invocation, Runtime, RuntimeError, Template};

/// Something that a request may ask for and not every language has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// The value of the last expression.
    Eval,
    /// Names for data in and results out, without an import.
    Script,
    /// A call of one of the entrypoint's functions.
    Call,
    /// Plots that are open at the end become files.
    Plots,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// The value of the last expression.
    pub eval: bool,
    /// Names for data in and results out.
    pub script: bool,
    /// A call of a function.
    pub call: bool,
    /// Plots as files.
    pub plots: bool,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Script, Self::Call, Self::Eval, Self::Plots];

    /// The request's field that asks for it.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Eval => "eval_last_expr",
            Self::Script => "script",
            Self::Call => "call",
            Self::Plots => "capture_plots",
        }
    }

    /// The stable word for a language that lacks it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Eval => "eval_not_supported",
            Self::Script => "script_not_supported",
            Self::Call => "call_not_supported",
            Self::Plots => "plots_not_supported",
        }
    }

    /// Whether the language has it.
    #[must_use]
    pub fn is_in(self, runtime: &Runtime) -> bool {
        match self {
            Self::Eval => runtime.eval.is_some(),
            Self::Script => runtime.script.is_some(),
            Self::Call => runtime.call.is_some(),
            Self::Plots => runtime.plots && runtime.script.is_some(),
        }
    }

    fn is_wanted(self, wants: Wants) -> bool {
        match self {
            Self::Eval => wants.eval,
            Self::Script => wants.script,
            Self::Call => wants.call,
            Self::Plots => wants.plots,
        }
    }
}

impl Runtime {
    /// The template that does what is wanted: with names or plots, the script's does the last expression, too.
    pub(super) fn template(&self, wants: Wants, entrypoint: &str) -> Result<&Template, RuntimeError> {
        let lacks = |feature: &Feature| feature.is_wanted(wants) && !feature.is_in(self);
        if let Some(feature) = Feature::ALL.into_iter().find(lacks) {
            let language = self.name.clone();
            return Err(RuntimeError::NotAble { feature, language, able: Vec::new() });
        }
        let special = match wants {
            Wants { call: true, .. } => &self.call,
            Wants { script: true, .. } | Wants { plots: true, .. } => &self.script,
            Wants { eval: true, .. } => &self.eval,
            Wants { .. } => &None,
        };
        let own = self.starts.iter().find(|(path, _)| path.is_match(entrypoint)).map(|(_, start)| start);
        Ok(special.as_ref().or(own).unwrap_or(&self.run))
    }
}

impl Catalogue {
    /// [`Runtime::command`], with the languages that can do what this one can't.
    ///
    /// # Errors
    /// The same.
    pub fn command(&self, runtime: &Runtime, invocation: &Invocation<'_>) -> Result<Command, RuntimeError> {
        runtime.command(invocation).map_err(|error| match error {
            RuntimeError::NotAble { feature, language, .. } => {
                let able = self.runtimes().iter().filter(|runtime| feature.is_in(runtime));
                let mut able: Vec<_> = able.map(|runtime| runtime.name.clone()).collect();
                able.dedup();
                RuntimeError::NotAble { feature, language, able }
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(features: &[Feature]) -> Wants {
        Wants {
            eval: features.contains(&Feature::Eval),
            script: features.contains(&Feature::Script),
            call: features.contains(&Feature::Call),
            plots: features.contains(&Feature::Plots),
        }
    }

    #[test]
    fn each_want_takes_its_template() {
        let runtime = Catalogue::load(None).unwrap().resolve("python").unwrap();
        let template = |features| Some(runtime.template(wants(features), "main.py").unwrap());
        assert_eq!(template(&[]), Some(&runtime.run));
        assert_eq!(template(&[Feature::Eval]), runtime.eval.as_ref());
        assert_eq!(template(&[Feature::Script, Feature::Eval]), runtime.script.as_ref());
        assert_eq!(template(&[Feature::Plots]), runtime.script.as_ref());
        assert_eq!(template(&[Feature::Script, Feature::Call, Feature::Plots]), runtime.call.as_ref());
    }

    #[test]
    fn who_can_is_named() {
        let catalogue = Catalogue::load(None).unwrap();
        let runtime = catalogue.resolve("lua").unwrap();
        for (feature, able) in
            [(Feature::Script, "python"), (Feature::Call, "python"), (Feature::Eval, "python")]
        {
            let wants = wants(&[feature]);
            let asked = Invocation {
                entrypoint: "main.lua",
                args: &[],
                env: &[],
                entries: &[],
                apart: const { &std::collections::BTreeSet::new() },
                wants,
            };
            let error = catalogue.command(&runtime, &asked).unwrap_err();
            assert_eq!(error.code(), feature.code());
            let message = error.to_string();
            assert!(message.starts_with(&format!("{}: lua ", feature.field())), "{message}");
            assert!(message.contains(able), "{message}");
        }
    }
}
