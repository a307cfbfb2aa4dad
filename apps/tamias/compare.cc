// `tamias compare`: the same noise dense and accelerated, both pictures or films, what differs, and
// a report. A picture is a film of one frame here.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "commands.h"
#include "common_options.h"
#include "fail.h"
#include "output_files.h"
#include "progress.h"
#include "result_files.h"
#include "tamias/likeness.h"
#include "tamias/machine.h"

namespace tamias::cli {
namespace {

constexpr char kExamples[] = R"(Examples:
  tamias compare --model models/demo-flux --output out/star \
      --prompt "a large red star at the center on a wooden beige background"
  tamias compare --model FLUX.1-dev --prompt "a chipmunk in a library" --width 1280 --height 768 \
      --set attn.top_keys=0.1 --json
  tamias compare --model models/demo-video --prompt "a red star moving left at the top on a grey background" \
      --output out/moving-star

Writes to the output folder: dense.png, accelerated.png, side-by-side.png (dense on the left),
difference.png (absolute difference, four times amplified) and report.json; of films .mp4 instead of
.png, and PSNR and SSIM of each frame in the report.)";

constexpr int kGap = 8;            // pixels between the two halves
constexpr int kAmplification = 4;  // of the difference

struct Options {
  CommonOptions common;
  std::string output = "compare";
};

Image SideBySide(const Image& left, const Image& right) {
  Image both{left.width + kGap + right.width, left.height, {}};
  both.rgb.assign(static_cast<size_t>(both.width) * both.height * 3, 255);
  for (int y = 0; y < both.height; ++y) {
    const auto row = both.rgb.begin() + static_cast<ptrdiff_t>(y) * both.width * 3;
    const auto source = static_cast<ptrdiff_t>(y) * left.width * 3;
    std::copy_n(left.rgb.begin() + source, left.width * 3, row);
    std::copy_n(right.rgb.begin() + source, right.width * 3, row + (left.width + kGap) * 3);
  }
  return both;
}

Image Difference(const Image& a, const Image& b) {
  Image difference = a;
  for (size_t i = 0; i < a.rgb.size(); ++i) {
    difference.rgb[i] =
        static_cast<uint8_t>(std::min(255, kAmplification * std::abs(a.rgb[i] - b.rgb[i])));
  }
  return difference;
}

// `combine` of each pair of frames.
template <typename Combine>
Video Combined(const Video& a, const Video& b, const Combine& combine) {
  Video combined{a.fps, {}};
  for (size_t i = 0; i < a.frames.size(); ++i) {
    combined.frames.push_back(combine(a.frames[i], b.frames[i]));
  }
  return combined;
}

nlohmann::ordered_json MakeReport(const GenerateResult& dense, const GenerateResult& accelerated,
                                  const Likeness& likeness, double latent_error) {
  nlohmann::ordered_json report;
  report["seconds_dense"] = dense.seconds_total;
  report["seconds_accelerated"] = accelerated.seconds_total;
  report["speedup"] = dense.seconds_total / accelerated.seconds_total;
  report["denoising_speedup"] = dense.seconds_denoise / accelerated.seconds_denoise;
  report["psnr"] = likeness.psnr;
  report["ssim"] = likeness.ssim;
  report["latent_relative_l2"] = latent_error;
  for (size_t film = 0; film < likeness.films.size(); ++film) {
    for (size_t i = 0; i < likeness.films[film].size(); ++i) {
      const FrameLikeness& frame = likeness.films[film][i];
      report["frames"].push_back(
          {{"image", film}, {"frame", i}, {"psnr", frame.psnr}, {"ssim", frame.ssim}});
    }
  }
  report["attention_sparsity"] = accelerated.attention_sparsity;
  report["mlp_sparsity"] = accelerated.mlp_sparsity;
  report["peak_memory_bytes"] = PeakResidentBytes();
  report["planned_memory_bytes"] =
      std::max(dense.planned_memory_bytes, accelerated.planned_memory_bytes);
  report["machine"] = MachineName();
  report["dense"] = nlohmann::ordered_json::parse(dense.report_json);
  report["accelerated"] = nlohmann::ordered_json::parse(accelerated.report_json);
  report["device"] = report["accelerated"]["device"];
  report["dtype"] = report["accelerated"]["dtype"];
  return report;
}

void PrintTable(const GenerateResult& dense, const GenerateResult& accelerated,
                const Likeness& likeness, double latent_error) {
  fmt::print("{:<22}{:>12}{:>14}{:>11}\n", "", "dense", "accelerated", "ratio");
  const auto row = [](const char* name, double a, double b) {
    fmt::print("{:<22}{:>10.2f} s{:>12.2f} s{:>10.2f}x\n", name, a, b, a / b);
  };
  row("denoising", dense.seconds_denoise, accelerated.seconds_denoise);
  row("whole generation", dense.seconds_total, accelerated.seconds_total);
  fmt::print("attention sparsity    {:>37.1f} %\nMLP sparsity          {:>37.1f} %\n",
             100 * accelerated.attention_sparsity, 100 * accelerated.mlp_sparsity);
  fmt::print("likeness to dense: PSNR {:.2f} dB, SSIM {:.4f}, latent relative L2 {:.4f}\n",
             likeness.psnr, likeness.ssim, latent_error);
}

constexpr const char* kResults[] = {"dense", "accelerated", "side-by-side", "difference"};

// "dense.png" of one result, "dense-2.png" of the second of several; of films .mp4.
std::string ResultName(const char* result, size_t index, size_t count, bool is_film) {
  const std::string suffix = count == 1 ? "" : fmt::format("-{}", index + 1);
  return fmt::format("{}{}{}", result, suffix, is_film ? ".mp4" : ".png");
}

// One of the four results of a film: PNG when it is a picture.
void Write(const std::filesystem::path& path, const Video& film,
           const std::map<std::string, std::string>& text = {}) {
  if (film.frames.size() == 1) {
    WritePicture(path, ImageFormat::kPng, film.frames.front(), text);
  } else {
    WriteFilm(path, film, text);
  }
}

void WriteDifferences(const std::filesystem::path& folder, const std::vector<Video>& dense,
                      const std::vector<Video>& accelerated) {
  for (size_t i = 0; i < dense.size(); ++i) {
    const Video& a = dense[i];
    const Video& b = accelerated[i];
    const auto path = [&](int result) {
      return folder / ResultName(kResults[result], i, dense.size(), a.frames.size() > 1);
    };
    Write(path(2), Combined(a, b, SideBySide));
    Write(path(3), Combined(a, b, Difference));
  }
}

// Everything that could go wrong when results are written or compared, before there are any.
// Creates the folder, which must hold no results of another run that this one would not write over.
void CheckOutputs(const Pipeline& pipeline, const Options& options) {
  const std::filesystem::path folder = options.output;
  if (IsImagePath(folder) || IsVideoPath(folder)) {
    Fail(ErrorCode::kInvalidArgument, "output: '{}': expected a folder, found a file's name",
         options.output);
  }
  const GenerateOptions& generate = options.common.generate;
  const GenerationSettings settings = pipeline.Settings(generate);
  const int width = settings.width, height = settings.height;
  CheckComparable(width, height);
  const bool is_film = NumFrames(pipeline, generate) > 1;
  if (is_film) {
    CheckVideoSize(2 * width + kGap, height);
  } else {
    CheckImageFile(ImageFormat::kPng, 2 * width + kGap, height, pipeline.PngText(generate, 0), {});
  }
  const auto count = static_cast<size_t>(generate.num_images);
  CommandFiles files = InputsOf(options.common);
  files.AddOutput("--output", folder / "report.json");
  for (const char* result : kResults) {
    for (size_t i = 0; i < count; ++i) {
      files.AddOutput("--output", folder / ResultName(result, i, count, is_film));
    }
  }
  if (options.common.json) files.AddOutput("--json", OutputPath("-"));
  CreateFolder(folder);
  CheckWritable(folder / "report.json");
  for (const char* result : kResults) {
    // Of the other format, of a run with another number of results, and of one with more of them.
    RefuseLeftOvers(
        "output", folder,
        {ResultName(result, 0, 1, !is_film), ResultName(result, 0, 2, !is_film),
         count == 1 ? ResultName(result, 0, 2, is_film) : ResultName(result, 0, 1, is_film),
         ResultName(result, count, count + 1, is_film)});
    for (size_t i = 0; i < count; ++i)
      CheckWritable(folder / ResultName(result, i, count, is_film));
  }
}

// Generates what becomes kResults[result]. Each is written when it is done: the next may take
// hours, or fail.
GenerateResult GenerateFilms(const Options& options, const Pipeline& pipeline,
                             GenerateOptions generate, int result) {
  const std::filesystem::path folder = options.output;
  const bool is_film = NumFrames(pipeline, generate) > 1;
  const auto count = static_cast<size_t>(generate.num_images);
  const auto path = [&, count](int image) {
    return folder / ResultName(kResults[result], static_cast<size_t>(image), count, is_film);
  };
  LatentsKeeper keeper;
  generate.on_latents = [&](const GenerateResult& so_far, int image) {
    keeper.Keep(pipeline, generate, so_far, image, path(image));
  };
  ProgressPrinter progress(kResults[result], options.common.quiet);
  generate.on_result = [&](const GenerateResult& so_far, int image) {
    const auto i = static_cast<size_t>(image);
    progress.EndLine();
    Write(path(image), so_far.videos.empty() ? Video{0, {so_far.images[i]}} : so_far.videos[i],
          pipeline.PngText(generate, image));
    keeper.Release();
  };
  try {
    return pipeline.Generate(generate, std::ref(progress));
  } catch (const std::exception&) {
    progress.EndLine();
    keeper.Tell(options.common.model);
    throw;
  }
}

void Run(Options& options) {
  if (options.common.generate.sparsity == "off") {
    Fail(ErrorCode::kInvalidArgument, "sparsity: 'off' leaves nothing to compare with dense");
  }
  const Pipeline pipeline(options.common.model, options.common.load);
  ReadInputImage(pipeline, options.common);
  const GenerateOptions& accelerated_options = options.common.generate;
  GenerateOptions dense_options = accelerated_options;
  dense_options.sparsity = "off";
  dense_options.overrides.clear();

  const std::filesystem::path folder = options.output;
  pipeline.PlanMemory(accelerated_options);  // refuses bad options before the folder is made
  CheckOutputs(pipeline, options);
  PrintWarnings(pipeline, options.common);
  GenerateResult dense = GenerateFilms(options, pipeline, dense_options, 0);
  GenerateResult accelerated = GenerateFilms(options, pipeline, accelerated_options, 1);

  const std::vector<Video> dense_films = TakeFilms(dense);
  const std::vector<Video> accelerated_films = TakeFilms(accelerated);
  const Likeness likeness = CompareFilms(accelerated_films, dense_films);
  const double latent_error = RelativeL2(accelerated.latents, dense.latents);
  const nlohmann::ordered_json report = MakeReport(dense, accelerated, likeness, latent_error);
  WriteDifferences(folder, dense_films, accelerated_films);
  WriteOutput(folder / "report.json", [&] { return report.dump(2) + "\n"; });
  if (options.common.json) {
    fmt::print("{}\n", report.dump(2));
    return;
  }
  PrintTable(dense, accelerated, likeness, latent_error);
  fmt::print("wrote {}/: dense, accelerated, side-by-side and difference {}, report.json\n",
             folder.string(), dense_films.front().frames.size() == 1 ? "PNG" : "MP4");
}

}  // namespace

void AddCompareCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "compare", "Generate dense and accelerated from the same noise and compare them");
  auto options = std::make_shared<Options>();
  AddModelOptions(*command, options->common);
  AddPromptOptions(*command, options->common);
  AddFpsOption(*command, options->common);
  command
      ->add_option("--output", options->output, "Folder for the pictures or films and report.json")
      ->type_name("DIR")
      ->capture_default_str();
  command->footer(kExamples);
  command->callback([options] { Run(*options); });
}

}  // namespace tamias::cli
