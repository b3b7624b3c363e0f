//! What OpenVINO's plugin calls the options of the provider that is built in: properties of a device, in one option. It
//! passes over all others, with a warning in a log.
//!
//! Properties: docs.openvino.ai, "Supported properties" of the devices, and what the plugin 1.8.1 says of each option.

use super::api::OrtError;
use serde_json::{Map, Value, json};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

const LOAD_CONFIG: &str = "load_config";
const DEVICE_TYPE: &str = "device_type";

/// The option `load_config`, with what a user has in it and all other options; those that are none of a device stay.
///
/// # Errors
/// If the user's is no object of devices and their properties, or an option has no property.
pub(super) fn plugin_options(options: &[(String, String)]) -> Result<Vec<(String, String)>, OrtError> {
    let given =
        |wanted: &str| options.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let mut config: Map<String, Value> = match given(LOAD_CONFIG) {
        Some(text) => serde_json::from_str(text)
            .map_err(|error| OrtError(format!("option {LOAD_CONFIG} is no JSON object: {error}")))?,
        None => Map::new(),
    };
    let device = config.entry(given(DEVICE_TYPE).unwrap_or("CPU")).or_insert_with(|| json!({}));
    let Some(device) = device.as_object_mut() else {
        return Err(OrtError(format!(
            "option {LOAD_CONFIG} has properties of a device in no object of its own"
        )));
    };
    let mut kept = Vec::new();
    for (name, value) in options {
        let (property, value) = match (name.as_str(), value.as_str()) {
            (LOAD_CONFIG | DEVICE_TYPE, _) => continue,
            ("precision", "FP32") => ("INFERENCE_PRECISION_HINT", "f32"),
            ("precision", "FP16") => ("INFERENCE_PRECISION_HINT", "f16"),
            ("precision", _) => ("EXECUTION_MODE_HINT", "ACCURACY"),
            ("num_of_threads", value) => ("INFERENCE_NUM_THREADS", value),
            ("num_streams", value) => ("NUM_STREAMS", value),
            ("cache_dir", value) => ("CACHE_DIR", value),
            ("model_priority", "DEFAULT") => ("MODEL_PRIORITY", "MEDIUM"),
            ("model_priority", value) => ("MODEL_PRIORITY", value),
            ("enable_opencl_throttling", value) => {
                ("PLUGIN_THROTTLE", if value == "true" { "1" } else { "0" })
            }
            ("enable_qdq_optimizer", value) => {
                ("NPU_QDQ_OPTIMIZATION", if value == "true" { "YES" } else { "NO" })
            }
            (name, value) => {
                kept.push((name.to_string(), value.to_string()));
                continue;
            }
        };
        device.entry(property).or_insert_with(|| value.into());
    }
    if !device.is_empty() || config.len() > 1 {
        kept.push((LOAD_CONFIG.to_string(), Value::Object(config).to_string()));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(options: &[(&str, &str)]) -> Result<Vec<(String, String)>, OrtError> {
        let options: Vec<_> =
            options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        plugin_options(&options)
    }

    #[test]
    fn options_become_properties_of_the_device() {
        let found = translated(&[
            ("num_of_threads", "3"),
            ("disable_dynamic_shapes", "true"),
            ("precision", "FP16"),
            ("load_config", r#"{"GPU": {"PERF_COUNT": "YES", "NUM_STREAMS": "4"}}"#),
            ("num_streams", "2"),
            ("device_type", "GPU"),
        ])
        .expect("options");
        assert_eq!(found[0], ("disable_dynamic_shapes".to_string(), "true".to_string()));
        let config: Value = serde_json::from_str(&found[1].1).expect("JSON");
        // What a user has written there is what counts.
        let own = json!({
            "PERF_COUNT": "YES", "NUM_STREAMS": "4", "INFERENCE_NUM_THREADS": "3", "INFERENCE_PRECISION_HINT": "f16"
        });
        assert_eq!((found[1].0.as_str(), config), ("load_config", json!({ "GPU": own })));
        assert!(translated(&[("device_type", "CPU")]).expect("options").is_empty());
        for wrong in ["config.json", r#"{"CPU": 1}"#] {
            translated(&[("load_config", wrong)]).expect_err("an error");
        }
    }
}
