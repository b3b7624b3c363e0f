//! From phonemes to numbers: the symbols of `tokens.txt`.

use std::{
    borrow::ToOwned,
    collections::BTreeMap,
    format, fs, io,
    path::{Path, PathBuf},
    string::String,
    vec::Vec,
};

/// A table of symbols, one a line with its number after a space, as sherpa-onnx has beside its models.
#[derive(Clone, Debug)]
pub(super) struct Symbols {
    path: PathBuf,
    numbers: BTreeMap<String, i64>,
    /// Characters of the longest.
    longest: usize,
    /// What is put between all others.
    blank: Option<i64>,
}

/// Why a text has no numbers.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    #[error("{}: cannot read the table of symbols: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: write a symbol, a space and its number, from 0", path.display())]
    Line { path: PathBuf, line: usize },
    #[error("{}:{line}: the symbol `{symbol}` is there twice; keep one", path.display())]
    Twice { path: PathBuf, line: usize, symbol: String },
    #[error("{}: there is no symbol `{symbol}`, which the manifest has as the blank", path.display())]
    Blank { path: PathBuf, symbol: String },
    #[error("there is nothing to say; write the phonemes of a text")]
    Empty,
    #[error("{} has no symbol for {unknown}; write phonemes as the model was trained on (docs/speech.md)", path.display())]
    Unknown { path: PathBuf, unknown: String },
}

impl Symbols {
    /// Reads the table at `path`.
    pub(super) fn read(path: PathBuf, blank: Option<&str>) -> Result<Symbols, SymbolError> {
        match fs::read_to_string(&path) {
            Ok(text) => Symbols::parse(&text, &path, blank),
            Err(source) => Err(SymbolError::Read { path, source }),
        }
    }

    fn parse(text: &str, path: &Path, blank: Option<&str>) -> Result<Symbols, SymbolError> {
        let mut numbers = BTreeMap::new();
        for (line, written) in (1..).zip(text.lines()).filter(|(_, written)| !written.trim().is_empty()) {
            let parts = written.trim_end().rsplit_once([' ', '\t']);
            let number = parts.and_then(|(symbol, number)| Some((symbol, number.parse::<u32>().ok()?)));
            let Some((symbol, number)) = number else {
                return Err(SymbolError::Line { path: path.to_owned(), line });
            };
            // The space itself may be the symbol, or have been lost beside the other one.
            let symbol = if symbol.is_empty() { " " } else { symbol };
            if numbers.insert(symbol.to_owned(), number.into()).is_some() {
                return Err(SymbolError::Twice { path: path.to_owned(), line, symbol: symbol.to_owned() });
            }
        }
        let number = |symbol: &str| {
            let unknown = || SymbolError::Blank { path: path.to_owned(), symbol: symbol.to_owned() };
            numbers.get(symbol).copied().ok_or_else(unknown)
        };
        let blank = blank.map(number).transpose()?;
        let longest = numbers.keys().map(|symbol| symbol.chars().count()).max().unwrap_or(0);
        Ok(Symbols { path: path.to_owned(), numbers, longest, blank })
    }

    /// The numbers of a text's symbols, at each place the longest that there is, with blanks.
    pub(super) fn numbers(&self, text: &str) -> Result<Vec<i64>, SymbolError> {
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).take(self.longest);
            let known = |end: usize| Some((*self.numbers.get(&rest[..end])?, end));
            let (number, end) = ends.filter_map(known).last().unzip();
            if number.is_none() && !unknown.contains(&first) {
                unknown.push(first);
            }
            found.extend(number);
            rest = &rest[end.unwrap_or(first.len_utf8())..];
        }
        if !unknown.is_empty() {
            let quoted: Vec<_> = unknown.iter().map(|c| format!("`{}`", c.escape_debug())).collect();
            return Err(SymbolError::Unknown { path: self.path.clone(), unknown: quoted.join(", ") });
        }
        if found.is_empty() {
            return Err(SymbolError::Empty);
        }
        Ok(match self.blank {
            Some(blank) => [blank].into_iter().chain(found.into_iter().flat_map(|n| [n, blank])).collect(),
            None => found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn parse(text: &str, blank: Option<&str>) -> Result<Symbols, SymbolError> {
        Symbols::parse(text, Path::new("tokens.txt"), blank)
    }

    #[test]
    fn the_longest_symbol_is_taken() {
        let symbols = parse("_ 0\no 1\nʊ 2\noʊ 3\n  4\n", None).expect("a table");
        assert_eq!(symbols.numbers("oʊ oo").expect("symbols"), [3, 4, 1, 1]);
        let symbols = parse("_ 0\no 1\n 4\n", Some("_")).expect("a table");
        assert_eq!(symbols.numbers("o o").expect("symbols"), [0, 1, 0, 4, 0, 1, 0]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |text, blank| parse(text, blank).expect_err("wrong").to_string();
        assert_eq!(message("a 1\nb\n", None), "tokens.txt:2: write a symbol, a space and its number, from 0");
        assert_eq!(message("a 1\na 2\n", None), "tokens.txt:2: the symbol `a` is there twice; keep one");
        let blank = "tokens.txt: there is no symbol `_`, which the manifest has as the blank";
        assert_eq!(message("a 1\n", Some("_")), blank);
    }
}
