// Rows that a GPU fetches from another, in the two layouts that attention needs; where there is one
// GPU, from itself.
#include "base/cuda/peer.h"

#include <gmock/gmock.h>

#include "tests/support/compare_tensors.h"
#include "tests/support/device_test.h"
#ifdef TAMIAS_CUDA_EMULATION
#include "tests/cuda_emulator/device.h"
#endif

namespace tamias::cuda {
namespace {

using ::testing::HasSubstr;

class CudaPeer : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
#ifdef TAMIAS_CUDA_EMULATION
    cuda_emulator::SetDevices({"emulator", "emulator"});
#endif
    peer_ = DeviceCount() > 1 ? 1 : 0;
  }
#ifdef TAMIAS_CUDA_EMULATION
  void TearDown() override { cuda_emulator::SetDevices({"emulator"}); }
#endif

  // What is at `to` of zeros of a shape once `from` of values of another has been fetched there.
  template <typename From, typename To>
  static void ExpectFetched(int peer, const Shape& source, const Shape& destination,
                            const From& from, const To& to) {
    Stream own(0), theirs(peer);
    if (peer != 0) AllowPeerAccess(0, peer);
    Tensor values = RandomTensor(source, 1), expected = Tensor::Zeros(destination, DType::kF32);
    const Tensor there = ToDevice(theirs, values);
    Tensor here = ToDevice(own, expected);
    CopyFromPeer(own, from(there.view()), TensorView(to(here.view())));
    CopyOnHost(from(static_cast<const Tensor&>(values).view()), to(expected.view()));
    EXPECT_TRUE(SameBytes(ToHost(own, here), expected));
  }

  int peer_ = 0;
};

// [1, H, n, D] of some heads into their tokens among all, [1, H', S, D].
TEST_F(CudaPeer, TokensOfHeadsAreFetched) {
  ExpectFetched(
      peer_, {1, 4, 3, 8}, {1, 2, 10, 8}, [](const auto& from) { return from.Slice(1, 2, 4); },
      [](const auto& to) { return to.Slice(2, 5, 8); });
}

// [1, S, H', D] of some tokens into their heads among all, [1, n, H, D].
TEST_F(CudaPeer, HeadsOfTokensAreFetched) {
  ExpectFetched(
      peer_, {1, 10, 2, 8}, {1, 3, 6, 8}, [](const auto& from) { return from.Slice(1, 5, 8); },
      [](const auto& to) { return to.Slice(2, 4, 6); });
}

TEST_F(CudaPeer, WholeTensorsAndNothingAreFetched) {
  const auto all = [](const auto& view) { return view; };
  ExpectFetched(peer_, {3, 5}, {3, 5}, all, all);
  ExpectFetched(peer_, {0, 5}, {0, 5}, all, all);
  ExpectFetched(peer_, {5}, {5}, all, all);
}

TEST_F(CudaPeer, AccessMayBeAllowedAgain) {
  if (peer_ == 0) {
    GTEST_SKIP() << "this machine has one GPU, and it takes two for one to read the other; the "
                    "emulator, which has two, allows it in every run of the tests";
  }
  AllowPeerAccess(0, peer_);
  AllowPeerAccess(0, peer_);
}

TEST_F(CudaPeer, RefusesWhatAreNotRowsOfOneShapeOnTwoGpus) {
  Stream stream(0);
  const Tensor from = DeviceTensor({4, 4, 4}, DType::kF32, peer_);
  Tensor to = DeviceTensor({4, 4, 4}, DType::kF32, 0);
  Tensor host({4, 4, 4}, DType::kF32);
  const auto error_of = [&](const ConstTensorView& source, const TensorView& destination) {
    return ArgumentErrorOf([&] { CopyFromPeer(stream, source, destination); });
  };
  EXPECT_THAT(
      error_of(from.view().Slice(1, 0, 2).Slice(2, 0, 2), to.view().Slice(1, 0, 2).Slice(2, 0, 2)),
      HasSubstr("expected rows, found strides"));
  EXPECT_THAT(error_of(from, to.view().Slice(0, 0, 2)), HasSubstr("destination: expected f32"));
  EXPECT_THAT(error_of(host, to), HasSubstr("expected tensors on a GPU"));
  EXPECT_THAT(error_of(from, host), HasSubstr("expected tensors on a GPU"));
}

}  // namespace
}  // namespace tamias::cuda
