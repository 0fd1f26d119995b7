//! Settings of objectives whose supervised term has a weight.

/// Defines such an objective's table: its own numbers with their defaults, then the weight and the switches of the
/// NLL, which every one of them has.
macro_rules! settings {
    (
        $(#[$doc:meta])*
        $name:ident {
            $($(#[$key_doc:meta])* $key:ident = $default:expr,)+
        } with nll_weight = $nll_weight:expr
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$key_doc])* pub $key: f64,)+
            /// ν: weight of the chosen answer's NLL.
            pub nll_weight: f64,
            /// Tokens the NLL covers.
            pub nll_scope: $crate::NllScope,
            /// Mean over pairs or over tokens.
            pub nll_reduction: $crate::NllReduction,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($key: $default,)+
                    nll_weight: $nll_weight,
                    nll_scope: $crate::NllScope::default(),
                    nll_reduction: $crate::NllReduction::default(),
                }
            }
        }

        impl $name {
            fn weighted_nll(&self) -> $crate::objective::nll::Nll {
                $crate::objective::nll::Nll {
                    weight: self.nll_weight,
                    scope: self.nll_scope,
                    reduction: self.nll_reduction,
                }
            }
        }
    };
}

pub(super) use settings;
