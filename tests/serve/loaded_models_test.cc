#include "serve/loaded_models.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tamias/error.h"

namespace tamias::serve {
namespace {

constexpr auto kMoment = std::chrono::milliseconds(250);

// The same folder under several names: who is let go for whom does not depend on what lies in it.
ModelSource Model(const std::string& id, size_t bytes = 10) {
  return {id, std::filesystem::path(TAMIAS_SOURCE_DIR) / "models/demo-flux", bytes};
}

bool Never() { return false; }

TEST(LoadedModels, LoadsOnceWhatIsBorrowed) {
  LoadedModels models(100);
  EXPECT_FALSE(models.IsLoaded("a"));
  const LoadedModels::Lease first = models.Borrow(Model("a"), Never);
  const LoadedModels::Lease second = models.Borrow(Model("a"), Never);
  EXPECT_EQ(first.get(), second.get());
  EXPECT_TRUE(models.IsLoaded("a"));
  EXPECT_EQ(models.bytes(), 10U);
}

TEST(LoadedModels, LetsGoOfTheLeastRecentlyUsed) {
  LoadedModels models(20);
  models.Borrow(Model("a"), Never);
  models.Borrow(Model("b"), Never);
  models.Borrow(Model("a"), Never);
  models.Borrow(Model("c"), Never);
  EXPECT_TRUE(models.IsLoaded("a") && !models.IsLoaded("b") && models.IsLoaded("c"));
  models.Borrow(Model("large", 20), Never);
  EXPECT_TRUE(!models.IsLoaded("a") && !models.IsLoaded("c") && models.IsLoaded("large"));
  EXPECT_EQ(models.bytes(), 20U);
}

TEST(LoadedModels, CountsWhatPipelinesComeToKeep) {
  size_t kept = 0;
  LoadedModels models(30, [&](const Pipeline&) { return kept; });
  models.Borrow(Model("a"), Never);
  models.Borrow(Model("b"), Never);
  kept = 5;
  EXPECT_EQ(models.bytes(), 30U);
  models.Borrow(Model("c"), Never);
  EXPECT_TRUE(!models.IsLoaded("a") && models.IsLoaded("b") && models.IsLoaded("c"));
  EXPECT_EQ(models.bytes(), 30U);
}

// A job pins memory whenever it loads, also while another's model is let go.
TEST(LoadedModels, KeepsWhatIsHeldWhileItComesToKeepMore) {
  const Pipeline* growing = nullptr;
  size_t kept = 0;
  LoadedModels models(
      30, [&](const Pipeline& pipeline) { return &pipeline == growing ? kept += 3 : 0; });
  const LoadedModels::Lease held = models.Borrow(Model("a"), Never);
  models.Borrow(Model("b"), Never);
  growing = held.get();
  // Beside a's 13 there is room for 15 when it is asked first.
  EXPECT_EQ(models.Borrow(Model("c", 15), [] { return true; }), nullptr);
  EXPECT_TRUE(models.IsLoaded("a") && !models.IsLoaded("b") && !models.IsLoaded("c"));
  EXPECT_EQ(held->info().family, "FluxPipeline");
}

TEST(LoadedModels, LetsGoOfWhatNobodyHoldsWhereJobsCameToKeepTooMuch) {
  const Pipeline* pinned = nullptr;
  LoadedModels models(20, [&](const Pipeline& pipeline) { return &pipeline == pinned ? 5U : 0U; });
  models.Borrow(Model("a"), Never);
  LoadedModels::Lease held = models.Borrow(Model("b"), Never);
  pinned = held.get();
  EXPECT_EQ(models.bytes(), 25U);
  held = models.Borrow(Model("b"), Never);
  EXPECT_TRUE(!models.IsLoaded("a") && models.IsLoaded("b"));
  EXPECT_EQ(models.bytes(), 15U);
}

TEST(LoadedModels, KeepsWhatIsHeldAndLetsOthersWaitInLine) {
  LoadedModels models(10);
  LoadedModels::Lease held = models.Borrow(Model("a"), Never);
  std::atomic<int> place = 0;
  int place_of_b = 0, place_of_a = 0;
  std::thread waits_for_b([&] {
    const auto lease = models.Borrow(Model("b"), Never);
    place_of_b = ++place;
    std::this_thread::sleep_for(kMoment);
  });
  std::this_thread::sleep_for(kMoment);
  // It is in memory, but b came first.
  std::thread waits_for_a([&] {
    const auto lease = models.Borrow(Model("a"), Never);
    place_of_a = ++place;
  });
  std::this_thread::sleep_for(kMoment);
  EXPECT_EQ(place, 0);
  EXPECT_TRUE(models.IsLoaded("a"));
  held.reset();
  waits_for_b.join();
  waits_for_a.join();
  EXPECT_EQ(place_of_b, 1);
  EXPECT_EQ(place_of_a, 2);
}

TEST(LoadedModels, WhoIsAloneWaitsForOthersAndLetsThemGo) {
  LoadedModels models(100);
  models.Borrow(Model("a"), Never);
  EXPECT_TRUE(models.IsAlone("a"));
  LoadedModels::Lease held = models.Borrow(Model("b"), Never);
  EXPECT_FALSE(models.IsAlone("a"));
  const auto at_once = [] { return true; };
  EXPECT_EQ(models.Borrow(Model("a"), at_once, /*is_alone=*/true), nullptr);
  held.reset();
  EXPECT_NE(models.Borrow(Model("a"), at_once, /*is_alone=*/true), nullptr);
  EXPECT_TRUE(models.IsAlone("a") && models.IsLoaded("a"));
}

TEST(LoadedModels, WaitsNoLongerThanItsCallerLikes) {
  LoadedModels models(10);
  const LoadedModels::Lease held = models.Borrow(Model("a"), Never);
  EXPECT_EQ(models.Borrow(Model("b"), [] { return true; }), nullptr);
  EXPECT_NE(models.Borrow(Model("a"), Never), nullptr);
}

TEST(LoadedModels, LooksWithoutWaitingAndWithoutLettingGo) {
  LoadedModels models(15);
  EXPECT_NE(models.Look(Model("a")), nullptr);
  EXPECT_TRUE(models.IsLoaded("a"));
  const LoadedModels::Lease passing = models.Look(Model("b"));
  EXPECT_EQ(passing->info().family, "FluxPipeline");
  EXPECT_TRUE(models.IsLoaded("a") && !models.IsLoaded("b"));
  EXPECT_EQ(models.bytes(), 10U);
}

TEST(LoadedModels, HasItsRoomBackWhereLoadingFails) {
  LoadedModels models(10);
  const ModelSource none{"none", "/nowhere", 10};
  EXPECT_THROW(models.Borrow(none, Never), Error);
  EXPECT_EQ(models.bytes(), 0U);
  EXPECT_NE(models.Borrow(Model("a"), Never), nullptr);
}

TEST(LoadedModels, ServesManyThreads) {
  LoadedModels models(20);
  std::atomic<int> served = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 5; ++k) {
        const auto lease =
            models.Borrow(Model(std::string(1, static_cast<char>('a' + (i + k) % 4))), Never);
        if (lease != nullptr && models.bytes() <= 20) ++served;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(served, 30);
}

}  // namespace
}  // namespace tamias::serve
