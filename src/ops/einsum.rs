//! Einsum, as transpositions, one batched matrix product a pair of operands, and sums.

use super::{Call, MatMul, OpError, Reduce, problem, unsupported};
use crate::graph::{Builder, ValueId};
use crate::kernels::ReduceKind;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// A value and the label of each of its axes.
struct Labelled {
    value: ValueId,
    labels: Vec<char>,
}

pub fn import(b: &mut Builder, call: &Call) -> Result<Vec<ValueId>, OpError> {
    let equation: String = call.string("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
    let inputs = call.present();
    let (left, right) = sides(&equation);
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != inputs.len() || inputs.is_empty() {
        return Err(problem!("equation {equation:?} does not fit {} inputs", inputs.len()));
    }
    let mut operands = Vec::new();
    for (&value, term) in inputs.iter().zip(&terms) {
        operands.push(labelled(b, value, term)?);
    }
    let result = match right {
        Some(right) => labels_of(&right, operands.iter().map(|o| o.labels.len()).max().unwrap_or(0))?
            .into_iter()
            .filter(|c| !c.is_ascii_digit() || operands.iter().any(|o| o.labels.contains(c)))
            .collect(),
        None => implicit(&operands),
    };
    let mut rest = operands.into_iter();
    let mut total = rest.next().ok_or_else(|| problem!("Einsum has no input"))?;
    let rest: Vec<Labelled> = rest.collect();
    for i in 0..rest.len() {
        let later: Vec<char> = rest[i + 1..].iter().flat_map(|o| &o.labels).chain(&result).copied().collect();
        total = product(b, total, &rest[i], &later)?;
    }
    let total = sum_except(b, total, &result)?;
    let order: Option<Vec<usize>> = result.iter().map(|c| total.labels.iter().position(|l| l == c)).collect();
    let order = order.ok_or_else(|| problem!("equation {equation:?} has an output that no input has"))?;
    Ok(std::vec![b.transpose(total.value, &order)?])
}

fn sides(equation: &str) -> (String, Option<String>) {
    match equation.split_once("->") {
        Some((left, right)) => (left.to_string(), Some(right.to_string())),
        None => (equation.to_string(), None),
    }
}

/// The labels of a term; `...` stands for the digits '0', '1', .. counted so that the last is the rightmost axis.
fn labels_of(term: &str, rank: usize) -> Result<Vec<char>, OpError> {
    let Some((before, after)) = term.split_once("...") else { return Ok(term.chars().collect()) };
    let hidden = rank.saturating_sub(before.chars().count() + after.chars().count());
    if hidden > 9 {
        return Err(problem!("{term:?} hides too many axes"));
    }
    let dots = (0..hidden).rev().map(|i| char::from(b'0' + i as u8));
    Ok(before.chars().chain(dots).chain(after.chars()).collect())
}

fn labelled(b: &mut Builder, value: ValueId, term: &str) -> Result<Labelled, OpError> {
    let labels = labels_of(term, b.shape(value).len())?;
    if labels.len() != b.shape(value).len() {
        return Err(problem!("the term {term:?} does not fit {}", b.fact(value)));
    }
    if (1..labels.len()).any(|i| labels[..i].contains(&labels[i])) {
        return Err(unsupported!("the term {term:?} takes a diagonal, for which there is no kernel"));
    }
    Ok(Labelled { value, labels })
}

/// Without an arrow: the labels that occur once, in alphabetical order, behind the dots.
fn implicit(operands: &[Labelled]) -> Vec<char> {
    let all: Vec<char> = operands.iter().flat_map(|o| o.labels.iter().copied()).collect();
    let once = |c: &char| c.is_ascii_digit() || all.iter().filter(|a| *a == c).count() == 1;
    let mut result: Vec<char> = all.iter().copied().filter(once).collect();
    result.sort_unstable_by_key(|c| {
        (!c.is_ascii_digit(), if c.is_ascii_digit() { '9' as u32 - *c as u32 } else { *c as u32 })
    });
    result.dedup();
    result
}

fn sum_except(b: &mut Builder, x: Labelled, keep: &[char]) -> Result<Labelled, OpError> {
    let axes: Vec<usize> = (0..x.labels.len()).filter(|&a| !keep.contains(&x.labels[a])).collect();
    if axes.is_empty() {
        return Ok(x);
    }
    let labels = x.labels.iter().copied().filter(|c| keep.contains(c)).collect();
    let value = b.push(Reduce { kind: ReduceKind::Sum, axes, keep: false }, &[x.value])?;
    Ok(Labelled { value, labels })
}

/// The product of two operands, summed over the labels that nothing later needs.
fn product(b: &mut Builder, x: Labelled, y: &Labelled, later: &[char]) -> Result<Labelled, OpError> {
    let needed = |other: &[char]| other.iter().chain(later).copied().collect::<Vec<_>>();
    let x = {
        let keep = needed(&y.labels);
        sum_except(b, x, &keep)?
    };
    let y = {
        let keep = needed(&x.labels);
        sum_except(b, Labelled { value: y.value, labels: y.labels.clone() }, &keep)?
    };
    let shared = |c: &&char| y.labels.contains(c);
    let batch: Vec<char> = x.labels.iter().filter(shared).filter(|c| later.contains(c)).copied().collect();
    let inner: Vec<char> = x.labels.iter().filter(shared).filter(|c| !later.contains(c)).copied().collect();
    let rows: Vec<char> = x.labels.iter().filter(|c| !y.labels.contains(c)).copied().collect();
    let columns: Vec<char> = y.labels.iter().filter(|c| !x.labels.contains(c)).copied().collect();
    let left = matrix(b, &x, &batch, &rows, &inner)?;
    let right = matrix(b, &y, &batch, &inner, &columns)?;
    let value = b.push(MatMul::PLAIN, &[left, right])?;
    let labels: Vec<char> = [&batch[..], &rows, &columns].concat();
    let lead = b.shape(value)[..batch.len()].to_vec();
    let size = |c: &char, of: &Labelled, b: &Builder| {
        of.labels.iter().position(|l| l == c).map_or(1, |axis| b.shape(of.value)[axis])
    };
    let mut shape = lead;
    shape.extend(rows.iter().map(|c| size(c, &x, b)));
    shape.extend(columns.iter().map(|c| size(c, &y, b)));
    let value = b.reshape(value, &shape)?;
    Ok(Labelled { value, labels })
}

/// The operand as [batch.., rows, columns], several labels merged into one axis.
fn matrix(
    b: &mut Builder,
    x: &Labelled,
    batch: &[char],
    rows: &[char],
    columns: &[char],
) -> Result<ValueId, OpError> {
    let wanted: Vec<char> = [batch, rows, columns].concat();
    let order: Option<Vec<usize>> = wanted.iter().map(|c| x.labels.iter().position(|l| l == c)).collect();
    let order =
        order.ok_or_else(|| OpError::new(format!("the labels {wanted:?} do not fit {:?}", x.labels)))?;
    let moved = b.transpose(x.value, &order)?;
    let shape = b.shape(moved).to_vec();
    let (lead, tail) = shape.split_at(batch.len());
    let (row_sizes, column_sizes) = tail.split_at(rows.len());
    let merged = [lead, &[row_sizes.iter().product(), column_sizes.iter().product()]].concat();
    b.reshape(moved, &merged)
}
