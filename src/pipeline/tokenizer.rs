//! From a prompt to the numbers of its tokens, as transformers finds them.
//!
//! Tokenizers are read from `tokenizer.json`, or made of CLIP's `vocab.json` and `merges.txt`. How long a text may be and
//! what it is filled up with is the configuration's: CLIP of Stable Diffusion 1 is padded with its last token, those of 2
//! and of SDXL's second encoder with `!`.

use std::{
    borrow::ToOwned,
    format,
    path::{Path, PathBuf},
    str::FromStr,
    string::{String, ToString},
    vec::Vec,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::{PostProcessor, TruncationDirection};

use super::{files::Files, folder::FolderError};

/// The files that tokenizers are read from.
pub(super) const FILES: [&str; 5] = [WHOLE, VOCABULARY, MERGES, CONFIG, SPECIAL];
const WHOLE: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL: &str = "special_tokens_map.json";

/// What CLIP reads, whatever a configuration leaves out.
const CLIP_LENGTH: usize = 77;
/// CLIP's beginning and end.
const FIRST: &str = "<|startoftext|>";
const LAST: &str = "<|endoftext|>";

/// The tokenizer of one component.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    padding: u32,
    longest: usize,
}

/// The tokens of a text, filled up to a length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub ids: Vec<u32>,
    /// How many are the text's: the others fill up, after them.
    pub used: usize,
    /// How many of the text's were cut off.
    pub clipped: usize,
}

/// Why there is no tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{}: there is neither a tokenizer.json nor vocab.json and merges.txt; save the tokenizer with a recent transformers", .0.display())]
    Missing(PathBuf),
    #[error("{}: {problem}; download it, or save the tokenizer, again", path.display())]
    Invalid { path: PathBuf, problem: String },
    #[error("{}: the vocabulary has no token {token:?}, which texts are filled up with; save the tokenizer again", path.display())]
    Padding { path: PathBuf, token: String },
    #[error(
        "a text of at most {length} tokens has no room beside the {added} that every text has; correct its model_max_length"
    )]
    Length { length: usize, added: usize },
    #[error("the text has no tokens: {0}")]
    Text(String),
}

/// `tokenizer_config.json` and `special_tokens_map.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    /// 1e30 where there is no limit.
    model_max_length: Option<f64>,
    pad_token: Option<Token>,
}

/// A token, with or without what else is said of it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Described { content: String },
}

impl Tokenizer {
    /// Reads the tokenizer in a part of a pipeline.
    ///
    /// # Errors
    /// If it is missing or damaged.
    pub fn read(files: &Files, part: &str) -> Result<Tokenizer, TokenizerError> {
        let config = |name: &str| -> Result<Config, FolderError> {
            let name = format!("{part}/{name}");
            if files.has(&name) { files.json(&name) } else { Ok(Config::default()) }
        };
        let folder = files.path(part);
        let (own, special) = (config(CONFIG)?, config(SPECIAL)?);
        let said = own.pad_token.or(special.pad_token).map(|token| match token {
            Token::Text(token) | Token::Described { content: token } => token,
        });
        let mut inner = inner(files, part, said.as_deref())?;
        let padding =
            said.unwrap_or_else(|| inner.get_padding().map_or(LAST.to_owned(), |own| own.pad_token.clone()));
        let no_padding = || TokenizerError::Padding { path: folder.clone(), token: padding.clone() };
        let id = inner.token_to_id(&padding).ok_or_else(no_padding)?;
        // Lengths are those of each call.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| invalid(&folder, error))?;
        let longest = own.model_max_length.map_or(CLIP_LENGTH, |length| length as usize);
        Ok(Tokenizer { inner, padding: id, longest })
    }

    /// The most tokens of a text that the configuration allows.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// How many tokens a text has, with those that every text has.
    ///
    /// # Errors
    /// If the text has none.
    pub fn count(&self, text: &str) -> Result<usize, TokenizerError> {
        let encoding = self.inner.encode(text, true);
        Ok(encoding.map_err(|error| TokenizerError::Text(error.to_string()))?.len())
    }

    /// The tokens of a text, clipped or filled up to so many.
    ///
    /// # Errors
    /// If there is no room for any, or the text has none.
    pub fn encode(&self, text: &str, length: usize) -> Result<Tokens, TokenizerError> {
        let failed = |error: tokenizers::Error| TokenizerError::Text(error.to_string());
        let mut encoding = self.inner.encode(text, false).map_err(failed)?;
        let added = self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        let Some(room) = length.checked_sub(added).filter(|&room| room > 0) else {
            return Err(TokenizerError::Length { length, added });
        };
        let clipped = encoding.len().saturating_sub(room);
        encoding.truncate(room, 0, TruncationDirection::Right);
        let encoding = self.inner.post_process(encoding, None, true).map_err(failed)?;
        let mut ids = encoding.get_ids().to_vec();
        let used = ids.len();
        ids.resize(length, self.padding);
        Ok(Tokens { ids, used, clipped })
    }
}

fn invalid(path: &Path, error: impl ToString) -> TokenizerError {
    TokenizerError::Invalid { path: path.to_owned(), problem: error.to_string() }
}

/// The tokenizer, whose texts are filled up with `padding` if anything says so.
fn inner(files: &Files, part: &str, padding: Option<&str>) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let [whole, vocabulary, merges] = [WHOLE, VOCABULARY, MERGES].map(|name| format!("{part}/{name}"));
    if files.has(&whole) {
        let read = tokenizers::Tokenizer::from_bytes(files.read(&whole)?);
        return read.map_err(|error| invalid(&files.path(&whole), error));
    }
    if !files.has(&vocabulary) || !files.has(&merges) {
        return Err(TokenizerError::Missing(files.path(part)));
    }
    let read = |name: &str| {
        let text = String::from_utf8(files.read(name)?.into_owned());
        text.map_err(|error| invalid(&files.path(name), error))
    };
    let wrong = |error: &dyn core::fmt::Display| invalid(&files.path(&vocabulary), error.to_string());
    let known: Value = serde_json::from_str(&read(&vocabulary)?).map_err(|error| wrong(&error))?;
    let merged = read(&merges)?;
    let pairs: Vec<&str> =
        merged.lines().filter(|line| !line.starts_with("#version") && !line.is_empty()).collect();
    let Some(clip) = clip(&known, &pairs, padding) else {
        return Err(wrong(&"there is no <|startoftext|> or <|endoftext|>, which CLIP's vocabulary has"));
    };
    tokenizers::Tokenizer::from_str(&clip.to_string()).map_err(|error| invalid(&files.path(part), error))
}

/// The `tokenizer.json` that transformers 5.23 makes of CLIP's two files (`tokenization_clip.py`).
fn clip(vocabulary: &Value, merges: &[&str], padding: Option<&str>) -> Option<Value> {
    let id = |token: &str| vocabulary.get(token).and_then(Value::as_u64);
    let (first, last) = (id(FIRST)?, id(LAST)?);
    let words =
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    // What texts are filled up with is not a part of words either.
    let padding = padding.filter(|token| ![FIRST, LAST].contains(token));
    let padding = padding.and_then(|token| Some((token, id(token)?)));
    let special = |(token, id): (&str, u64)| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let added: Vec<Value> = [(FIRST, first), (LAST, last)].into_iter().chain(padding).map(special).collect();
    Some(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {"type": "RobertaProcessing", "sep": [LAST, last], "cls": [FIRST, first],
                           "trim_offsets": false, "add_prefix_space": false},
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": LAST, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false,
                  "vocab": vocabulary, "merges": merges},
    }))
}
