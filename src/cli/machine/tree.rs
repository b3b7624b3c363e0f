//! The files in which Linux shows its devices, below a root: the system's, or a test's.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the files are. Paths below it begin without a slash.
#[derive(Clone, Debug)]
pub struct Tree(PathBuf);

impl Tree {
    pub fn system() -> Tree {
        Tree("/".into())
    }

    #[cfg(test)]
    pub fn below(root: impl Into<PathBuf>) -> Tree {
        Tree(root.into())
    }

    /// A file's text without the white space and the zero at its end; `None` if it cannot be read, or is empty.
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.0.join(path)).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_string())
            .filter(|text| !text.is_empty())
    }

    /// A file that holds one number.
    pub fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The value of the first line `name: value` of a file.
    pub fn field(&self, path: &str, name: &str) -> Option<String> {
        let text = self.text(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
        line.map(|value| value.trim().to_string())
    }

    /// What in a folder is called by this prefix and a number, in the order of the numbers, as whole paths.
    pub fn numbered(&self, folder: &str, prefix: &str) -> Vec<(usize, String)> {
        let entries = fs::read_dir(self.0.join(folder)).into_iter().flatten().flatten();
        let number = |name: &str| name.strip_prefix(prefix)?.parse().ok();
        let mut found: Vec<(usize, String)> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| Some((number(&name)?, format!("{folder}/{name}"))))
            .collect();
        found.sort();
        found
    }

    /// Whether there is such a file, readable or not.
    pub fn has(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }
}
