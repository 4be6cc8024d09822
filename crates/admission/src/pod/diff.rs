//! Unified diffs as upstream prints them: the longest common run of lines first, then the same on both sides of it (Ratcliff and
//! Obershelp), with lines that occur too often left out of the search. A shortest-edit diff would read as well but differ in text.

use std::collections::{BTreeMap, HashMap};

/// Lines of context around a change.
const CONTEXT: usize = 3;
/// From this many lines on, lines that make up more than one percent of the text are no anchors.
const POPULAR_FROM: usize = 200;

/// A stretch of lines in both texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Op {
    equal: bool,
    a: (usize, usize),
    b: (usize, usize),
}

/// What changes from `a` to `b`, without file headers; empty when nothing does.
pub(super) fn unified(a: &str, b: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split('\n').collect(), b.split('\n').collect());
    let mut out = String::new();
    for group in groups(&opcodes(&a, &b)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        out.push_str(&format!(
            "@@ -{} +{} @@\n",
            range(first.a.0, last.a.1),
            range(first.b.0, last.b.1)
        ));
        for op in &group {
            let mut write = |sign: char, lines: &[&str]| {
                lines
                    .iter()
                    .for_each(|line| out.push_str(&format!("{sign}{line}\n")))
            };
            if op.equal {
                write(' ', &a[op.a.0..op.a.1]);
            } else {
                write('-', &a[op.a.0..op.a.1]);
                write('+', &b[op.b.0..op.b.1]);
            }
        }
    }
    out
}

fn range(start: usize, stop: usize) -> String {
    match stop - start {
        1 => (start + 1).to_string(),
        0 => format!("{start},0"),
        length => format!("{},{length}", start + 1),
    }
}

fn opcodes(a: &[&str], b: &[&str]) -> Vec<Op> {
    let (mut i, mut j) = (0, 0);
    let mut ops = Vec::new();
    let mut blocks = matching_blocks(a, b);
    blocks.push((a.len(), b.len(), 0));
    for (at_a, at_b, size) in blocks {
        if i < at_a || j < at_b {
            ops.push(Op {
                equal: false,
                a: (i, at_a),
                b: (j, at_b),
            });
        }
        (i, j) = (at_a + size, at_b + size);
        if size > 0 {
            ops.push(Op {
                equal: true,
                a: (at_a, i),
                b: (at_b, j),
            });
        }
    }
    ops
}

/// Where in `b` each line that can anchor a match is.
fn anchors<'a>(b: &[&'a str]) -> HashMap<&'a str, Vec<usize>> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in b.iter().enumerate() {
        places.entry(line).or_default().push(j);
    }
    if b.len() >= POPULAR_FROM {
        let most = b.len() / 100 + 1;
        places.retain(|_, at| at.len() <= most);
    }
    places
}

/// Equal stretches `(start in a, start in b, length)` in order, adjacent ones joined.
fn matching_blocks(a: &[&str], b: &[&str]) -> Vec<(usize, usize, usize)> {
    let places = anchors(b);
    let mut todo = vec![((0, a.len()), (0, b.len()))];
    let mut found = Vec::new();
    while let Some((in_a, in_b)) = todo.pop() {
        let (i, j, size) = longest_match(a, b, &places, in_a, in_b);
        if size > 0 {
            found.push((i, j, size));
            todo.push(((in_a.0, i), (in_b.0, j)));
            todo.push(((i + size, in_a.1), (j + size, in_b.1)));
        }
    }
    found.sort_unstable();
    let mut joined: Vec<(usize, usize, usize)> = Vec::new();
    for (i, j, size) in found {
        match joined.last_mut() {
            Some(last) if last.0 + last.2 == i && last.1 + last.2 == j => last.2 += size,
            _ => joined.push((i, j, size)),
        }
    }
    joined
}

fn longest_match(
    a: &[&str],
    b: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    in_a: (usize, usize),
    in_b: (usize, usize),
) -> (usize, usize, usize) {
    let (mut best_i, mut best_j, mut best) = (in_a.0, in_b.0, 0);
    // Length of the match that ends at the previous line of `a` and line j of `b`.
    let mut ending: BTreeMap<usize, usize> = BTreeMap::new();
    for (i, line) in a.iter().enumerate().take(in_a.1).skip(in_a.0) {
        let mut now = BTreeMap::new();
        for &j in places
            .get(line)
            .into_iter()
            .flatten()
            .filter(|j| (in_b.0..in_b.1).contains(*j))
        {
            let length = 1 + j
                .checked_sub(1)
                .and_then(|before| ending.get(&before))
                .copied()
                .unwrap_or(0);
            now.insert(j, length);
            if length > best {
                (best_i, best_j, best) = (i + 1 - length, j + 1 - length, length);
            }
        }
        ending = now;
    }
    // Popular lines may extend a match, though they cannot begin one.
    while best_i > in_a.0 && best_j > in_b.0 && a[best_i - 1] == b[best_j - 1] {
        (best_i, best_j, best) = (best_i - 1, best_j - 1, best + 1);
    }
    while best_i + best < in_a.1 && best_j + best < in_b.1 && a[best_i + best] == b[best_j + best] {
        best += 1;
    }
    (best_i, best_j, best)
}

/// Changes with their context, apart where more than twice the context lies between them.
fn groups(ops: &[Op]) -> Vec<Vec<Op>> {
    let mut ops = ops.to_vec();
    if let Some(first) = ops.first_mut().filter(|op| op.equal) {
        first.a.0 = first.a.0.max(first.a.1.saturating_sub(CONTEXT));
        first.b.0 = first.b.0.max(first.b.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = ops.last_mut().filter(|op| op.equal) {
        last.a.1 = last.a.1.min(last.a.0 + CONTEXT);
        last.b.1 = last.b.1.min(last.b.0 + CONTEXT);
    }
    let mut groups = Vec::new();
    let mut group: Vec<Op> = Vec::new();
    for op in ops {
        if op.equal && op.a.1 - op.a.0 > 2 * CONTEXT {
            group.push(Op {
                a: (op.a.0, op.a.0 + CONTEXT),
                b: (op.b.0, op.b.0 + CONTEXT),
                ..op
            });
            groups.push(std::mem::take(&mut group));
            group.push(Op {
                a: (op.a.1 - CONTEXT, op.a.1),
                b: (op.b.1 - CONTEXT, op.b.1),
                ..op
            });
        } else {
            group.push(op);
        }
    }
    groups.push(group);
    groups.retain(|group| group.iter().any(|op| !op.equal));
    groups
}
