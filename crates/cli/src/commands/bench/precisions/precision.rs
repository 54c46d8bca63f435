//! The number formats that are compared.

use std::fmt;

/// The number formats of images and texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Precision {
    F32,
    F16,
    Bf16,
    /// Images in fp8, texts in f16.
    Fp8,
    /// Images in int8, texts in bf16.
    Int8Bf16,
    Int8,
}

impl Precision {
    /// Returns the formats that make sense on a GPU or on the CPU, the reference first.
    pub(super) fn of_device(is_cuda: bool) -> &'static [Self] {
        if is_cuda {
            &[Self::F32, Self::F16, Self::Bf16, Self::Fp8]
        } else {
            &[Self::F32, Self::Bf16, Self::Int8Bf16, Self::Int8]
        }
    }

    /// Returns the value of `--precision`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Int8Bf16 => "int8-bf16",
            Self::Int8 => "int8",
        }
    }

    /// Returns the settings that select this format, and their values.
    pub(super) fn values(self) -> [(&'static str, &'static str); 3] {
        let (model, vision, text) = match self {
            Self::F32 => ("f32", "auto", "auto"),
            Self::F16 => ("f16", "auto", "auto"),
            Self::Bf16 => ("bf16", "auto", "auto"),
            Self::Fp8 => ("f16", "fp8", "auto"),
            Self::Int8Bf16 => ("int8", "auto", "bf16"),
            Self::Int8 => ("int8", "auto", "auto"),
        };
        [("model.dtype", model), ("model.vision_dtype", vision), ("model.text_dtype", text)]
    }

    /// Returns the settings that a format determines.
    pub(super) fn settings() -> impl Iterator<Item = &'static str> {
        Self::F32.values().into_iter().map(|(key, _)| key)
    }
}

/// The options of `serve`.
impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.values().into_iter().filter(|(_, value)| *value != "auto").map(|(key, value)| {
            let flag = key.trim_start_matches("model.").replace('_', "-");
            format!("--{flag} {value}")
        });
        f.pad(&options.collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use blip_server::config::definition;
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn options_are_those_of_serve() {
        assert_eq!(Precision::Int8Bf16.to_string(), "--dtype int8 --text-dtype bf16");
        assert_eq!(Precision::F32.to_string(), "--dtype f32");
        assert_eq!(Precision::Fp8.to_string(), "--dtype f16 --vision-dtype fp8");
        for precision in Precision::value_variants() {
            assert_eq!(precision.to_possible_value().unwrap().get_name(), precision.name());
            for (key, value) in precision.values() {
                let definition = definition(key).unwrap();
                assert_eq!(definition.flag(), key.trim_start_matches("model.").replace('_', "-"));
                definition.check("the test", key, &[value.to_owned()]).unwrap();
            }
        }
    }
}
