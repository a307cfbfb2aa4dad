// Which models are in memory: each is loaded when a job needs it, and under one budget of bytes the
// least recently used one that no job needs is let go for another. Threads may use it at once.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "tamias/pipeline.h"

namespace tamias::serve {

// Where a model lies, and what its weights take.
struct ModelSource {
  std::string id;
  std::filesystem::path folder;
  size_t bytes = 0;
};

class LoadedModels {
 public:
  // A model that stays while this is held.
  using Lease = std::shared_ptr<const Pipeline>;

  // kept: what a pipeline holds beside its source's bytes, which changes while its jobs run. It is
  // not known before, so that running jobs can come to exceed max_bytes together; until they do no
  // more nothing else is loaded, and each job that begins lets go of what nobody holds.
  using KeptBytes = std::function<size_t(const Pipeline&)>;

  explicit LoadedModels(size_t max_bytes, KeptBytes kept = &Pipeline::pinned_bytes)
      : max_bytes_(max_bytes), kept_(std::move(kept)) {}

  // For a job. Waits until others' jobs leave room; is_alone: until nobody holds any model, and
  // then there is none but this one, loaded anew. Who came first has it first. nullptr when
  // `gives_up` says so meanwhile. Throws as Pipeline.
  Lease Borrow(const ModelSource& model, const std::function<bool()>& gives_up,
               bool is_alone = false);
  // For settings and plans, at once: where there is no room beside the others, a copy of its own,
  // whose weights nobody touches.
  Lease Look(const ModelSource& model);

  bool IsLoaded(const std::string& id) const;
  bool IsAlone(const std::string& id) const;  // no other model is in memory
  size_t bytes() const;                       // of weights
  size_t max_bytes() const { return max_bytes_; }

 private:
  struct Entry {
    ModelSource model;
    std::unique_ptr<const Pipeline> pipeline = nullptr;  // nullptr: it is being loaded
    int leases = 0;
    uint64_t last_use = 0;
  };

  // A place in the line of those who wait for a model: the first alone loads and lets go. Made and
  // ended under the lock.
  class Place {
   public:
    explicit Place(LoadedModels& models);
    ~Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    bool IsFirst() const { return models_.line_.front() == ticket_; }

   private:
    LoadedModels& models_;
    uint64_t ticket_;
  };

  // Each needs the lock.
  size_t BytesOf(const Entry& entry) const;
  Entry* Find(const std::string& id);
  bool HasRoomFor(size_t bytes) const;
  // Lets go of models that nobody holds, from the longest unused, until there is room for so much
  // beside the others. False: there is none yet.
  bool LetGoFor(size_t bytes);
  // Lets go of all models. False: somebody holds one.
  bool LetGoAll();
  // LetGoFor where nothing that is held stands in the way, else nothing.
  bool MakeRoomFor(size_t bytes);
  Lease LeaseOf(Entry& entry);
  // By the first in line; gives the lock away while it reads.
  Lease Load(const ModelSource& model, std::unique_lock<std::mutex>& lock);

  size_t max_bytes_;
  KeptBytes kept_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Entry> entries_;
  std::list<uint64_t> line_;  // tickets of those who wait for a model
  uint64_t next_ticket_ = 0;
  uint64_t uses_ = 0;
};

}  // namespace tamias::serve
