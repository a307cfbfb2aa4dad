// The engine: pipelines, generations and tuning, with callbacks into Python.
#include "tamias/pipeline.h"

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.h"
#include "bindings.h"
#include "released.h"
#include "tamias/generation.h"
#include "tamias/likeness.h"
#include "tamias/tune.h"

namespace tamias::python {
namespace {

using nb::literals::operator""_a;
using WithoutLock = nb::call_guard<Released>;

// A Python function that C++ may copy and drop without holding the interpreter's lock.
class Callback {
 public:
  explicit Callback(nb::object function)
      : function_(function.is_none() ? nullptr : new nb::object(std::move(function)),
                  [](nb::object* held) {
                    const nb::gil_scoped_acquire lock;
                    delete held;
                  }) {}
  explicit operator bool() const { return function_ != nullptr; }
  // With the interpreter's lock held.
  template <typename... Arguments>
  nb::object operator()(Arguments&&... arguments) const {
    return (*function_)(std::forward<Arguments>(arguments)...);
  }

 private:
  std::shared_ptr<nb::object> function_;
};

// Calls the function where there is one; Ctrl-C and other signals of Python end the generation as
// exceptions. False, and nothing else that a function may return, stops it.
bool Report(const Callback& callback, const Progress& progress) {
  if (IsEnding()) return false;
  const nb::gil_scoped_acquire lock;
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
  return !callback || callback(nb::cast(progress)).ptr() != Py_False;
}

ProgressCallback ToProgress(nb::object function) {
  return [callback = Callback(std::move(function))](const Progress& progress) {
    return Report(callback, progress);
  };
}

nb::dict ToDict(const std::vector<MemoryEntry>& entries) {
  nb::dict bytes;
  for (const MemoryEntry& entry : entries) bytes[entry.name.c_str()] = entry.bytes;
  return bytes;
}

nb::list ToList(const std::vector<DeviceMemory>& devices) {
  nb::list list;
  for (const DeviceMemory& memory : devices) {
    nb::dict one;
    one["device"] = memory.device;
    one["bytes"] = memory.bytes;
    one["card_bytes"] = memory.card_bytes;
    one["free_bytes"] = memory.free_bytes;
    one["entries"] = ToDict(memory.entries);
    list.append(one);
  }
  return list;
}

// Results as Python's objects; the pixels and latents of the C++ result are moved out of it.
nb::dict ToDict(GenerateResult result) {
  nb::list images, videos, latents;
  for (Image& image : result.images) images.append(ToArray(std::move(image)));
  for (const Video& video : result.videos) videos.append(nb::make_tuple(ToArray(video), video.fps));
  for (Latents& one : result.latents) latents.append(ToArray(std::move(one)));
  nb::dict all;
  all["images"] = images;
  all["videos"] = videos;
  all["latents"] = latents;
  all["seconds_total"] = result.seconds_total;
  all["seconds_encode"] = result.seconds_encode;
  all["seconds_denoise"] = result.seconds_denoise;
  all["seconds_decode"] = result.seconds_decode;
  all["attention_sparsity"] = result.attention_sparsity;
  all["mlp_sparsity"] = result.mlp_sparsity;
  all["report_json"] = result.report_json;
  return all;
}

// The argument of a property's setter, as stubs and errors name it.
auto OfSetter() { return nb::for_setter("value"_a); }

void BindOptions(nb::module_& module) {
  using Options = GenerateOptions;
  nb::class_<Options>(module, "GenerateOptions")
      .def(nb::init<>())
      .def_rw("prompt", &Options::prompt, OfSetter())
      .def_rw("negative_prompt", &Options::negative_prompt, OfSetter())
      .def_rw("true_cfg_scale", &Options::true_cfg_scale, OfSetter())
      .def_rw("true_cfg_scale_2", &Options::true_cfg_scale_2, OfSetter())
      .def_rw("guidance_scale", &Options::guidance_scale, OfSetter())
      .def_rw("width", &Options::width, OfSetter())
      .def_rw("height", &Options::height, OfSetter())
      .def_rw("num_frames", &Options::num_frames, OfSetter())
      .def_rw("fps", &Options::fps, OfSetter())
      .def_rw("steps", &Options::steps, OfSetter())
      .def_rw("max_sequence_length", &Options::max_sequence_length, OfSetter())
      .def_rw("seed", &Options::seed, OfSetter())
      .def_rw("num_images", &Options::num_images, OfSetter())
      .def_rw("sparsity", &Options::sparsity, OfSetter())
      .def_rw("overrides", &Options::overrides, OfSetter())
      .def_rw("threads", &Options::threads, OfSetter())
      .def_rw("device", &Options::device, OfSetter())
      .def_rw("dtype", &Options::dtype, OfSetter())
      .def_rw("weight_dtype", &Options::weight_dtype, OfSetter())
      .def_rw("max_memory_bytes", &Options::max_memory_bytes, OfSetter())
      .def_rw("max_gpu_memory_bytes", &Options::max_gpu_memory_bytes, OfSetter())
      .def_rw("decode", &Options::decode, OfSetter())
      .def(
          "set_image",
          [](Options& self, const ConstArray& image) { self.image = ImageOf(image, "image"); },
          "image"_a)
      .def(
          "set_initial_latents",
          [](Options& self, const std::vector<ConstArray>& latents) {
            self.initial_latents.clear();
            for (const ConstArray& one : latents) {
              self.initial_latents.push_back(LatentsOf(one, "initial_latents"));
            }
          },
          "latents"_a)
      .def(
          "set_on_prediction",
          [](Options& self, nb::object function, int64_t tokens) {
            self.on_prediction = [callback = Callback(std::move(function)),
                                  tokens](const StepPrediction& prediction) {
              const nb::gil_scoped_acquire lock;
              callback(prediction.step, prediction.sigma, CopyOf(prediction.values, tokens));
            };
          },
          "function"_a, "tokens"_a)
      .def(
          "set_on_image",
          [](Options& self, nb::object function) {
            self.on_result = [callback = Callback(std::move(function))](
                                 const GenerateResult& so_far, int image) {
              const nb::gil_scoped_acquire lock;
              const auto i = static_cast<size_t>(image);
              if (so_far.videos.empty()) {
                callback(image, nb::cast(ToArray(so_far.images[i])));
              } else {
                callback(image, nb::cast(ToArray(so_far.videos[i])));
              }
            };
          },
          "function"_a);
}

void BindProgress(nb::module_& module) {
  nb::class_<Progress>(module, "Progress", "Where a generation stands.")
      .def_prop_ro(
          "stage", [](const Progress& self) { return Name(self.stage); },
          "\"encode\", \"denoise\" or \"decode\"")
      .def_ro("image", &Progress::image, "picture or film, 0 to num_images - 1")
      .def_ro("num_images", &Progress::num_images)
      .def_ro("step", &Progress::step, "steps, or tiles of the decoder, finished")
      .def_ro("num_steps", &Progress::num_steps)
      .def_ro("step_kind", &Progress::step_kind,
              "of the step that just ended: \"full\", \"sparse\" or \"skip\"")
      .def_ro("seconds", &Progress::seconds, "since the generation began")
      .def_ro("seconds_left", &Progress::seconds_left, "of this stage, estimated; 0 when unknown");
}

void BindGeneration(nb::module_& module) {
  nb::class_<Generation>(module, "Generation")
      .def("encode", &Generation::Encode, WithoutLock())
      .def("step", &Generation::Step, WithoutLock())
      .def("decode", &Generation::Decode, WithoutLock())
      .def_prop_ro("is_done", &Generation::IsDone)
      .def_prop_ro("image", &Generation::image)
      .def_prop_ro("next_step", &Generation::step)
      .def_prop_ro("num_steps", &Generation::num_steps)
      .def("latents", [](const Generation& self) { return ToArray(self.latents()); })
      .def(
          "set_latents",
          [](Generation& self, const ConstArray& latents) {
            self.SetLatents(LatentsOf(latents, "latents"));
          },
          "latents"_a)
      .def("result", [](const Generation& self) { return ToDict(self.result()); });
}

void BindModelInfo(nb::module_& module) {
  nb::class_<ComponentInfo>(module, "ComponentInfo")
      .def_ro("name", &ComponentInfo::name)
      .def_ro("class_name", &ComponentInfo::class_name)
      .def_ro("parameters", &ComponentInfo::parameters)
      .def_ro("bytes", &ComponentInfo::bytes)
      .def_ro("dtype", &ComponentInfo::dtype)
      .def_ro("variant", &ComponentInfo::variant);
  nb::class_<GenerationSettings>(module, "GenerationSettings")
      .def_ro("width", &GenerationSettings::width)
      .def_ro("height", &GenerationSettings::height)
      .def_ro("num_frames", &GenerationSettings::num_frames)
      .def_ro("fps", &GenerationSettings::fps)
      .def_ro("steps", &GenerationSettings::steps)
      .def_ro("max_sequence_length", &GenerationSettings::max_sequence_length)
      .def_ro("true_cfg_scale", &GenerationSettings::true_cfg_scale)
      .def_ro("true_cfg_scale_2", &GenerationSettings::true_cfg_scale_2)
      .def_ro("guidance_scale", &GenerationSettings::guidance_scale);
  nb::class_<ModelInfo>(module, "ModelInfo")
      .def_ro("family", &ModelInfo::family)
      .def_ro("makes_videos", &ModelInfo::makes_videos)
      .def_ro("needs_image", &ModelInfo::needs_image)
      .def_ro("scheduler", &ModelInfo::scheduler)
      .def_ro("components", &ModelInfo::components)
      .def_ro("size_multiple", &ModelInfo::size_multiple)
      .def_ro("default_profile", &ModelInfo::default_profile)
      .def_ro("defaults", &ModelInfo::defaults);
}

void BindEngine(nb::module_& module) {
  nb::class_<Pipeline>(module, "Pipeline")
      .def(
          "__init__",
          [](Pipeline* pipeline, const std::filesystem::path& folder, std::string variant,
             const std::vector<std::tuple<std::filesystem::path, double, int>>& loras) {
            LoadOptions options{.variant = std::move(variant)};
            for (const auto& [file, scale, transformer] : loras) {
              options.loras.push_back({file, scale, transformer});
            }
            new (pipeline) Pipeline(folder, options);
          },
          "folder"_a, "variant"_a, "loras"_a, WithoutLock())
      .def(
          "generate",
          [](const Pipeline& self, const GenerateOptions& options, nb::object progress) {
            const ProgressCallback callback = ToProgress(std::move(progress));
            GenerateResult result;
            {
              const Released released;
              result = self.Generate(options, callback);
            }
            return ToDict(std::move(result));
          },
          "options"_a, "progress"_a.none())
      .def(
          "start",
          [](const Pipeline& self, const GenerateOptions& options, nb::object progress) {
            const ProgressCallback callback = ToProgress(std::move(progress));
            const Released released;
            return self.Start(options, callback);
          },
          "options"_a, "progress"_a.none())
      .def(
          "decode",
          [](const Pipeline& self, const std::vector<ConstArray>& latents,
             const GenerateOptions& options, nb::object progress) {
            SavedLatents saved;
            for (const ConstArray& one : latents) {
              saved.latents.push_back(LatentsOf(one, "latents"));
            }
            const ProgressCallback callback = ToProgress(std::move(progress));
            GenerateResult result;
            {
              const Released released;
              result = self.Decode(saved, options, callback);
            }
            return ToDict(std::move(result));
          },
          "latents"_a, "options"_a, "progress"_a.none())
      .def("settings", &Pipeline::Settings, "options"_a)
      .def(
          "plan_memory",
          [](const Pipeline& self, const GenerateOptions& options) {
            MemoryPlan plan;
            {
              const Released released;
              plan = self.PlanMemory(options);
            }
            nb::dict all;
            all["peak_bytes"] = plan.peak_bytes;
            all["entries"] = ToDict(plan.entries);
            all["spill_bytes"] = plan.spill_bytes;
            all["device_bytes"] = plan.device_bytes;
            all["devices"] = ToList(plan.devices);
            all["device_measures"] = plan.device_measures;
            return all;
          },
          "options"_a)
      .def("num_image_tokens", &Pipeline::NumImageTokens, "options"_a)
      .def("num_steps", &Pipeline::NumSteps, "options"_a)
      .def("sparsity_yaml", &Pipeline::SparsityYaml, "options"_a)
      .def("warnings", &Pipeline::Warnings, "options"_a)
      .def(
          "text",
          [](const Pipeline& self, const GenerateOptions& options, int image) {
            return self.PngText(options, image);
          },
          "options"_a, "image"_a)
      .def_prop_ro("info", &Pipeline::info);
}

// What a trial found, by the names of TuneTrial.
nb::dict ToDict(const TuneTrial& trial) {
  nb::dict all;
  all["name"] = trial.name;
  all["profile"] = trial.profile;
  all["seconds"] = trial.seconds;
  all["speedup"] = trial.speedup;
  all["psnr"] = trial.psnr;
  all["psnr_mean"] = trial.psnr_mean;
  all["ssim"] = trial.ssim;
  all["attention_sparsity"] = trial.attention_sparsity;
  all["mlp_sparsity"] = trial.mlp_sparsity;
  all["is_alike"] = trial.is_alike;
  return all;
}

void BindTune(nb::module_& module) {
  module.def(
      "tune",
      [](const Pipeline& pipeline, const GenerateOptions& generate,
         const std::vector<std::string>& prompts, double min_psnr, nb::object progress,
         nb::object on_trial) {
        TuneOptions options;
        options.generate = generate;
        options.prompts = prompts;
        options.min_psnr = min_psnr;
        options.on_progress = [callback = Callback(std::move(progress))](const TuneProgress& now) {
          return Report(callback, now.progress);
        };
        options.on_trial = [callback = Callback(std::move(on_trial))](const TuneTrial& trial) {
          const nb::gil_scoped_acquire lock;
          if (callback) callback(ToDict(trial));
        };
        TuneResult result;
        {
          const Released released;
          result = Tune(pipeline, options);
        }
        nb::list trials;
        for (const TuneTrial& trial : result.trials) trials.append(ToDict(trial));
        nb::dict all;
        all["trials"] = trials;
        all["fastest"] = ToDict(result.fastest());
        all["fewer_steps"] = ToDict(result.fewer_steps);
        all["seconds_dense"] = result.seconds_dense;
        return all;
      },
      "pipeline"_a, "generate"_a, "prompts"_a, "min_psnr"_a, "progress"_a.none(),
      "on_trial"_a.none());
}

}  // namespace

void BindPipeline(nb::module_& module) {
  BindOptions(module);
  BindProgress(module);
  BindModelInfo(module);
  BindGeneration(module);
  BindEngine(module);
  BindTune(module);
}

}  // namespace tamias::python
