//! A device by the name that specs and commands give it.

use std::str::FromStr;

/// A device by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// `auto`: the first GPU if there is one, else the CPU.
    Auto,
    /// `cpu`
    Cpu,
    /// `cuda:N`; `cuda` is the first one.
    Gpu(usize),
}

impl DeviceName {
    /// The names, for messages.
    pub const FORM: &str = "auto, cpu, cuda or cuda:N";

    /// Whether the device of this name, which is not `auto`, is a GPU.
    pub fn is_gpu(name: &str) -> bool {
        name != "cpu"
    }
}

impl FromStr for DeviceName {
    /// What is wanted instead.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = match text {
            "auto" => Some(DeviceName::Auto),
            "cpu" => Some(DeviceName::Cpu),
            "cuda" => Some(DeviceName::Gpu(0)),
            _ => text.strip_prefix("cuda:").and_then(gpu),
        };
        name.ok_or_else(|| format!("want {}", Self::FORM))
    }
}

fn gpu(index: &str) -> Option<DeviceName> {
    let is_number = index.bytes().all(|byte| byte.is_ascii_digit());
    // libtorch numbers devices with a signed byte.
    let index: i8 = index.parse().ok().filter(|_| is_number)?;
    Some(DeviceName::Gpu(usize::try_from(index).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_is_parsed_by_its_name_and_nothing_else() {
        for (text, want) in [
            ("auto", DeviceName::Auto),
            ("cpu", DeviceName::Cpu),
            ("cuda", DeviceName::Gpu(0)),
            ("cuda:0", DeviceName::Gpu(0)),
            ("cuda:15", DeviceName::Gpu(15)),
            ("cuda:127", DeviceName::Gpu(127)),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:128", "CPU"] {
            let error = "want auto, cpu, cuda or cuda:N".to_owned();
            assert_eq!(text.parse::<DeviceName>(), Err(error), "{text}");
        }
    }
}
