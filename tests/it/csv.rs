//! Reading CSV as the file sink documents it: NULL is the bare null literal, a quoted one is text.

/// Cells of each line. `None` is NULL.
pub(crate) fn read(text: &str, delimiter: char, quote: Option<char>, null: &str) -> Vec<Vec<Option<String>>> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut cell = String::new();
    let (mut quoted, mut inside, mut any) = (false, false, false);
    let mut chars = text.chars().peekable();
    let finish = |cell: &mut String, quoted: &mut bool| {
        let text = std::mem::take(cell);
        let null = !std::mem::take(quoted) && text == null;
        (!null).then_some(text)
    };
    while let Some(c) = chars.next() {
        any = true;
        if inside {
            if Some(c) == quote {
                if chars.peek() == Some(&c) {
                    cell.push(c);
                    chars.next();
                } else {
                    inside = false;
                }
            } else {
                cell.push(c);
            }
        } else if Some(c) == quote {
            inside = true;
            quoted = true;
        } else if c == delimiter {
            row.push(finish(&mut cell, &mut quoted));
        } else if c == '\n' {
            row.push(finish(&mut cell, &mut quoted));
            rows.push(std::mem::take(&mut row));
            any = false;
        } else {
            cell.push(c);
        }
    }
    if any {
        row.push(finish(&mut cell, &mut quoted));
        rows.push(row);
    }
    rows
}

#[test]
fn quoted_nulls_are_text() {
    let some = |text: &str| Some(text.to_owned());
    let rows = read("a,\"\",\n\"x \"\"y\"\"\nz\",,1\n", ',', Some('"'), "");
    assert_eq!(rows, vec![vec![some("a"), some(""), None], vec![some("x \"y\"\nz"), None, some("1")]]);
}
