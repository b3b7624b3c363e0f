//! ONNX Runtime's execution providers, one row each. To add one, add a row.
//!
//! Names and options are those of each provider's page at onnxruntime.ai/docs/execution-providers, and of its own
//! repository where it has left that of ONNX Runtime (QNN).

use super::api::OrtError;
use super::attach::Attachment;
use super::openvino;
use super::options::Kind::{Choice, Flag, Integer, Text, Truth};
use super::options::{EpOption, Kind, option};
use crate::provider::ProviderError;
use std::ffi::CStr;
use std::format;
use std::string::String;
use std::vec::Vec;

/// An execution provider.
pub struct Ep {
    /// After `ort:`.
    pub name: &'static str,
    /// As ONNX Runtime calls it.
    pub full_name: &'static str,
    /// Whether it may be in a library of its own, and not in ONNX Runtime's.
    pub plugin: bool,
    /// The kinds of devices that it drives.
    pub devices: &'static [&'static str],
    /// Where inputs and outputs lie.
    pub memory: Memory,
    /// What page-locked memory for them is called, which the CPU sees and the device reads and writes by itself.
    pub(super) page_locked: Option<&'static CStr>,
    /// What has to be there.
    pub needs: &'static str,
    pub options: &'static [EpOption],
    /// The option that has it capture what it launches as a graph, which later runs replay from the same memory.
    pub(super) captures: Option<&'static str>,
    /// How what it makes of a network outlasts the process.
    pub(super) kept: Kept,
    /// What is other if it comes out of a library of its own.
    pub(super) by_plugin: Option<ByPlugin>,
    pub(super) attach: fn(&Attachment<'_>) -> Result<(), OrtError>,
}

impl std::fmt::Debug for Ep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Where a provider has inputs and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Where the CPU sees them.
    Host,
    /// On a device, where all networks see them: the state of a sample stays there from step to step.
    Device,
    /// On a device, where each network has its own.
    Apart,
}

/// How what is made of a network outlasts the process.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept {
    /// It does not.
    Not,
    /// The network that ONNX Runtime has optimized is an entry of the cache, its weights as the kernels read them.
    Network,
    /// A network of nodes that hold what the provider has compiled is an entry of the cache.
    Context,
    /// The provider looks after an entry of the cache, which options have it do, by the folder's path.
    Folder(fn(&str) -> Vec<(&'static str, String)>),
}

/// From options and their values to others.
type Translate = fn(&[(String, String)]) -> Result<Vec<(String, String)>, OrtError>;

/// What is other about a provider in a library of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByPlugin {
    /// From options to those that the library knows.
    pub(super) options: Translate,
    pub(super) kept: Kept,
}

impl Kept {
    /// Whether it is a network that is handed over in the place of the model's.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Kept::Network | Kept::Context)
    }
}

const EXTENSIONS: Kind = Choice(&["kNextPowerOfTwo", "kSameAsRequested"]);
const DEVICE: EpOption = option("device_id", Integer, "0");

/// Every row, the default first.
pub const EPS: &[Ep] = &[
    Ep {
        name: "cpu",
        full_name: "CPUExecutionProvider",
        plugin: false,
        devices: &["CPU"],
        memory: Memory::Host,
        page_locked: None,
        needs: "nothing else",
        options: &[],
        captures: None,
        kept: Kept::Network,
        by_plugin: None,
        attach: |_| Ok(()),
    },
    Ep {
        name: "cuda",
        full_name: "CUDAExecutionProvider",
        plugin: true,
        devices: &["GPU"],
        memory: Memory::Device,
        page_locked: Some(c"CudaPinned"),
        needs: "an NVIDIA GPU, CUDA and cuDNN, and the library of PyPI's wheel onnxruntime-gpu",
        options: &[
            DEVICE,
            option("gpu_mem_limit", Integer, ""),
            option("arena_extend_strategy", EXTENSIONS, "kNextPowerOfTwo"),
            option("cudnn_conv_algo_search", Choice(&["EXHAUSTIVE", "HEURISTIC", "DEFAULT"]), "EXHAUSTIVE"),
            option("cudnn_conv_use_max_workspace", Flag, "1"),
            option("cudnn_conv1d_pad_to_nc1d", Flag, "0"),
            option("use_tf32", Flag, "1"),
            option("enable_cuda_graph", Flag, "0"),
            option("prefer_nhwc", Flag, "0"),
            option("fuse_conv_bias", Flag, "0"),
            option("sdpa_kernel", Integer, "0"),
        ],
        captures: Some("enable_cuda_graph"),
        kept: Kept::Not,
        by_plugin: None,
        attach: |to| to.cuda(),
    },
    Ep {
        name: "tensorrt",
        full_name: "TensorrtExecutionProvider",
        plugin: true,
        devices: &["GPU"],
        memory: Memory::Device,
        page_locked: Some(c"CudaPinned"),
        needs: "an NVIDIA GPU, CUDA, cuDNN and TensorRT, and the library of PyPI's wheel onnxruntime-gpu",
        options: &[
            DEVICE,
            option("trt_max_workspace_size", Integer, ""),
            option("trt_min_subgraph_size", Integer, "1"),
            option("trt_fp16_enable", Flag, "0"),
            option("trt_bf16_enable", Flag, "0"),
            option("trt_int8_enable", Flag, "0"),
            option("trt_dla_enable", Flag, "0"),
            option("trt_dla_core", Integer, "0"),
            option("trt_engine_cache_enable", Flag, "0"),
            option("trt_engine_cache_path", Text, ""),
            option("trt_timing_cache_enable", Flag, "0"),
            option("trt_timing_cache_path", Text, ""),
            option("trt_builder_optimization_level", Integer, "3"),
            option("trt_auxiliary_streams", Integer, "-1"),
            option("trt_layer_norm_fp32_fallback", Flag, "0"),
        ],
        captures: None,
        kept: Kept::Folder(|path| {
            [("trt_engine_cache_path", path.into()), ("trt_engine_cache_enable", "1".into())].into()
        }),
        by_plugin: None,
        attach: |to| to.tensorrt(),
    },
    Ep {
        name: "openvino",
        full_name: "OpenVINOExecutionProvider",
        plugin: true,
        devices: &["CPU", "GPU", "NPU"],
        memory: Memory::Host,
        page_locked: None,
        needs: "OpenVINO, and the library of PyPI's wheel onnxruntime-openvino, which has both",
        options: &[
            option("device_type", Text, "CPU"),
            option("precision", Choice(&["FP32", "FP16", "ACCURACY"]), ""),
            option("num_of_threads", Integer, ""),
            option("num_streams", Integer, "1"),
            option("cache_dir", Text, ""),
            option("load_config", Text, ""),
            option("model_priority", Choice(&["DEFAULT", "LOW", "MEDIUM", "HIGH"]), "DEFAULT"),
            option("enable_opencl_throttling", Truth, "false"),
            option("enable_qdq_optimizer", Truth, "false"),
            option("disable_dynamic_shapes", Truth, "false"),
        ],
        captures: None,
        kept: Kept::Folder(|path| [("cache_dir", path.into())].into()),
        by_plugin: Some(ByPlugin { options: openvino::plugin_options, kept: Kept::Context }),
        attach: |to| to.pairs(to.api().SessionOptionsAppendExecutionProvider_OpenVINO_V2),
    },
    Ep {
        name: "qnn",
        full_name: "QNNExecutionProvider",
        plugin: true,
        devices: &["NPU", "GPU", "CPU"],
        memory: Memory::Host,
        page_locked: None,
        needs: "Qualcomm's libraries, and --ep-lib with the plugin of PyPI's wheel onnxruntime-qnn, which has both",
        options: &[
            option("backend_path", Text, ""),
            option("backend_type", Choice(&["cpu", "gpu", "htp", "saver", "ir"]), "htp"),
            option("htp_performance_mode", Choice(QNN_MODES), "default"),
            option("htp_graph_finalization_optimization_mode", Choice(&["0", "1", "2", "3"]), "0"),
            option("htp_arch", Integer, "0"),
            option("soc_model", Integer, "0"),
            DEVICE,
            option("vtcm_mb", Integer, "0"),
            option("rpc_control_latency", Integer, "0"),
            option("enable_htp_fp16_precision", Flag, "1"),
            option("enable_htp_spill_fill_buffer", Flag, "0"),
            option("enable_htp_shared_memory_allocator", Flag, "0"),
            option("offload_graph_io_quantization", Flag, "1"),
            option("qnn_context_priority", Choice(&["low", "normal", "normal_high", "high"]), "normal"),
            option("profiling_level", Choice(&["off", "basic", "detailed"]), "off"),
            option("profiling_file_path", Text, ""),
        ],
        captures: None,
        kept: Kept::Context,
        by_plugin: None,
        attach: |to| to.named(c"QNN"),
    },
    Ep {
        name: "xnnpack",
        full_name: "XnnpackExecutionProvider",
        plugin: false,
        devices: &["CPU"],
        memory: Memory::Host,
        page_locked: None,
        needs: "a library that is built with --use_xnnpack, as those for Android and iOS are",
        options: &[option("intra_op_num_threads", Integer, "")],
        captures: None,
        kept: Kept::Not,
        by_plugin: None,
        attach: |to| to.named(c"XNNPACK"),
    },
    Ep {
        name: "coreml",
        full_name: "CoreMLExecutionProvider",
        plugin: false,
        devices: &["CPU", "GPU", "NPU"],
        memory: Memory::Host,
        page_locked: None,
        needs: "macOS or iOS",
        options: &[
            option("MLComputeUnits", Choice(&["ALL", "CPUAndNeuralEngine", "CPUAndGPU", "CPUOnly"]), "ALL"),
            option("ModelFormat", Choice(&["MLProgram", "NeuralNetwork"]), "NeuralNetwork"),
            option("RequireStaticInputShapes", Flag, "0"),
            option("EnableOnSubgraphs", Flag, "0"),
            option("SpecializationStrategy", Choice(&["Default", "FastPrediction"]), "Default"),
            option("AllowLowPrecisionAccumulationOnGPU", Flag, "0"),
            option("ModelCacheDirectory", Text, ""),
        ],
        captures: None,
        kept: Kept::Folder(|path| [("ModelCacheDirectory", path.into())].into()),
        by_plugin: None,
        attach: |to| to.named(c"CoreML"),
    },
    Ep {
        name: "nnapi",
        full_name: "NnapiExecutionProvider",
        plugin: false,
        devices: &["CPU", "GPU", "NPU"],
        memory: Memory::Host,
        page_locked: None,
        needs: "Android 8.1 or later, and a library that is built with --use_nnapi",
        options: &[
            option("use_fp16", Flag, "0"),
            option("use_nchw", Flag, "0"),
            option("cpu_disabled", Flag, "0"),
            option("cpu_only", Flag, "0"),
        ],
        captures: None,
        kept: Kept::Not,
        // The bits of NNAPIFlags in nnapi_provider_factory.h.
        by_plugin: None,
        attach: |to| to.flags("Nnapi", &["use_fp16", "use_nchw", "cpu_disabled", "cpu_only"]),
    },
    Ep {
        name: "acl",
        full_name: "ACLExecutionProvider",
        plugin: false,
        devices: &["CPU"],
        memory: Memory::Host,
        page_locked: None,
        needs: "a 64-bit ARM CPU, and a library that is built with --use_acl",
        options: &[option("enable_fast_math", Flag, "0")],
        captures: None,
        kept: Kept::Not,
        by_plugin: None,
        attach: |to| to.flags("ACL", &["enable_fast_math"]),
    },
    Ep {
        name: "armnn",
        full_name: "ArmNNExecutionProvider",
        plugin: false,
        devices: &["CPU", "GPU"],
        memory: Memory::Host,
        page_locked: None,
        needs: "an ARM CPU, and a library that is built with --use_armnn",
        options: &[option("use_arena", Flag, "0")],
        captures: None,
        kept: Kept::Not,
        by_plugin: None,
        attach: |to| to.flags("ArmNN", &["use_arena"]),
    },
    Ep {
        name: "directml",
        full_name: "DmlExecutionProvider",
        plugin: false,
        devices: &["GPU", "NPU"],
        memory: Memory::Apart,
        page_locked: None,
        needs: "Windows with DirectX 12, and the library of PyPI's wheel onnxruntime-directml",
        options: &[DEVICE],
        captures: None,
        kept: Kept::Not,
        by_plugin: None,
        attach: |to| to.number("DML", "device_id"),
    },
    Ep {
        name: "migraphx",
        full_name: "MIGraphXExecutionProvider",
        plugin: true,
        devices: &["GPU"],
        memory: Memory::Device,
        page_locked: Some(c"HipPinned"),
        needs: "an AMD GPU and ROCm, and a library that is built with --use_migraphx",
        options: &[
            DEVICE,
            option("migraphx_fp16_enable", Flag, "0"),
            option("migraphx_fp8_enable", Flag, "0"),
            option("migraphx_int8_enable", Flag, "0"),
            option("migraphx_exhaustive_tune", Flag, "0"),
        ],
        captures: None,
        kept: Kept::Not,
        by_plugin: None,
        attach: |to| to.migraphx(),
    },
    Ep {
        name: "webgpu",
        full_name: "WebGpuExecutionProvider",
        plugin: true,
        devices: &["GPU"],
        memory: Memory::Device,
        page_locked: None,
        needs: "a GPU with Vulkan, Metal or DirectX 12, and a library that is built with --use_webgpu",
        options: &[
            option("deviceId", Integer, "0"),
            option("preferredLayout", Choice(&["NCHW", "NHWC"]), "NHWC"),
            option("dawnBackendType", Choice(&["Vulkan", "D3D12", "Metal"]), ""),
            option("validationMode", Choice(&["disabled", "wgpuOnly", "basic", "full"]), "basic"),
            option("forceCpuNodeNames", Text, ""),
        ],
        // It has `enableGraphCapture`, and up to 1.27 replays one graph whichever is asked for.
        captures: None,
        kept: Kept::Not,
        by_plugin: None,
        attach: |to| to.named(c"WebGPU"),
    },
    Ep {
        name: "cann",
        full_name: "CANNExecutionProvider",
        plugin: false,
        devices: &["NPU"],
        memory: Memory::Device,
        page_locked: Some(c"CannPinned"),
        needs: "a Huawei Ascend NPU and CANN, and the library of PyPI's wheel onnxruntime-cann",
        options: &[
            DEVICE,
            option("npu_mem_limit", Integer, ""),
            option("arena_extend_strategy", EXTENSIONS, "kNextPowerOfTwo"),
            option("enable_cann_graph", Flag, "1"),
            option(
                "precision_mode",
                Choice(&[
                    "force_fp32",
                    "force_fp16",
                    "allow_fp32_to_fp16",
                    "must_keep_origin_dtype",
                    "allow_mix_precision",
                ]),
                "force_fp16",
            ),
            option("op_select_impl_mode", Choice(&["high_precision", "high_performance"]), "high_precision"),
        ],
        captures: None,
        kept: Kept::Not,
        by_plugin: None,
        attach: |to| to.cann(),
    },
    Ep {
        name: "rknpu",
        full_name: "RknpuExecutionProvider",
        plugin: false,
        devices: &["NPU"],
        memory: Memory::Host,
        page_locked: None,
        needs: "a Rockchip NPU, and a library that is built with --use_rknpu",
        options: &[],
        captures: None,
        kept: Kept::Not,
        by_plugin: None,
        attach: |to| to.plain("RKNPU"),
    },
    Ep {
        name: "vitis",
        full_name: "VitisAIExecutionProvider",
        plugin: true,
        devices: &["NPU"],
        memory: Memory::Host,
        page_locked: None,
        needs: "an AMD NPU or adaptive SoC with Vitis AI, and a library that is built with --use_vitisai",
        options: &[
            option("config_file", Text, ""),
            option("cache_dir", Text, ""),
            option("cache_key", Text, ""),
        ],
        captures: None,
        kept: Kept::Folder(|path| [("cache_dir", path.into())].into()),
        by_plugin: None,
        attach: |to| to.pairs(to.api().SessionOptionsAppendExecutionProvider_VitisAI),
    },
];

const QNN_MODES: &[&str] = &[
    "default",
    "burst",
    "balanced",
    "high_performance",
    "high_power_saver",
    "low_balanced",
    "low_power_saver",
    "power_saver",
    "extreme_power_saver",
    "sustained_high_performance",
];

/// The names of all rows.
pub fn names() -> String {
    EPS.iter().map(|ep| ep.name).collect::<Vec<_>>().join(", ")
}

impl Ep {
    /// # Errors
    /// If there is none of this name.
    pub fn named(name: &str) -> Result<&'static Ep, ProviderError> {
        let known = || EPS.iter().map(|ep| format!("ort:{}", ep.name)).collect::<Vec<_>>().join(", ");
        let unknown = || ProviderError::Unknown { name: format!("ort:{name}"), known: known() };
        EPS.iter().find(|ep| ep.name == name).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_consistent() {
        for (i, ep) in EPS.iter().enumerate() {
            assert!(EPS[..i].iter().all(|other| other.name != ep.name), "{}", ep.name);
            assert!(ep.full_name.ends_with("ExecutionProvider") && !ep.devices.is_empty(), "{}", ep.name);
            for (at, option) in ep.options.iter().enumerate() {
                assert!(ep.options[..at].iter().all(|other| other.name != option.name), "{}", option.name);
                assert!(option.default.is_empty() || option.kind.takes(option.default), "{}", option.name);
                // ONNX Runtime puts one before them, and heeds none that has two.
                assert!(!option.name.starts_with("ep."), "{}", option.name);
            }
            let has = |name: &str| ep.options.iter().any(|option| option.name == name);
            assert!(ep.captures.is_none_or(has), "{}", ep.name);
            if let Kept::Folder(options) = ep.kept {
                let options: Vec<_> =
                    options("a\\b").into_iter().map(|(name, value)| (name.into(), value)).collect();
                ep.check(&options).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}
