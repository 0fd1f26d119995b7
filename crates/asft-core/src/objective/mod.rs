//! The objectives: one file each, chosen by the table `[objective.NAME]`.
//!
//! A file holds a config and a pure function of a pair's log-probs (the trait [`Formula`], private to the crate).
//! What objectives share is not in it: the NLL ([`nll`]), reduction over a step ([`crate::step`]), metrics
//! ([`crate::metrics`]). A new objective is a new file, its line in [`Objective`] and its row in the crate's table.

mod apo_down;
mod asft;
mod bco;
mod cpo;
mod dpo;
mod hinge;
mod ipo;
mod kto;
mod nca;
pub(crate) mod nll;
mod orpo;
mod range;
mod robust;
mod settings;
mod sft;
mod sigmoid_norm;
mod simpo;
mod slic;

use serde::{Deserialize, Serialize};

pub use nll::{NllReduction, NllScope};

use crate::error::ConfigError;
use crate::numerics::DEFAULT_EPS;
use crate::score::Answer;
use nll::Nll;

/// The preference part of a loss for one pair, before its weight.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Align {
    pub value: f64,
    /// Derivatives by the two **sums** of log-probs.
    pub d_chosen: f64,
    pub d_rejected: f64,
}

/// What the file of an objective provides.
pub(crate) trait Formula {
    /// Checks every key's range.
    fn validate(&self) -> Result<(), ConfigError>;

    /// The supervised term with its weight and switches.
    fn nll(&self) -> Nll;

    /// Weight of the preference part: β for asft and orpo, whose term has no β inside, and 0 for sft.
    fn align_weight(&self) -> f64 {
        1.0
    }

    /// The preference part, before its weight.
    fn align(&self, chosen: &Answer, rejected: &Answer) -> Align;

    /// Implicit reward of an answer before scaling: the log-ratio where there is a reference, else the log-prob per
    /// token.
    fn reward(&self, answer: &Answer) -> f64 {
        if self.needs_reference() { answer.log_ratio() } else { answer.mean() }
    }

    /// Factor from [`Formula::reward`] to the reward that is logged.
    fn reward_scale(&self) -> f64;

    /// Where the log-odds guard begins.
    fn eps(&self) -> f64 {
        DEFAULT_EPS
    }

    /// The same objective with its log-odds unguarded, if its loss has a guard at all.
    fn unguarded(&self) -> Option<Objective> {
        None
    }

    /// Slope of the preference part by the chosen **mean** log-prob where it is the same for all pairs.
    fn constant_chosen_slope(&self) -> Option<f64> {
        None
    }

    fn needs_rejected(&self) -> bool {
        true
    }

    fn needs_reference(&self) -> bool {
        false
    }
}

macro_rules! objectives {
    ($($(#[$doc:meta])* $name:literal => $module:ident::$config:ident,)+) => {
        $(pub use $module::$config;)+

        /// A preference objective with its settings: in TOML exactly one table `[objective.NAME]`.
        ///
        /// ```
        /// let objective: asft_core::Objective = serde_json::from_str(r#"{"asft": {"beta": 0.2}}"#)?;
        /// assert_eq!(objective.name(), "asft");
        /// # Ok::<(), serde_json::Error>(())
        /// ```
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum Objective {
            $($(#[$doc])* #[serde(rename = $name)] $config($config),)+
        }

        impl Objective {
            /// Every objective's name.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The objective of this name with its defaults.
            #[must_use]
            pub fn by_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$config($config::default())),)+
                    _ => None,
                }
            }

            /// The name, as in the configuration.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$config(_) => $name,)+ }
            }

            pub(crate) fn formula(&self) -> &dyn Formula {
                match self { $(Self::$config(config) => config,)+ }
            }
        }

        $(impl From<$config> for Objective {
            fn from(config: $config) -> Self {
                Self::$config(config)
            }
        })+
    };
}

objectives! {
    /// Aligned supervised fine-tuning.
    "asft" => asft::Asft,
    /// Supervised fine-tuning on the chosen answer.
    "sft" => sft::Sft,
    /// Odds-ratio preference optimisation.
    "orpo" => orpo::Orpo,
    /// Simple preference optimisation.
    "simpo" => simpo::Simpo,
    /// Contrastive preference optimisation.
    "cpo" => cpo::Cpo,
    /// Sequence likelihood calibration.
    "slic" => slic::Slic,
    /// Direct preference optimisation.
    "dpo" => dpo::Dpo,
    /// Robust DPO.
    "robust" => robust::Robust,
    /// Hinge loss on log-ratios.
    "hinge" => hinge::Hinge,
    /// Identity preference optimisation.
    "ipo" => ipo::Ipo,
    /// DPO on log-ratios per token.
    "sigmoid_norm" => sigmoid_norm::SigmoidNorm,
    /// Noise-contrastive alignment.
    "nca" => nca::Nca,
    /// Binary classifier optimisation.
    "bco" => bco::Bco,
    /// Kahneman–Tversky optimisation.
    "kto" => kto::Kto,
    /// Anchored preference optimisation, downwards.
    "apo_down" => apo_down::ApoDown,
}

impl Objective {
    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first key that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.formula().validate()
    }

    /// Whether the loss needs log-probs of the prompt's tokens.
    #[must_use]
    pub fn needs_prompt_scores(&self) -> bool {
        let nll = self.formula().nll();
        nll.scope == NllScope::PromptResponse && nll.weight > 0.0
    }

    /// Whether the loss needs the sums of a frozen reference model.
    #[must_use]
    pub fn needs_reference(&self) -> bool {
        self.formula().needs_reference()
    }

    /// Whether every pair must have a rejected answer.
    #[must_use]
    pub fn needs_rejected(&self) -> bool {
        self.formula().needs_rejected()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(value: Value) -> Result<Objective, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn names_round_trip_and_defaults_are_valid() {
        for &name in Objective::NAMES {
            let objective = Objective::by_name(name).unwrap();
            assert_eq!(objective.name(), name);
            assert_eq!(objective.validate(), Ok(()), "{name}");
            assert_eq!(parse(json!({name: {}})).unwrap(), objective, "{name}: defaults");
            assert_eq!(parse(serde_json::to_value(&objective).unwrap()).unwrap(), objective, "{name}");
        }
        assert_eq!(Objective::by_name("ppo"), None);
    }

    #[test]
    fn defaults_are_those_of_the_papers() {
        let value = |name| serde_json::to_value(Objective::by_name(name)).unwrap();
        assert_eq!(
            value("asft"),
            json!({"asft": {"beta": 0.1, "temperature": 1.0, "nll_weight": 1.0, "nll_scope": "response",
                "nll_reduction": "pair", "eps": 1e-4}})
        );
        assert_eq!(value("sft"), json!({"sft": {"nll_scope": "response", "nll_reduction": "pair"}}));
        assert_eq!(
            value("orpo"),
            json!({"orpo": {"beta": 0.1, "nll_scope": "response", "nll_reduction": "pair", "eps": 1e-4}})
        );
        for (name, own) in [
            (
                "simpo",
                json!({"beta": 2.0, "gamma_beta_ratio": 0.5, "label_smoothing": 0.0, "nll_weight": 0.0}),
            ),
            ("cpo", json!({"beta": 0.1, "label_smoothing": 0.0, "nll_weight": 1.0})),
            ("slic", json!({"beta": 0.1, "nll_weight": 1.0})),
            ("dpo", json!({"beta": 0.1, "label_smoothing": 0.0, "nll_weight": 0.0})),
            ("robust", json!({"beta": 0.1, "label_smoothing": 0.1, "nll_weight": 0.0})),
            ("hinge", json!({"beta": 0.1, "nll_weight": 0.0})),
            ("ipo", json!({"beta": 0.1, "nll_weight": 0.0})),
            ("sigmoid_norm", json!({"beta": 5.0, "nll_weight": 0.0})),
            ("nca", json!({"beta": 0.01, "nll_weight": 0.0})),
            ("bco", json!({"beta": 0.01, "delta": 0.0, "nll_weight": 0.0})),
            ("apo_down", json!({"beta": 0.1, "nll_weight": 0.0})),
            (
                "kto",
                json!({"beta": 0.1, "z": 0.0, "lambda_chosen": 1.0, "lambda_rejected": 1.0, "nll_weight": 0.0}),
            ),
        ] {
            let mut own = own;
            own["nll_scope"] = json!("response");
            own["nll_reduction"] = json!("pair");
            assert_eq!(value(name)[name], own, "{name}");
        }
    }

    #[test]
    fn malformed_tables_are_refused_by_name() {
        for (value, part) in [
            (json!({"ppo": {}}), "unknown variant `ppo`"),
            (json!({"asft": {"bta": 0.1}}), "unknown field `bta`"),
            (json!({"sft": {"beta": 0.1}}), "unknown field `beta`"),
            (json!({"orpo": {"nll_scope": "all"}}), "unknown variant `all`"),
            (json!({"asft": {"beta": "high"}}), "invalid type"),
            (json!({"asft": {}, "orpo": {}}), "expected"),
            (json!({}), "expected"),
        ] {
            let error = parse(value.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{value}: {error}");
        }
    }

    #[test]
    fn settings_out_of_range_name_their_key() {
        for (value, message) in [
            (json!({"asft": {"beta": -0.1}}), "objective.asft.beta must be at least 0, got -0.1"),
            (
                json!({"asft": {"temperature": 0}}),
                "objective.asft.temperature must be above 0 and at most 10, got 0",
            ),
            (
                json!({"asft": {"temperature": 10.5}}),
                "objective.asft.temperature must be above 0 and at most 10, got 10.5",
            ),
            (json!({"asft": {"nll_weight": -1}}), "objective.asft.nll_weight must be at least 0, got -1"),
            (json!({"asft": {"eps": 1e-7}}), "objective.asft.eps must be from 1e-6 to 0.5, got 0.0000001"),
            (json!({"orpo": {"beta": -2}}), "objective.orpo.beta must be at least 0, got -2"),
            (json!({"orpo": {"eps": 0.6}}), "objective.orpo.eps must be from 1e-6 to 0.5, got 0.6"),
            (json!({"dpo": {"beta": 0}}), "objective.dpo.beta must be above 0, got 0"),
            (json!({"ipo": {"beta": -1}}), "objective.ipo.beta must be above 0, got -1"),
            (
                json!({"robust": {"label_smoothing": 0.5}}),
                "objective.robust.label_smoothing must be at least 0 and below 0.5, got 0.5",
            ),
            (json!({"kto": {"z": -1}}), "objective.kto.z must be at least 0, got -1"),
            (
                json!({"kto": {"lambda_rejected": -1}}),
                "objective.kto.lambda_rejected must be at least 0, got -1",
            ),
            (
                json!({"simpo": {"gamma_beta_ratio": -0.1}}),
                "objective.simpo.gamma_beta_ratio must be at least 0, got -0.1",
            ),
            (json!({"nca": {"nll_weight": -0.1}}), "objective.nca.nll_weight must be at least 0, got -0.1"),
        ] {
            let error = parse(value.clone()).unwrap().validate().unwrap_err();
            assert_eq!(error.to_string(), message, "{value}");
        }
        for beta in [f64::NAN, f64::INFINITY] {
            let error = Objective::from(Asft { beta, ..Asft::default() }).validate().unwrap_err();
            assert_eq!((error.objective, error.key), ("asft", "beta"));
            let error = Objective::from(Bco { delta: beta, ..Bco::default() }).validate().unwrap_err();
            assert_eq!((error.objective, error.key), ("bco", "delta"));
        }
        for value in [
            json!({"asft": {"beta": 0, "temperature": 10, "nll_weight": 0, "eps": 1e-6}}),
            json!({"orpo": {"beta": 0, "eps": 0.5}}),
        ] {
            assert_eq!(parse(value.clone()).unwrap().validate(), Ok(()), "{value}");
        }
    }

    #[test]
    fn needs_follow_the_switches() {
        for (value, prompt, rejected) in [
            (json!({"asft": {}}), false, true),
            (json!({"asft": {"nll_scope": "prompt_response"}}), true, true),
            (json!({"asft": {"nll_scope": "prompt_response", "nll_weight": 0}}), false, true),
            (json!({"sft": {}}), false, false),
            (json!({"sft": {"nll_scope": "prompt_response"}}), true, false),
            (json!({"orpo": {"nll_scope": "prompt_response"}}), true, true),
        ] {
            let objective = parse(value.clone()).unwrap();
            assert_eq!(objective.needs_prompt_scores(), prompt, "{value}");
            assert_eq!(objective.needs_rejected(), rejected, "{value}");
            assert!(!objective.needs_reference(), "{value}");
        }
        let with_reference =
            ["dpo", "robust", "hinge", "ipo", "sigmoid_norm", "nca", "bco", "kto", "apo_down"];
        for &name in Objective::NAMES {
            let objective = Objective::by_name(name).unwrap();
            assert_eq!(objective.needs_reference(), with_reference.contains(&name), "{name}");
        }
    }
}
