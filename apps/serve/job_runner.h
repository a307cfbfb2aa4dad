// One job from prompt to files: step by step, with its events, previews and metrics. Results are
// written whole under their names before anyone is told of them.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "live_job.h"
#include "metrics.h"
#include "model_catalog.h"
#include "preview.h"

namespace tamias::serve {

// How a run ended. kQueued: it was interrupted and is to run again.
struct JobOutcome {
  JobStatus status = JobStatus::kCompleted;
  std::string error_code;
  std::string error_message;
  bool is_out_of_memory = false;
};

// Of a run that was to stop: cancelled, or interrupted where the server ends.
JobOutcome OutcomeOf(LiveJob::Stop reason);

class JobRunner {
 public:
  // threads: of each generation.
  JobRunner(const ModelCatalog& catalog, std::filesystem::path output_folder, int threads,
            Metrics& metrics);

  // `picture`: the file that the job's film begins with; empty: none. On return the job's record
  // has its files and times; its status is left to whoever keeps the store. is_alone: with no other
  // model in memory, which is waited for. Threads may call it at once.
  JobOutcome Run(LiveJob& live, const std::string& picture, bool is_alone) noexcept;

  const std::filesystem::path& output_folder() const { return output_folder_; }
  void RemoveFiles(const Job& job) const noexcept;

 private:
  JobOutcome Try(LiveJob& live, const std::string& picture, bool is_alone);
  void Generate(LiveJob& live, const Pipeline& pipeline, const JobSettings& settings,
                const std::string& picture);
  void WriteResult(LiveJob& live, const Pipeline& pipeline, const GenerateOptions& options,
                   const GenerateResult& so_far, int image);

  const ModelCatalog& catalog_;
  std::filesystem::path output_folder_;
  int threads_;
  Metrics& metrics_;
  std::map<std::string, LatentPreview> previews_;  // by model; all there from the start
};

}  // namespace tamias::serve
