//! The table of an estimate: what is billed, how much, the unit price, and the amount, fitted to the width of the
//! terminal.

use std::fmt::Write as _;

use super::terminal::escape_line;
use super::wrap::wrap_words;

/// The space before the table and between its columns.
const GAP: usize = 2;

/// The narrowest first column. In a narrower table, the unit price follows what it is for.
const MIN_FIRST: usize = 30;

/// The widest last column of a table that does not fit, and of a narrow one. Amounts that are not known are whole
/// sentences.
const MAX_LAST: usize = 24;
const MAX_NARROW_LAST: usize = 18;

/// The widest column of quantities in a narrow table.
const MAX_NARROW_QUANTITY: usize = 13;

/// Aligns the columns: the first to the left, quantities to the right. If the table is wider than `width`, the texts of
/// the first and last column are broken at spaces. Numbers and their units stay whole.
pub(super) fn cost_table(rows: &[[String; 4]], width: usize) -> String {
    let rows: Vec<_> = rows.iter().map(|row| row.clone().map(|cell| escape_line(&cell))).collect();
    let natural = [0, 1, 2, 3].map(|column| widest(&rows, column));
    if GAP * 4 + natural.iter().sum::<usize>() <= width {
        return render(&rows, natural);
    }
    let last = natural[3].min(MAX_LAST);
    let first = width.saturating_sub(GAP * 4 + natural[1] + natural[2] + last);
    if first >= MIN_FIRST {
        return render(&rows, [first, natural[1], natural[2], last]);
    }
    let merged: Vec<_> = rows.into_iter().map(merge_price).collect();
    let (second, last) = (natural[1].min(MAX_NARROW_QUANTITY), last.min(MAX_NARROW_LAST));
    let first = width.saturating_sub(GAP * 3 + second + last).max(MIN_FIRST / 2);
    render(&merged, [first, second, 0, last])
}

/// Puts the unit price behind what it is for.
fn merge_price([what, quantity, price, amount]: [String; 4]) -> [String; 4] {
    let what = if price.is_empty() { what } else { format!("{what}, {price}") };
    [what, quantity, String::new(), amount]
}

fn widest(rows: &[[String; 4]], column: usize) -> usize {
    rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
}

fn render(rows: &[[String; 4]], [first, second, third, fourth]: [usize; 4]) -> String {
    let mut text = String::new();
    for [what, quantity, price, amount] in rows {
        let cells = [
            if what.chars().count() <= first { what.clone() } else { wrap_words(what, first.saturating_sub(GAP), GAP) },
            wrap_words(quantity, second, 0),
            price.clone(),
            wrap_words(amount, fourth, 0),
        ];
        let height = cells.iter().map(|cell| cell.split('\n').count()).max().unwrap_or(1);
        for line in 0..height {
            let [what, quantity, price, amount] =
                [0, 1, 2, 3].map(|cell: usize| cells[cell].split('\n').nth(line).unwrap_or_default());
            let price = if third == 0 { String::new() } else { format!("  {price:<third$}") };
            let line = format!("  {what:<first$}  {quantity:>second$}{price}  {amount}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<[String; 4]> {
        [
            ["GetObjectTagging, class STANDARD_IA", "1,500", "0.001 USD per 1,000", "less than 0.01 USD"],
            ["RestoreObject, tier Standard, class STANDARD, refused", "1", "", "unknown: no price in the price book"],
            ["temporary copy, class GLACIER", "1,220.00 GB for 7 days", "0.023 USD per GB-month", "6.55 USD"],
            ["total", "", "", "at least 34.23 USD, plus 1 line of unknown price"],
        ]
        .map(|row| row.map(str::to_owned))
        .into()
    }

    #[test]
    fn a_table_fits_its_terminal_and_breaks_no_number() {
        for width in [60, 80, 120, usize::MAX] {
            let table = cost_table(&rows(), width);
            assert!(table.lines().all(|line| line.chars().count() <= width), "{width}:\n{table}");
            for whole in ["1,500", "1,220.00 GB", "for 7 days", "6.55 USD", "34.23 USD", "0.01 USD"] {
                assert!(table.contains(whole), "{width}: {whole}\n{table}");
            }
        }
    }

    #[test]
    fn a_narrow_table_has_the_price_behind_what_it_is_for() {
        assert_eq!(
            cost_table(&rows()[..1], 60),
            "  GetObjectTagging, class          1,500  less than 0.01 USD\n    STANDARD_IA, 0.001 USD per\n    1,000\n"
        );
        assert_eq!(
            cost_table(&rows()[..1], 120),
            "  GetObjectTagging, class STANDARD_IA  1,500  0.001 USD per 1,000  less than 0.01 USD\n"
        );
    }
}
