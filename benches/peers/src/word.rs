//! How a value is written on the command line, and in the tables.

use clap::ValueEnum;

pub(crate) fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
