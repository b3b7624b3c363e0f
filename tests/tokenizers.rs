//! Tokenizers against transformers: the ids of 1,000 prompts, of each kind of tokenizer that pipelines have.
//! `tests/tokenizers/generate.py` has made them.
#![cfg(feature = "pipeline")]

mod common;

use fewstep::graph::{Data, Tensor};
use fewstep::pipeline::{Files, Tokenizer};
use std::collections::HashMap;

#[test]
fn a_thousand_prompts_have_the_tokens_of_transformers() {
    let folder = common::path("tests/tokenizers");
    let text = std::fs::read_to_string(folder.join("prompts.json")).expect("prompts");
    let prompts: Vec<String> = serde_json::from_str(&text).expect("prompts");
    assert_eq!(prompts.len(), 1000);
    let ids: HashMap<String, Tensor> = common::npz(&folder.join("ids.npz")).into_iter().collect();
    for name in ["clip", "clip_second", "clip_older", "t5", "gemma"] {
        let tokenizer = Tokenizer::read(&Files::Folder(folder.clone()), name).expect("a tokenizer");
        let array = |of: &str| match ids[&format!("{name}/{of}")].data() {
            Data::I64(ids) => ids,
            _ => panic!("{name}: ids are integers"),
        };
        let (offsets, fixed) = (array("offsets"), array("fixed"));
        let length = tokenizer.longest();
        for (i, (prompt, wanted)) in prompts.iter().zip(fixed.chunks(length)).enumerate() {
            let tokens = tokenizer.encode(prompt, length).expect("tokens");
            let ids: Vec<i64> = tokens.ids.iter().map(|&id| i64::from(id)).collect();
            assert_eq!(ids, wanted, "{name}: {prompt:?}");
            let whole = (offsets[i + 1] - offsets[i]) as usize;
            assert_eq!(tokenizer.count(prompt).expect("tokens"), whole, "{name}: {prompt:?}");
            assert_eq!(tokens.used + tokens.clipped, whole, "{name}: {prompt:?}");
        }
    }
}
