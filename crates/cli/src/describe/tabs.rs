//! Text in tab-aligned columns, as `describe` prints it (§15): a run of lines that share a column shares its width.

/// Blanks after the widest cell of a column.
const PADDING: usize = 2;

/// Lines whose cells end with tabs, aligned at the end.
#[derive(Debug, Default)]
pub(crate) struct Tabs {
    done: String,
    pending: String,
}

impl Tabs {
    /// Adds a line at a level of indentation.
    pub(crate) fn line(&mut self, level: usize, text: impl AsRef<str>) {
        self.pending.push_str(&"  ".repeat(level));
        self.pending.push_str(text.as_ref());
        self.pending.push('\n');
    }

    /// Adds `name:` and a value in the next column.
    pub(crate) fn field(&mut self, level: usize, name: &str, value: impl AsRef<str>) {
        self.line(level, format!("{name}:\t{}", value.as_ref()));
    }

    /// Adds `name:` and values below each other, `<none>` if there are none.
    pub(crate) fn column(&mut self, name: &str, values: &[String]) {
        if values.is_empty() {
            self.line(0, format!("{name}:\t<none>"));
        }
        for (place, value) in values.iter().enumerate() {
            let head = if place == 0 {
                format!("{name}:")
            } else {
                String::new()
            };
            self.line(0, format!("{head}\t{value}"));
        }
    }

    /// Aligns what was added so far; later lines have widths of their own.
    pub(crate) fn flush(&mut self) {
        let text = std::mem::take(&mut self.pending);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split('\t').collect())
            .collect();
        align(&lines, &mut Vec::new(), &mut self.done);
    }

    /// The whole text with its tabs, not aligned.
    pub(crate) fn unaligned(self) -> String {
        self.done + &self.pending
    }

    /// The whole text.
    pub(crate) fn finish(mut self) -> String {
        self.flush();
        self.done
    }
}

/// Writes lines that share the columns of `widths`; runs that share one more are aligned first.
fn align(lines: &[Vec<&str>], widths: &mut Vec<usize>, out: &mut String) {
    let column = widths.len();
    let has_cell = |line: &Vec<&str>| column + 1 < line.len();
    let mut place = 0;
    while place < lines.len() {
        let shares = has_cell(&lines[place]);
        let run = lines[place..]
            .iter()
            .take_while(|line| has_cell(line) == shares)
            .count();
        let block = &lines[place..place + run];
        if shares {
            let widest = block.iter().map(|line| line[column].chars().count()).max();
            widths.push(widest.unwrap_or(0) + PADDING);
            align(block, widths, out);
            widths.pop();
        } else {
            block.iter().for_each(|line| write(line, widths, out));
        }
        place += run;
    }
}

fn write(line: &[&str], widths: &[usize], out: &mut String) {
    for (place, cell) in line.iter().enumerate() {
        out.push_str(cell);
        if let Some(width) = widths.get(place) {
            out.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_lines_share_their_columns() {
        let mut tabs = Tabs::default();
        tabs.field(0, "Name", "web");
        tabs.column("Labels", &["a=b".into(), "c=d".into()]);
        tabs.line(0, "IPs:");
        tabs.line(1, "IP:\t1");
        tabs.line(1, "longer:\t2\tmore");
        tabs.line(1, "x:\ty\tz");
        tabs.column("None", &[]);
        assert_eq!(
            tabs.finish(),
            "Name:    web\nLabels:  a=b\n         c=d\nIPs:\n  IP:      1\n  longer:  2  more\n  x:       y  z\nNone:      <none>\n"
        );
    }

    #[test]
    fn a_flush_begins_anew() {
        let mut tabs = Tabs::default();
        tabs.line(0, "long name:\t1");
        tabs.flush();
        tabs.line(0, "b:\t2");
        assert_eq!(tabs.finish(), "long name:  1\nb:  2\n");
    }
}
