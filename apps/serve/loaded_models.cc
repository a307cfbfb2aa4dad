// A lease counts itself; what nobody holds is let go from the longest unused.
#include "loaded_models.h"

#include <malloc.h>

#include <algorithm>
#include <chrono>

namespace tamias::serve {
namespace {

constexpr auto kAskAgain = std::chrono::milliseconds(100);

}  // namespace

LoadedModels::Entry* LoadedModels::Find(const std::string& id) {
  const auto found =
      std::ranges::find_if(entries_, [&](const Entry& entry) { return entry.model.id == id; });
  return found == entries_.end() ? nullptr : &*found;
}

size_t LoadedModels::BytesOf(const Entry& entry) const {
  return entry.model.bytes + (entry.pipeline == nullptr ? 0 : kept_(*entry.pipeline));
}

bool LoadedModels::HasRoomFor(size_t bytes) const {
  size_t taken = 0;
  for (const Entry& entry : entries_) taken += BytesOf(entry);
  return taken + bytes <= max_bytes_;
}

bool LoadedModels::LetGoFor(size_t bytes) {
  bool has_let_go = false;
  bool has_room = HasRoomFor(bytes);
  while (!has_room) {
    const auto longest_unused = std::ranges::min_element(entries_, {}, [](const Entry& entry) {
      return std::pair(entry.leases > 0, entry.last_use);
    });
    if (longest_unused == entries_.end() || longest_unused->leases > 0) break;
    entries_.erase(longest_unused);
    has_let_go = true;
    has_room = HasRoomFor(bytes);
  }
  if (has_let_go) malloc_trim(0);  // what the C library keeps of tokenizers and copied weights
  return has_room;
}

bool LoadedModels::LetGoAll() {
  if (std::erase_if(entries_, [](const Entry& entry) { return entry.leases == 0; }) > 0) {
    malloc_trim(0);
  }
  return entries_.empty();
}

// What would not be enough stays; jobs that come to keep more meanwhile can leave no room after
// all.
bool LoadedModels::MakeRoomFor(size_t bytes) {
  size_t held = 0;
  for (const Entry& entry : entries_) held += entry.leases > 0 ? BytesOf(entry) : 0;
  return held + bytes <= max_bytes_ && LetGoFor(bytes);
}

LoadedModels::Lease LoadedModels::LeaseOf(Entry& entry) {
  ++entry.leases;
  entry.last_use = ++uses_;
  return {entry.pipeline.get(), [this, &entry](const Pipeline*) {
            {
              const std::scoped_lock lock(mutex_);
              --entry.leases;
              entry.last_use = ++uses_;
            }
            changed_.notify_all();
          }};
}

LoadedModels::Lease LoadedModels::Load(const ModelSource& model,
                                       std::unique_lock<std::mutex>& lock) {
  Entry& entry = entries_.emplace_back(Entry{.model = model, .leases = 1});
  lock.unlock();
  std::unique_ptr<const Pipeline> pipeline;
  try {
    pipeline = std::make_unique<const Pipeline>(model.folder);
  } catch (...) {
    lock.lock();
    std::erase_if(entries_, [&](const Entry& other) { return &other == &entry; });
    throw;
  }
  lock.lock();
  entry.pipeline = std::move(pipeline);
  Lease lease = LeaseOf(entry);
  --entry.leases;  // that kept it from being let go meanwhile
  return lease;
}

LoadedModels::Place::Place(LoadedModels& models) : models_(models), ticket_(models.next_ticket_++) {
  models_.line_.push_back(ticket_);
}

LoadedModels::Place::~Place() {
  models_.line_.remove(ticket_);
  models_.changed_.notify_all();
}

LoadedModels::Lease LoadedModels::Borrow(const ModelSource& model,
                                         const std::function<bool()>& gives_up, bool is_alone) {
  std::unique_lock lock(mutex_);
  const Place place(*this);
  while (true) {
    if (place.IsFirst() && (!is_alone || LetGoAll())) {
      if (Entry* entry = Find(model.id)) {
        Lease lease = LeaseOf(*entry);
        LetGoFor(0);  // where models came to keep more than there was room for
        return lease;
      }
      if (MakeRoomFor(model.bytes)) return Load(model, lock);
    }
    if (gives_up()) return nullptr;
    changed_.wait_for(lock, kAskAgain);
  }
}

LoadedModels::Lease LoadedModels::Look(const ModelSource& model) {
  {
    std::unique_lock lock(mutex_);
    Entry* entry = Find(model.id);
    if (entry != nullptr && entry->pipeline != nullptr) return LeaseOf(*entry);
    if (line_.empty() && HasRoomFor(model.bytes)) {
      const Place place(*this);
      return Load(model, lock);
    }
  }
  return std::make_shared<const Pipeline>(model.folder);
}

bool LoadedModels::IsAlone(const std::string& id) const {
  const std::scoped_lock lock(mutex_);
  return std::ranges::all_of(entries_, [&](const Entry& entry) { return entry.model.id == id; });
}

bool LoadedModels::IsLoaded(const std::string& id) const {
  const std::scoped_lock lock(mutex_);
  return std::ranges::any_of(entries_, [&](const Entry& entry) {
    return entry.model.id == id && entry.pipeline != nullptr;
  });
}

size_t LoadedModels::bytes() const {
  const std::scoped_lock lock(mutex_);
  size_t bytes = 0;
  for (const Entry& entry : entries_) bytes += BytesOf(entry);
  return bytes;
}

}  // namespace tamias::serve
