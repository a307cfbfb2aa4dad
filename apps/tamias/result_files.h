// The files of a generation or a decoding: each picture or film is written as soon as it is done,
// and latents whose decoding fails are kept, so that nothing finished is lost.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "common_options.h"
#include "tamias/error.h"
#include "tamias/pipeline.h"

namespace tamias::cli {

struct ResultPaths {
  std::string output;          // empty: tamias.png, or tamias.mp4 for a film
  std::optional<int> quality;  // of JPEG and WebP pictures
  std::string frames_folder;
  std::string save_latents;
  std::string report;
};

// --output, --quality, --frames-dir and --report.
void AddResultOptions(CLI::App& command, ResultPaths& paths);

// Latents in a file while they are decoded: however that ends, the steps are not lost.
class LatentsKeeper {
 public:
  // output: what the latents will become; the file is "<output>.latents.safetensors" beside it or,
  // where that cannot be written, in $TMPDIR, else /var/tmp, and has a number before the end where
  // the name is taken. None when neither can be, which is no reason to stop: nobody asked for it.
  void Keep(const Pipeline& pipeline, const GenerateOptions& options, const GenerateResult& so_far,
            int image, const std::filesystem::path& output);
  // The picture or film is written: removes the file.
  void Release();
  // After a failure: says where the latents are and how to go on from them.
  void Tell(const std::string& model) const;

 private:
  std::filesystem::path path_;  // empty: there is none
};

class ResultFiles {
 public:
  // Throws when a path cannot hold what the model makes, or cannot be written: before the work.
  // count: of pictures or films; text: what the first of them will carry.
  ResultFiles(const Pipeline& pipeline, const CommonOptions& options, const ResultPaths& paths,
              size_t count, const std::map<std::string, std::string>& text);

  // Where to say what was done: standard output, or standard error when a result goes there; null:
  // nowhere.
  std::FILE* log() const { return log_; }
  // Writes the latents of a picture or film, which is decoded next: to --save-latents, with all
  // before them, and to the keeper's file. A failure of the former waits for Finish: it is no
  // reason to lose the results.
  void KeepLatents(const GenerateResult& so_far, int image);
  // Writes a picture or film and says so.
  void Write(const GenerateResult& so_far, int image,
             const std::map<std::string, std::string>& text);
  // Runs the body. When it fails, says where latents are that were not written as a picture or
  // film, and writes the report of those that were.
  template <typename Body>
  auto Guard(const Body& body) {
    try {
      return body();
    } catch (const std::exception& error) {
      TellFailure(error.what());
      throw;
    }
  }
  // Writes and prints the report of the whole. Throws then what --save-latents lost.
  void Finish(const GenerateResult& result);

 private:
  // Where the results go and as what.
  struct Output {
    std::filesystem::path path;
    std::optional<ImageFormat> picture;  // of a picture; nothing: a film
    ImageOptions image_options;
  };

  // Throws when the file cannot hold what the model makes.
  Output MakeOutput() const;
  // Whether a file goes to standard output, where then nothing else may go.
  bool UsesStandardOutput() const;
  // Throws when a file would be written over another one, or over what is read.
  void CheckApart() const;
  // Everything that could go wrong when results are written, before there are any.
  void CheckOutputs(const std::map<std::string, std::string>& text) const;
  // The failure itself is what matters: another one on the way is not told.
  void TellFailure(const std::string& error) noexcept;
  // Of what is written so far; error: "" where all went well.
  std::string ReportText(const std::string& report_json, const std::string& error) const;

  const Pipeline& pipeline_;
  const CommonOptions& options_;
  ResultPaths paths_;
  size_t count_;
  Output output_;
  std::FILE* log_ = nullptr;
  nlohmann::ordered_json written_ = nlohmann::ordered_json::array();
  std::string last_report_;
  std::optional<Error> latents_error_;  // of the last writing of --save-latents
  LatentsKeeper keeper_;
};

}  // namespace tamias::cli
