//! Tokenizers against transformers: the ids of 1,000 prompts, of each kind of tokenizer that pipelines have.
//! `tests/tokenizers/generate.py` has made them.
#![cfg(feature = "pipeline")]

mod common;

use fewstep::pipeline::{Files, Tokenizer};
use npyz::npz::NpzArchive;

#[test]
fn a_thousand_prompts_have_the_tokens_of_transformers() {
    let folder = common::path("tests/tokenizers");
    let text = std::fs::read_to_string(folder.join("prompts.json")).expect("prompts");
    let prompts: Vec<String> = serde_json::from_str(&text).expect("prompts");
    assert_eq!(prompts.len(), 1000);
    let mut archive = NpzArchive::open(folder.join("ids.npz")).expect("ids");
    for name in ["clip", "clip_second", "clip_older", "t5", "gemma"] {
        let tokenizer = Tokenizer::read(&Files::Folder(folder.clone()), name).expect("a tokenizer");
        let mut array = |of: &str| {
            let array = archive.by_name(&format!("{name}/{of}")).expect("an archive").expect("an array");
            array.into_vec::<i32>().expect("ids")
        };
        let (offsets, fixed) = (array("offsets"), array("fixed"));
        let length = tokenizer.longest();
        for (i, (prompt, wanted)) in prompts.iter().zip(fixed.chunks(length)).enumerate() {
            let tokens = tokenizer.encode(prompt, length).expect("tokens");
            let ids: Vec<i32> = tokens.ids.iter().map(|&id| id as i32).collect();
            assert_eq!(ids, wanted, "{name}: {prompt:?}");
            let whole = (offsets[i + 1] - offsets[i]) as usize;
            assert_eq!(tokenizer.count(prompt).expect("tokens"), whole, "{name}: {prompt:?}");
            assert_eq!(tokens.used + tokens.clipped, whole, "{name}: {prompt:?}");
        }
    }
}
