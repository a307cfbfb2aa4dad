#include "ops/cpu/tiles.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "ops/cpu/bfloat16.h"
#include "tamias/ops/attention.h"
#include "tamias/ops/column_sparse_mlp.h"
#include "tests/support/bfloat16.h"
#include "tests/support/random_tensors.h"
#include "tests/tile_emulator/tiles.h"

namespace tamias {
namespace {
namespace tiles = cpu::tiles;

TEST(Tiles, ConfigurationIsWhatTheProcessorReads) {
  static_assert(sizeof(tiles::Configuration) == 64);
  const tiles::Configuration configuration;
  const auto* bytes = reinterpret_cast<const uint8_t*>(&configuration);
  for (int i = 0; i < 64; ++i) {
    const bool is_width = i >= 16 && i < 32 && i % 2 == 0, is_height = i >= 48 && i < 56;
    EXPECT_EQ(bytes[i], i == 0 ? 1 : is_width ? 64 : is_height ? 16 : 0) << "byte " << i;
  }
}

TEST(Tiles, MultiplyPairsOfRowsThatLieApart) {
  Random random(1);
  const Tensor a = InBFloat16(random.Normal({16, 40})), b = InBFloat16(random.Normal({16, 48}));
  const Tensor before = random.Normal({16, 20});
  Tensor sum(before.shape(), DType::kF32);
  std::copy_n(before.data<float>(), before.NumElements(), sum.data<float>());
  {
    const tiles::Session session;
    tiles::Load<1>(a.view().raw(), 80);
    tiles::Load<2>(b.view().raw(), 96);
    tiles::Load<0>(sum.data<float>(), 80);
    tiles::MultiplyPairs<0, 1, 2>();
    tiles::Store<0>(sum.data<float>(), 80);
  }
  for (int64_t i = 0; i < 16; ++i) {
    for (int64_t j = 0; j < 20; ++j) {
      double expected = before.data<float>()[i * 20 + j];
      for (int64_t k = 0; j < 16 && k < 32; ++k) {
        expected += static_cast<double>(ToFloat(a.data<BFloat16>()[i * 40 + k])) *
                    static_cast<double>(ToFloat(b.data<BFloat16>()[k / 2 * 48 + 2 * j + k % 2]));
      }
      EXPECT_NEAR(sum.data<float>()[i * 20 + j], expected, 1e-5);
    }
  }
}

TEST(TilesDeathTest, EndAProgramThatUsesThemOutsideOfASession) {
  EXPECT_DEATH(tiles::Zero<0>(), "outside of a session");
  EXPECT_DEATH(
      {
        const tiles::Session session;
        const tiles::Session again;
      },
      "configured twice");
}

// Whether an operation multiplies in tiles.
template <typename Body>
bool UsesTiles(const Body& body) {
  const int64_t before = tiles::ProductsSoFar();
  body();
  return tiles::ProductsSoFar() > before;
}

TEST(Tiles, ServeRowsOfWholeTiles) {
  Random random(2);
  Context context(BFloat16OnCpu(), 2);
  for (const int64_t head_dim : {64, 72}) {
    const Tensor rows = InBFloat16(random.Normal({1, 1, 50, head_dim}));
    Tensor output(rows.shape(), DType::kBF16);
    const AttentionInputs inputs{.query = rows, .key = rows, .value = rows, .scale = 0.1f};
    EXPECT_EQ(UsesTiles([&] { DenseAttention(context, inputs, output); }),
              head_dim == 64 && cpu::MultipliesInTiles());
  }
  for (const int64_t width : {64, 68}) {
    const Tensor input = InBFloat16(random.Normal({1, 32, width}));
    const Tensor fc1 = InBFloat16(random.Normal({8, width}));
    const Tensor fc2 = InBFloat16(random.Normal({8, width}));
    Tensor cache = InBFloat16(random.Normal({1, 1, 8, 32})), output = random.Normal({1, 32, width});
    Tensor indices = Tensor::Zeros({1, 1, 8}, DType::kI32), counts({1, 1}, DType::kI32);
    counts.data<int32_t>()[0] = 1;
    const MlpWeights weights{.fc1_weight = fc1,
                             .fc1_bias = {},
                             .fc2_weight = {},
                             .fc2_weight_transposed = fc2,
                             .fc2_bias = {}};
    const NeuronSelection selection{.indices = indices, .counts = counts, .group_size = 32};
    EXPECT_EQ(
        UsesTiles([&] { ColumnSparseMlp(context, input, weights, selection, cache, output); }),
        width == 64 && cpu::MultipliesInTiles());
  }
}

}  // namespace
}  // namespace tamias
