//! Changes to a record such as an editor or another program makes.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// One change to a record.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// A number, wherever it is, becomes another.
    Number { which: prop::sample::Index, to: u64 },
    /// A fence, wherever it is, becomes another.
    Text { which: prop::sample::Index, to: u64 },
    /// An entry of a list is there twice.
    Twice { list: &'static str, which: prop::sample::Index },
    /// An entry of a list is gone.
    Gone { list: &'static str, which: prop::sample::Index },
    /// A flag is turned.
    Flag { which: prop::sample::Index },
}

pub(crate) fn edit() -> impl Strategy<Value = Edit> {
    let list = prop_oneof![Just("holders"), Just("queue"), Just("departed"), Just("withdrawn")];
    let number = prop_oneof![Just(0), Just(1), Just(2), Just(4), Just(u64::MAX), any::<u64>()];
    let which = any::<prop::sample::Index>();
    prop_oneof![
        (which.clone(), number.clone()).prop_map(|(which, to)| Edit::Number { which, to }),
        (which.clone(), number).prop_map(|(which, to)| Edit::Text { which, to }),
        (list.clone(), which.clone()).prop_map(|(list, which)| Edit::Twice { list, which }),
        (list, which.clone()).prop_map(|(list, which)| Edit::Gone { list, which }),
        which.prop_map(|which| Edit::Flag { which }),
    ]
}

impl Edit {
    pub(crate) fn apply(&self, cell: &mut Json) {
        match self {
            Edit::Number { which, to } => {
                pick(cell, Json::is_number, *which, |number| *number = json!(to));
            }
            Edit::Text { which, to } => {
                let digits = |v: &Json| v.as_str().is_some_and(|s| s.parse::<u64>().is_ok());
                pick(cell, digits, *which, |text| *text = json!(to.to_string()));
            }
            Edit::Flag { which } => {
                pick(cell, Json::is_boolean, *which, |flag| *flag = json!(flag == &json!(false)));
            }
            Edit::Twice { list, which } => {
                if let Some(list) = cell.get_mut(*list).and_then(Json::as_array_mut)
                    && !list.is_empty()
                {
                    let again = which.get(list).clone();
                    list.push(again);
                }
            }
            Edit::Gone { list, which } => {
                if let Some(list) = cell.get_mut(*list).and_then(Json::as_array_mut)
                    && !list.is_empty()
                {
                    list.remove(which.index(list.len()));
                }
            }
        }
    }
}

/// Changes one of the values in `json` that are of a kind.
pub(crate) fn pick(
    json: &mut Json,
    is: impl Fn(&Json) -> bool + Copy,
    which: prop::sample::Index,
    change: impl FnOnce(&mut Json),
) {
    let mut all = Vec::new();
    collect(json, is, &mut all);
    if !all.is_empty() {
        let at = which.index(all.len());
        change(all.swap_remove(at));
    }
}

pub(crate) fn collect<'a>(
    json: &'a mut Json,
    is: impl Fn(&Json) -> bool + Copy,
    to: &mut Vec<&'a mut Json>,
) {
    if is(json) {
        to.push(json);
        return;
    }
    match json {
        Json::Array(items) => items.iter_mut().for_each(|item| collect(item, is, to)),
        Json::Object(fields) => fields.values_mut().for_each(|field| collect(field, is, to)),
        _ => {}
    }
}
