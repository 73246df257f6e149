//! Options of tables as they were called before `'connector' = '…'`: `'connector.type' = 'filesystem'`.

use super::TableOption;

/// Their names then and now; those without one now say what is the case here anyway.
const NAMES: &[(&str, Option<&str>)] = &[
    ("connector.type", Some("connector")),
    ("connector.path", Some("path")),
    ("connector.property-version", None),
    ("format.type", Some("format")),
    ("format.field-delimiter", Some("csv.field-delimiter")),
    ("format.property-version", None),
    ("format.derive-schema", None),
];

/// Gives the options of a table that says `connector.type` the names that they have now. What is not known keeps its
/// name, and is refused by it.
pub(super) fn rename(options: &mut Vec<TableOption>) {
    if !options.iter().any(|option| option.key.eq_ignore_ascii_case("connector.type")) {
        return;
    }
    options.retain_mut(|option| {
        let known = NAMES.iter().find(|(old, _)| option.key.eq_ignore_ascii_case(old));
        match known {
            Some((_, Some(new))) => {
                option.key = (*new).to_owned();
                true
            }
            Some((_, None)) => false,
            None => !(option.key.eq_ignore_ascii_case("update-mode") && option.value.eq_ignore_ascii_case("append")),
        }
    });
}
