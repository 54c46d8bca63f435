//! Settings of models.

use std::{collections::HashSet, num::NonZeroUsize};

use clap::{ArgAction, Args, ValueHint};

use crate::config::{
    error::SettingsError,
    sections::model_choice::{CandidateFile, DtypeRequest, ModelChoice},
};

/// The models embedded in the program: name and files of each.
pub type EmbeddedModels = &'static [(&'static str, EmbeddedFiles)];

/// The names and contents of a model's files, in the layout of Hugging Face.
pub type EmbeddedFiles = &'static [(&'static str, &'static [u8])];

/// Models, their devices and caches.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct ModelSettings {
    /// Models to serve: `demo`, folders, .pth files, or names on the Hugging Face hub
    ///
    /// `demo` is the small model inside this program. A folder has the layout of Hugging Face:
    /// config.json, preprocessor_config.json, tokenizer.json or vocab.txt, and model.safetensors or
    /// pytorch_model.bin. A .pth file of the original repository needs the JSON files beside it. A
    /// name on the hub may end with @ and a branch, tag or commit. The default is main. The server
    /// downloads the model unless it is cached (see docs/guide/models.md).
    ///
    /// Several models are comma-separated, or each has a flag. Requests name a model by NAME, or by
    /// the last part of its source.
    #[arg(short = 'm', long = "model", value_name = "[NAME=]demo|DIR|FILE|ORG/NAME[@REVISION]", value_delimiter = ',',
          env = "BLIP_SERVE__MODEL__SOURCE", default_value = "demo", value_hint = ValueHint::AnyPath)]
    pub models: Vec<ModelChoice>,

    /// The models embedded in the program, which sets them. Not a setting.
    #[arg(skip)]
    pub embedded: EmbeddedModels,

    /// Files of candidate answers that questions refer to by name, comma-separated
    ///
    /// A file holds one answer per line, or a JSON list.
    #[arg(long, value_name = "NAME=FILE", value_delimiter = ',', env = "BLIP_SERVE__MODEL__CANDIDATE_LISTS")]
    pub candidate_lists: Vec<CandidateFile>,

    /// Device that runs the models
    ///
    /// `auto` selects the first CUDA device, or the CPU if there is none.
    #[arg(
        long,
        value_name = "auto|cpu|cuda|cuda:N",
        env = "BLIP_SERVE__MODEL__DEVICE",
        default_value = "auto"
    )]
    pub device: blip::DeviceRequest,

    /// Number format of weights and products
    ///
    /// `auto` is f16 on CUDA and f32 on the CPU. On the CPU, `bf16` and `int8` need less time and
    /// memory, and change a few answers. They are fast on processors with AVX-512 for this format,
    /// and fastest with AMX. int8 requires AVX2.
    #[arg(
        long,
        value_name = "auto|f32|f16|bf16|int8",
        env = "BLIP_SERVE__MODEL__DTYPE",
        default_value = "auto"
    )]
    pub dtype: DtypeRequest,

    /// Number format of the image encoder
    ///
    /// `auto` is the format of --dtype. `bf16` and `int8` require the CPU, and int8 AVX2. `fp8`
    /// requires a model in f16 and a GPU of compute capability 8.9 or higher, whose tensor cores
    /// are twice as fast in it. Some answers change (see docs/decisions/fp8-images.md). Not
    /// measured on a GPU.
    #[arg(
        long,
        value_name = "auto|bf16|int8|fp8",
        env = "BLIP_SERVE__MODEL__VISION_DTYPE",
        default_value = "auto"
    )]
    pub vision_dtype: blip::PartDtype,

    /// Number format of text encoder and decoder
    ///
    /// `auto` is the format of --dtype. The others require the CPU, and int8 AVX2.
    #[arg(
        long,
        value_name = "auto|bf16|int8",
        env = "BLIP_SERVE__MODEL__TEXT_DTYPE",
        default_value = "auto"
    )]
    pub text_dtype: blip::PartDtype,

    /// Kernels for models in f32, bf16 or int8 on the CPU
    ///
    /// `libtorch` uses the kernels of LibTorch, which have no int8. `native` uses those of this
    /// program for images, texts and plain answers. `auto` is `native` where these kernels are
    /// available.
    #[arg(
        long,
        value_name = "auto|native|libtorch",
        env = "BLIP_SERVE__MODEL__CPU_KERNELS",
        default_value = "auto"
    )]
    pub cpu_kernels: blip::CpuKernels,

    /// Kernels for norms, the choice of tokens and rounding to fp8 on CUDA
    ///
    /// `native` computes each in one kernel, which is compiled and checked when a model is loaded.
    /// `libtorch` uses several kernels. If a native kernel is unavailable, the server logs a
    /// warning and uses LibTorch. `auto` is native for models in f16 and f32. Not measured on a
    /// GPU.
    #[arg(
        long,
        value_name = "auto|native|libtorch",
        env = "BLIP_SERVE__MODEL__CUDA_KERNELS",
        default_value = "auto"
    )]
    pub cuda_kernels: blip::CudaKernels,

    /// Form of the GELU function on CUDA
    ///
    /// Models are trained with `exact`. `tanh` is an approximation that needs no separate kernel.
    /// It changes scores slightly and few answers (see docs/decisions/fused-kernels.md). Not
    /// measured on a GPU. Images in fp8 have `exact`.
    #[arg(long, value_name = "exact|tanh", env = "BLIP_SERVE__MODEL__CUDA_GELU", default_value = "exact")]
    pub cuda_gelu: blip::CudaGelu,

    /// Conventions of texts, first tokens and beams
    ///
    /// `hf` follows the transformers library, `salesforce` follows the original repository (see
    /// docs/guide/models.md).
    #[arg(long, value_name = "hf|salesforce", env = "BLIP_SERVE__MODEL__CONVENTIONS", default_value = "hf")]
    pub conventions: blip::Conventions,

    /// Height and width of the model's input images, in pixels
    ///
    /// A multiple of the model's patch size. The model interpolates its position embeddings.
    ///
    /// [default: the size that the model was trained with]
    #[arg(long, value_name = "PIXELS", env = "BLIP_SERVE__MODEL__IMAGE_SIZE")]
    pub image_size: Option<u32>,

    /// Device memory for cached image features, in bytes
    ///
    /// A question about a cached image needs no vision pass. Engines on the CPU share one cache.
    /// Engines on one CUDA device divide it.
    ///
    /// [default: 4 GiB on CUDA, 512 MiB on the CPU]
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__MODEL__FEATURE_CACHE_BYTES")]
    pub feature_cache_bytes: Option<usize>,

    /// Memory for cached cross-attention keys and values, in bytes; 0 disables it
    ///
    /// The cache is on the device. It holds images that are asked about repeatedly, and saves most
    /// of the work that remains for an image with cached features. CUDA graphs of small batches do
    /// not use it. Engines on the CPU share one cache. Engines on one CUDA device divide it.
    ///
    /// [default: 1 GiB on CUDA, 512 MiB on the CPU]
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__MODEL__CROSS_ATTENTION_CACHE_BYTES")]
    pub cross_attention_cache_bytes: Option<usize>,

    /// Memory for cached answers of each model, in bytes; 0 disables the cache
    ///
    /// The cache answers a repeated question about an image without computation.
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__MODEL__ANSWER_CACHE_BYTES", default_value_t = 32 << 20)]
    pub answer_cache_bytes: usize,

    /// Number of compute threads of an engine on the CPU
    ///
    /// Set fewer than the number of CPUs if other work shares them.
    ///
    /// [default: one for each CPU; one on CUDA, and for models as small as the demo]
    #[arg(long, value_name = "N", env = "BLIP_SERVE__MODEL__ENGINE_THREADS")]
    pub engine_threads: Option<NonZeroUsize>,

    /// Number of model replicas
    ///
    /// Batches are distributed among replicas. On CUDA, replicas are spread over the devices from
    /// --device on. Replicas on one device have separate weights and CUDA graphs and divide the
    /// image caches, and their batches overlap. That was not measured on a GPU. On the CPU, each
    /// replica has --engine-threads threads, and all replicas share one image cache. The default on
    /// the CPU is higher for a model as small as the demo, without --engine-threads: one replica
    /// for each CPU, at most 4.
    ///
    /// [default: 1]
    #[arg(long, value_name = "N", env = "BLIP_SERVE__MODEL__ENGINES")]
    pub engines: Option<NonZeroUsize>,

    /// Launch small batches as CUDA graphs
    ///
    /// Saves most of the time for kernel launches. The graphs are captured when a model is loaded
    /// and take about 2 GiB of device memory for blip-vqa-base. If a capture fails, the server logs
    /// a warning, and batches of that size are slower. Not measured on a GPU.
    #[arg(
        long,
        value_name = "BOOL",
        env = "BLIP_SERVE__MODEL__CUDA_GRAPHS",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    pub cuda_graphs: bool,
}

impl ModelSettings {
    /// Checks that there is a model, and that the names of models and of candidate lists are
    /// unique.
    ///
    /// # Errors
    /// [`SettingsError::Conflict`] if not.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let conflict = |message: String| Err(SettingsError::Conflict(message));
        let (mut names, mut lists) = (HashSet::new(), HashSet::new());
        for model in &self.models {
            let (name, source) = (model.name(), &model.source);
            if !names.insert(name.clone()) {
                let remedy = format!("name one of the models, as in other={source}");
                return conflict(format!("duplicate model name {name}; {remedy}"));
            }
        }
        if names.is_empty() {
            return conflict("no model given".to_owned());
        }
        for CandidateFile { name, .. } in &self.candidate_lists {
            if !lists.insert(name) {
                return conflict(format!("duplicate candidate list name {name}"));
            }
        }
        Ok(())
    }
}
