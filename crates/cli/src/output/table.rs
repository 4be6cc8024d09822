//! Tables as kubectl prints them: columns of at least six characters with the three blanks after them, the last not padded.

const LEAST_WIDTH: usize = 6;
const PADDING: usize = 3;

/// Prints rows under remembered column widths, which only grow: a watch keeps its shape (§17.2).
#[derive(Debug, Default)]
pub(crate) struct TableWriter {
    widths: Vec<usize>,
}

impl TableWriter {
    /// The rows as text, one line each.
    pub(crate) fn lines<R: AsRef<[String]>>(&mut self, rows: &[R]) -> String {
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.as_ref().iter().map(|cell| one_line(cell)).collect())
            .collect();
        for row in &rows {
            self.widths
                .resize(self.widths.len().max(row.len()), LEAST_WIDTH);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count() + PADDING);
            }
        }
        rows.iter().map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for (place, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if place + 1 < row.len() {
                let missing = self.widths[place] - cell.chars().count();
                line.extend(std::iter::repeat_n(' ', missing));
            }
        }
        line.push('\n');
        line
    }
}

/// A cell ends at its first line break; escapes are made visible, so that no object can steer the terminal.
fn one_line(cell: &str) -> String {
    let visible = |text: &str| text.replace('\u{1b}', "^[");
    match cell.find(['\n', '\r', '\u{c}']) {
        Some(end) => visible(&cell[..end]) + "...",
        None => visible(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_columns_and_remembers_their_widths() {
        let mut writer = TableWriter::default();
        let row = |cells: [&str; 2]| cells.map(str::to_owned);
        assert_eq!(
            writer.lines(&[row(["NAME", "AGE"]), row(["a", "1s"])]),
            "NAME   AGE\na      1s\n"
        );
        assert_eq!(
            writer.lines(&[row(["a-long-name", "1s"])]),
            "a-long-name   1s\n"
        );
        assert_eq!(writer.lines(&[row(["b", "x\ny"])]), "b             x...\n");
    }
}
