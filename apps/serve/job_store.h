// Jobs on disk: an SQLite database (write-ahead log). A change is safe from the end of this process
// before the call that made it returns, and from the end of the machine where someone is told of
// it: of a job that is kept, and of every end. One process at a time. Threads may use it at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "job.h"

struct sqlite3;
struct sqlite3_stmt;

namespace tamias::serve {

class JobStore {
 public:
  // Opens or creates. Throws kIo where it cannot be written or another process has it, kInvalidFile
  // for a file that is none of ours.
  explicit JobStore(const std::filesystem::path& path);
  ~JobStore();
  JobStore(const JobStore&) = delete;
  JobStore& operator=(const JobStore&) = delete;

  // Each throws kIo when the disk refused: then nothing has changed. The picture that a job's film
  // begins with is kept until the job has ended; empty: none.
  void Insert(const Job& job, const std::string& picture = "");
  void Update(const Job& job);
  void Delete(const std::string& id);

  std::optional<Job> Find(const std::string& id) const;
  std::string Picture(const std::string& id) const;  // empty: none
  // Newest first, at most `limit`, those older than the job `after` where that is not empty.
  std::vector<Job> List(const std::string& owner, int limit, const std::string& after) const;
  // Queued or in progress, oldest first.
  std::vector<Job> Unfinished() const;

 private:
  class Statement;
  void Execute(const char* sql) const;
  // Whether changes are on disk before the next call returns.
  void SetSynced(bool is_synced);
  template <typename Change>
  void Together(bool is_synced, const Change& change);
  [[noreturn]] void Fail(const char* what) const;
  std::vector<Job> Jobs(Statement& statement) const;

  std::filesystem::path path_;
  mutable std::mutex mutex_;
  sqlite3* database_ = nullptr;
  bool is_synced_ = false;
};

}  // namespace tamias::serve
