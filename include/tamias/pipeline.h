// The C++ interface: load a checkpoint folder, generate pictures or films, read what happened.
//
//   tamias::Pipeline pipeline("models/demo-flux");
//   tamias::GenerateOptions options;
//   options.prompt = "a large red circle at the center on a grey background";
//   tamias::GenerateResult result = pipeline.Generate(options);
//   tamias::WritePng("circle.png", result.images[0]);
//
// Errors are tamias::Error. A Pipeline may be used by several threads at once: each call of
// Generate owns everything that changes. What those under way were promised of memory and threads
// counts against the next one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tamias/error.h"
#include "tamias/image.h"
#include "tamias/video.h"

namespace tamias {

// What the model predicted on one denoising step: with guidance the guided velocity.
struct StepPrediction {
  int image = 0;
  int step = 0;
  double sigma = 0;               // the noise level it was made at
  double next_sigma = 0;          // and that of the next step
  std::span<const float> values;  // [tokens, channels], as Latents; valid during the call
};

// Packed fp32 latents of one picture or film in row order, [tokens, channels]: of FLUX.1 what
// diffusers gives as output_type="latent"; of films its [C, T, h, w] cut into patches, a token's
// channels ordered (C, time, row, column).
struct Latents {
  int64_t tokens = 0;
  int64_t channels = 0;
  std::vector<float> values;
};

struct GenerateResult;
// Takes what is finished while the rest still runs, on the generating thread. `image` is the
// picture or film that is meant; of `so_far` holds what the callback's place says, for it and all
// before it. What the callback throws ends the generation.
using ResultCallback = std::function<void(const GenerateResult& so_far, int image)>;

// What to generate. An option that is not set takes the model's own default (tamias.json in the
// checkpoint folder), else the default of the family.
struct GenerateOptions {
  std::string prompt;
  std::string negative_prompt;           // used when true_cfg_scale > 1
  std::optional<double> true_cfg_scale;  // classifier-free guidance, two model calls a step; 1: off
  // The same on the steps of the second transformer, of models with one for high and one for low
  // noise (Wan 2.2), else none; not given: true_cfg_scale, which alone turns guidance on.
  std::optional<double> true_cfg_scale_2;
  // the embedded guidance of guidance-distilled models (FLUX.1-dev, HunyuanVideo)
  std::optional<double> guidance_scale;
  // What a film begins with, for models that need one (ModelInfo::needs_image), else none: 1 to
  // 32768 pixels a side, one side at most 100 times the other. Resized to the film's size.
  std::optional<Image> image;
  // Pixels, multiples of Pipeline::size_multiple(). Beside an image, a side that is not given
  // follows from its shape; where neither is, the area is that of the defaults.
  std::optional<int> width;
  std::optional<int> height;
  std::optional<int> num_frames;  // of a film; one more than a multiple that the family sets
  std::optional<double> fps;      // frames per second of a film, 0.01 to 1000
  std::optional<int> steps;       // denoising steps, 1 to 1000
  std::optional<int> max_sequence_length;  // text tokens that the sequence encoder may use
  uint64_t seed = 0;   // of the noise; the same as torch.Generator("cpu") in diffusers
  int num_images = 1;  // pictures or films from one stream of noise, generated one after another
  // What denoising begins with instead of noise of the seed: for each of num_images its latents at
  // the first noise level, as diffusers' `latents`. Empty: noise.
  std::vector<Latents> initial_latents;
  std::string sparsity = "auto";       // auto, off, a profile's name or a YAML file
  std::vector<std::string> overrides;  // "attn.top_keys=0.1": changes keys of the profile
  int threads = 0;                     // 0: one per CPU that this process may use
  // Where text encoders, transformer and decoder run: "cpu", "cuda", "cuda:1", or several GPUs of
  // one kind, "cuda:0,cuda:1", which share a step's call of the transformer; with true_cfg_scale
  // above 1 two have one each of its two calls, and an even number share them. Encoders and decoder
  // run on the first.
  std::string device = "cpu";
  // The type of activations and weights of transformer and decoder: "f32", "bf16" or "auto". On the
  // CPU that is bf16 where the transformer's weights are and the processor multiplies it (AVX-512
  // BF16), else f32; encoders of texts and pictures stay f32. On a GPU f16 for f16 weights, else
  // bf16; "f32" is refused. Residual stream, softmax and sums are fp32 with all of them.
  std::string dtype = "auto";
  // "fp8_e4m3" keeps the matrices of the transformer's blocks in 8 bits with a scale for each row,
  // rounded once when they are loaded, and widens each just before its product: half the memory
  // of 16 bits for about the same picture (docs/decisions/0024-weights-of-8-bits.md). "auto": they
  // have the type of the activations.
  std::string weight_dtype = "auto";
  // Above 0: when the plan needs more bytes than this, the sparsity state goes to a temporary file
  // in $TMPDIR (else /var/tmp); what then still does not fit is refused.
  size_t max_memory_bytes = 0;
  // What a generation may take of a GPU's memory, of what is free there; 0: all of it less what
  // libraries take. Where the plan needs more, models are loaded for their turn alone, then state,
  // then blocks of the transformer are kept in the host's memory but for their turn; what still
  // does not fit is refused. The result is the same. Plans can then be made for GPUs that this
  // machine does not have.
  size_t max_gpu_memory_bytes = 0;
  bool decode = true;  // false: stop at the latents
  // Called on the generating thread in every denoising step, when its prediction is there.
  std::function<void(const StepPrediction&)> on_prediction;
  // so_far.latents[image] are final; decoding, where `decode` says so, comes next. Whoever keeps
  // them can go on with Pipeline::Decode when it fails.
  ResultCallback on_latents;
  // so_far.images[image] or so_far.videos[image] is there, and report_json speaks of all so far.
  ResultCallback on_result;
};

// The options of a generation with every default filled in (Pipeline::Settings).
struct GenerationSettings {
  int width = 0;   // pixels
  int height = 0;  // pixels
  int num_frames = 1;
  double fps = 0;  // 0: a picture
  int steps = 0;
  int max_sequence_length = 0;  // text tokens
  double true_cfg_scale = 1;
  std::optional<double> true_cfg_scale_2;  // of models with a second transformer
  double guidance_scale = 0;
  bool use_true_cfg() const { return true_cfg_scale > 1; }
  int num_invocations() const { return use_true_cfg() ? 2 : 1; }  // model calls a step
  bool operator==(const GenerationSettings&) const = default;
};

// A LoRA that is merged into a model's weights: W + scale (alpha / r) B A.
struct Lora {
  // .safetensors as diffusers, PEFT or kohya's scripts write it, of any layers of the transformer
  // and of text encoders.
  std::filesystem::path file;
  double scale = 1;  // any finite number
  // 1: the second one of Wan 2.2, which serves the steps of less noise; what the file has of text
  // encoders is then left out, since both files of a pair have it.
  int transformer = 0;
};

// How a model is loaded.
struct LoadOptions {
  // Of weights that a folder holds in several: "fp16" reads *.fp16.safetensors. Components without
  // it are read plain, as in diffusers. Empty: the plain weights, else the only variant there is.
  std::string variant = {};
  // Merged when the model is loaded, which copies the weights that they change.
  std::vector<Lora> loras = {};
};

enum class Stage { kEncodePrompt, kDenoise, kDecode };

// "encode", "denoise", "decode"
const char* Name(Stage stage);

struct Progress {
  Stage stage = Stage::kEncodePrompt;
  int image = 0;  // picture or film, 0 to num_images - 1
  int num_images = 1;
  int step = 0;  // steps (or tiles of the decoder) finished, 0 to num_steps
  int num_steps = 0;
  std::string step_kind;    // of the step that just ended: full, sparse, skip
  double seconds = 0;       // since Generate was called
  double seconds_left = 0;  // of this stage, estimated from the steps so far; 0 when unknown
};

// Called on the generating thread; returning false stops with an Error of code kCancelled.
using ProgressCallback = std::function<bool(const Progress&)>;

struct MemoryEntry {
  std::string name;
  size_t bytes = 0;
};

// What lies on one GPU, all at one time or, with measures, by stage.
struct DeviceMemory {
  std::string device;  // "cuda:0"
  std::vector<MemoryEntry> entries;
  size_t bytes = 0;       // the most at one time
  size_t card_bytes = 0;  // that the card has; 0: it is not in this machine
  size_t free_bytes = 0;  // of them, when the plan was made, what no other program holds
};

struct GenerateResult {
  std::vector<Image> images;  // of a model that makes pictures
  std::vector<Video> videos;  // of a model that makes films
  std::vector<Latents> latents;
  double seconds_total = 0;
  double seconds_to_first_step = 0;  // from the call of Generate to the start of the first step
  double seconds_encode = 0;
  double seconds_denoise = 0;
  double seconds_decode = 0;
  double attention_sparsity = 0;    // share of the query-key pairs not computed, over all steps run
  double mlp_sparsity = 0;          // share of the token-neuron pairs not computed, likewise
  size_t planned_memory_bytes = 0;  // of the host
  size_t planned_device_memory_bytes = 0;     // the most of one GPU; 0 on the CPU
  std::vector<DeviceMemory> planned_devices;  // MemoryPlan's devices
  std::vector<std::string> device_measures;   // MemoryPlan's
  std::string report_json;  // everything above and the kind, time and sparsity of each step
};

// Latents that were kept, and what they say of the generation that made them.
struct SavedLatents {
  std::vector<Latents> latents;             // of pictures or films of one size
  std::map<std::string, std::string> text;  // Pipeline::LatentsText; empty in files of others
  std::filesystem::path path;               // that they were read from; for messages
};

// What a generation will hold at its peak, known before anything runs.
struct MemoryPlan {
  std::vector<MemoryEntry> entries;  // weights, state, workspace, decoder, program
  size_t peak_bytes = 0;             // the largest sum that is alive at one time
  // Of it, what belongs to the model: mapped, widened, prepared; not Pipeline::pinned_bytes.
  size_t weight_bytes = 0;
  size_t spill_bytes = 0;  // of the temporary file, where the state does not fit
  // What of it lies on GPUs instead of in the host's memory: of each of the options' devices in
  // their order, none on the CPU.
  std::vector<DeviceMemory> devices;
  size_t device_bytes = 0;                   // the most on one of them at one time
  std::vector<std::string> device_measures;  // what is done so that it fits; empty: nothing
};

struct ComponentInfo {
  std::string name;        // "transformer"
  std::string class_name;  // "FluxTransformer2DModel"
  size_t parameters = 0;
  size_t bytes = 0;     // on disk
  std::string dtype;    // of most weights, as they are computed with
  std::string variant;  // of the files: "fp16"; empty: plain
};

struct ModelInfo {
  std::string family;  // "FluxPipeline"
  bool makes_videos = false;
  bool needs_image = false;  // films begin with a picture: GenerateOptions::image
  std::string scheduler;     // "FlowMatchEulerDiscreteScheduler"
  std::vector<ComponentInfo> components;
  int size_multiple = 16;       // width and height are multiples of this many pixels
  std::string default_profile;  // what "auto" means for this model
  GenerationSettings defaults;  // the options' defaults for this model
};

class Generation;  // tamias/generation.h

class Pipeline {
 public:
  // Loads a checkpoint folder in diffusers' layout; weights are memory-mapped. Throws kNotFound,
  // kInvalidFile or kUnsupported with the file and field at fault.
  explicit Pipeline(const std::filesystem::path& folder, const LoadOptions& options = {});
  ~Pipeline();
  Pipeline(Pipeline&&) noexcept;
  Pipeline& operator=(Pipeline&&) noexcept;

  GenerateResult Generate(const GenerateOptions& options,
                          const ProgressCallback& progress = {}) const;

  // The same, step by step (tamias/generation.h). Checks the options and the memory, and runs
  // nothing yet; progress as in Generate.
  Generation Start(const GenerateOptions& options, const ProgressCallback& progress = {}) const;

  // Decodes what a generation ended with: result.images or result.videos, one for each of the
  // latents. Their size is what the options say of width, height, num_frames and fps, else what
  // their text says; threads, device, max_memory_bytes and on_result count, too. Throws
  // kInvalidArgument where neither gives the size, kInvalidFile for latents of another family or
  // shape and for those that are not finite.
  GenerateResult Decode(const SavedLatents& latents, const GenerateOptions& options,
                        const ProgressCallback& progress = {}) const;

  // The options as they are in force. Throws kInvalidArgument naming the option, what it may be and
  // what it was.
  GenerationSettings Settings(const GenerateOptions& options) const;
  MemoryPlan PlanMemory(const GenerateOptions& options) const;
  // Image (or video) tokens for these options, and the text tokens that a prompt may have.
  int64_t NumImageTokens(const GenerateOptions& options) const;
  int64_t NumTextTokens(const GenerateOptions& options) const;
  // Steps of the denoising loop, which profiles count: `steps`, or 2 steps - 1 where the scheduler
  // is of second order (FlowMatchHeunDiscreteScheduler) and calls the model twice.
  int NumSteps(const GenerateOptions& options) const;
  // The step from which the second transformer predicts, of models with one for high and one for
  // low noise (Wan 2.2); 0 where one makes all steps.
  int SecondExpertStep(const GenerateOptions& options) const;
  // The sparsity profile in force for these options, as YAML; "" when sparsity is off.
  std::string SparsityYaml(const GenerateOptions& options) const;
  // Settings that have no effect here, one sentence each.
  std::vector<std::string> Warnings(const GenerateOptions& options) const;

  // What a PNG or MP4 of this generation should carry as text: prompt, settings and version.
  std::map<std::string, std::string> PngText(const GenerateOptions& options, int image) const;

  // The same of latents in a file that Decode goes on from.
  std::map<std::string, std::string> PngText(const SavedLatents& latents, int image) const;
  // What a file of latents should say, of which `image` is the first: family, width, height,
  // num_frames, fps, and the settings as PngText has them.
  std::map<std::string, std::string> LatentsText(const GenerateOptions& options,
                                                 int image = 0) const;

  // Pinned memory of the host that holds copies of weights for GPUs now: of blocks that take turns
  // there, kept from one generation to the next while there is room.
  size_t pinned_bytes() const;

  const ModelInfo& info() const;
  int size_multiple() const { return info().size_multiple; }

 private:
  friend class Generation;
  struct Parts;
  std::shared_ptr<Parts> parts_;  // shared with generations under way
};

// Writes packed latents as safetensors, tensor "latents" [images, tokens, channels] f32, with the
// text as metadata, complete or not at all. Throws kIo, and kInvalidArgument where there are none,
// they differ in size or the text is not UTF-8.
void WriteLatents(const std::filesystem::path& path, const std::vector<Latents>& latents,
                  const std::map<std::string, std::string>& text = {});

// Reads such a file, or one of others with packed latents [images, tokens, channels] as f32, f16 or
// bf16: the tensor "latents", else the only one. Throws kNotFound, kIo, kInvalidFile, kUnsupported
// for other types, kOutOfMemory.
SavedLatents ReadLatents(const std::filesystem::path& path);

// The options with the size that the latents' text gives where the options give none, as
// Pipeline::Decode completes them. Throws kInvalidArgument when neither gives width and height (or,
// of films, num_frames), kInvalidFile when the text is of another family or its size is no number.
GenerateOptions WithSavedSize(const SavedLatents& saved, const GenerateOptions& options,
                              const ModelInfo& info);

// "0.1.0"
std::string Version();

}  // namespace tamias
