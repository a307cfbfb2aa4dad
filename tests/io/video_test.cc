// Films are read back by other programs: ffprobe and ffmpeg (scripts/setup installs them).
#include "io/video.h"

#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/errors.h"
#include "tests/support/test_files.h"

extern "C" {
#include <libavutil/log.h>
}

namespace tamias {
namespace {

// A soft light that moves over a gradient: what 4:2:0 can hold.
Image Picture(int width, int height, int frame) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double dx = x - 0.3 * width - 2 * frame;
      const double dy = y - 0.5 * height;
      const double light = std::exp(-(dx * dx + dy * dy) / (0.02 * width * height + 1));
      image.rgb.push_back(static_cast<uint8_t>(40 + 200 * light));
      image.rgb.push_back(static_cast<uint8_t>(200 * y / height));
      image.rgb.push_back(static_cast<uint8_t>(250 - 200 * x / width));
    }
  }
  return image;
}

Video Film(int width, int height, int frames, double fps = 16) {
  Video video{fps, {}};
  for (int i = 0; i < frames; ++i) video.frames.push_back(Picture(width, height, i));
  return video;
}

std::string OutputOf(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  EXPECT_NE(pipe, nullptr) << command;
  std::string output;
  char buffer[4096];
  for (size_t count; (count = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) {
    output.append(buffer, count);
  }
  EXPECT_EQ(pclose(pipe), 0) << command;
  return output;
}

nlohmann::json Probe(const std::filesystem::path& path) {
  return nlohmann::json::parse(
      OutputOf("ffprobe -v error -count_frames -show_streams -show_format -of json '" +
               path.string() + "'"));
}

std::vector<Image> Decode(const std::filesystem::path& path, int width, int height) {
  const std::string pixels =
      OutputOf("ffmpeg -v error -i '" + path.string() +
               "' -f rawvideo -pix_fmt rgb24 -sws_flags accurate_rnd+bicubic "
               "-");
  const size_t size = static_cast<size_t>(width) * static_cast<size_t>(height) * 3;
  EXPECT_EQ(pixels.size() % size, 0u);
  std::vector<Image> frames;
  for (size_t at = 0; at + size <= pixels.size(); at += size) {
    frames.push_back({width, height, {pixels.begin() + at, pixels.begin() + at + size}});
  }
  return frames;
}

size_t Count(const std::string& bytes, std::string_view tag) {
  size_t count = 0;
  for (size_t at = 0; (at = bytes.find(tag, at)) != std::string::npos; ++at) ++count;
  return count;
}

TEST(Video, Mp4HoldsFramesRateSizeAndText) {
  const TemporaryFolder folder;
  for (const double fps : {16.0, 24.0, 24000.0 / 1001, 0.5}) {
    const Video video = Film(96, 64, 13, fps);
    WriteVideo(folder / "a.mp4", video,
               {{"Description", "ein Bär — 熊"}, {"tamias", R"({"a": 1})"}});
    const nlohmann::json probe = Probe(folder / "a.mp4");
    const nlohmann::json& stream = probe.at("streams").at(0);
    EXPECT_EQ(probe.at("streams").size(), 1u);
    EXPECT_EQ(stream.at("codec_name"), "h264");
    EXPECT_EQ(stream.at("pix_fmt"), "yuv420p");
    EXPECT_EQ(stream.at("color_space"), "bt709");
    EXPECT_EQ(stream.at("width"), 96);
    EXPECT_EQ(stream.at("height"), 64);
    EXPECT_EQ(stream.at("nb_read_frames"), "13");
    int numerator = 0, denominator = 0;
    const std::string rate = stream.at("r_frame_rate");
    ASSERT_EQ(std::sscanf(rate.c_str(), "%d/%d", &numerator, &denominator), 2) << rate;
    EXPECT_NEAR(1.0 * numerator / denominator, fps, 1e-6);
    EXPECT_NEAR(std::stod(probe.at("format").at("duration").get<std::string>()), 13 / fps, 1e-3);
    EXPECT_EQ(probe.at("format").at("tags").at("title"), "ein Bär — 熊");
    EXPECT_EQ(probe.at("format").at("tags").at("comment"), R"({"a": 1})");
    EXPECT_EQ(folder.NumFiles(), 1u);
  }
}

TEST(Video, Mp4LooksLikeItsSource) {
  const TemporaryFolder folder;
  const Video video = Film(96, 64, 9);
  WriteVideo(folder / "a.mp4", video);
  const std::vector<Image> frames = Decode(folder / "a.mp4", 96, 64);
  ASSERT_EQ(frames.size(), 9u);
  for (size_t i = 0; i < frames.size(); ++i) EXPECT_GT(Psnr(frames[i], video.frames[i]), 40) << i;
}

TEST(Video, EveryMp4EncoderMakesAFilm) {
  const TemporaryFolder folder;
  const Video video = Film(64, 64, 5);
  for (const char* encoder : kMp4Encoders) {
    WriteBytes(folder / "a.mp4", EncodeMp4(video, {}, {&encoder, 1}));
    const std::vector<Image> frames = Decode(folder / "a.mp4", 64, 64);
    ASSERT_EQ(frames.size(), 5u) << encoder;
    for (size_t i = 0; i < 5; ++i) EXPECT_GT(Psnr(frames[i], video.frames[i]), 35) << encoder;
  }
  ExpectError(ErrorCode::kUnsupported, "none of the encoders", [&] { EncodeMp4(video, {}, {}); });
}

TEST(Video, Mp4BeginsWithItsIndex) {
  const std::string bytes = EncodeMp4(Film(64, 64, 3), {});
  EXPECT_EQ(bytes.substr(4, 4), "ftyp");
  EXPECT_LT(bytes.find("moov"), bytes.find("mdat"));
}

TEST(Video, OddSidesBecomeEven) {
  const TemporaryFolder folder;
  for (const auto& [width, height] : {std::pair{1, 1}, {33, 17}, {64, 35}}) {
    const Video video = Film(width, height, 3);
    WriteVideo(folder / "a.mp4", video);
    const std::vector<Image> frames =
        Decode(folder / "a.mp4", width + width % 2, height + height % 2);
    ASSERT_EQ(frames.size(), 3u);
    for (size_t channel = 0; channel < 3; ++channel) {
      const size_t last = video.frames[2].rgb.size() - 3 + channel;
      EXPECT_NEAR(frames[2].rgb[frames[2].rgb.size() - 3 + channel], video.frames[2].rgb[last], 6);
    }
    WriteVideo(folder / "a.webp", video);
  }
}

TEST(Video, WebpIsAnimatedAndRepeats) {
  const std::string bytes = EncodeVideo(VideoFormat::kWebp, Film(64, 48, 6, 10));
  EXPECT_EQ(bytes.substr(0, 4), "RIFF");
  EXPECT_EQ(bytes.substr(8, 4), "WEBP");
  EXPECT_EQ(Count(bytes, "ANMF"), 6u);
  const size_t animation = bytes.find("ANIM");
  ASSERT_NE(animation, std::string::npos);
  EXPECT_EQ(bytes.substr(animation + 12, 2), std::string(2, '\0'));  // repeats without end
}

TEST(Video, SameFilmSameBytes) {
  const Video video = Film(96, 64, 12);
  EXPECT_TRUE(EncodeMp4(video, {{"tamias", "x"}}) == EncodeMp4(video, {{"tamias", "x"}}));
  EXPECT_FALSE(EncodeMp4(video, {{"tamias", "x"}}) == EncodeMp4(video, {{"tamias", "y"}}));
  EXPECT_TRUE(EncodeVideo(VideoFormat::kWebp, video) == EncodeVideo(VideoFormat::kWebp, video));
}

TEST(Video, ThreadsDoNotDisturbEachOtherOrTheLog) {
  const int level = av_log_get_level();
  const std::string expected = EncodeMp4(Film(64, 64, 4), {});
  std::string found[3];
  {
    std::vector<std::jthread> threads;
    for (std::string& one : found) {
      threads.emplace_back([&] { one = EncodeMp4(Film(64, 64, 4), {}); });
    }
  }
  for (const std::string& one : found) EXPECT_TRUE(one == expected);
  EXPECT_EQ(av_log_get_level(), level);
}

TEST(Video, RefusesWhatIsNoFilm) {
  const TemporaryFolder folder;
  const auto expect = [&](std::string_view text, const Video& video) {
    ExpectError(ErrorCode::kInvalidArgument, text, [&] { WriteVideo(folder / "a.mp4", video); });
    ExpectError(ErrorCode::kInvalidArgument, text, [&] { WriteVideo(folder / "a.webp", video); });
    EXPECT_EQ(folder.NumFiles(), 0u);
  };
  for (const double fps : {0.0, -1.0, 0.001, 1001.0, std::numeric_limits<double>::quiet_NaN(),
                           std::numeric_limits<double>::infinity()}) {
    expect("fps: expected a number from 0.01 to 1000", Film(16, 16, 2, fps));
  }
  expect("no frames", Film(16, 16, 0));
  expect("frames of 0x0 pixels", Film(0, 0, 1));
  expect("frames of 8193x2 pixels", Film(8193, 2, 1));
  Video uneven = Film(16, 16, 2);
  uneven.frames.push_back(Picture(32, 16, 0));
  expect("frame 2 is 32x16 pixels, the frames before it are 16x16", uneven);
  Video cut = Film(16, 16, 2);
  cut.frames[1].rgb.pop_back();
  expect("frame 1 of 16x16 pixels needs 768 bytes of RGB, found 767", cut);
  ExpectError(ErrorCode::kInvalidArgument, "text 'tamias'", [&] {
    WriteVideo(folder / "a.mp4", Film(16, 16, 2), {{"tamias", std::string(1, '\0')}});
  });
}

TEST(Video, ExtensionsNameTheFormat) {
  const TemporaryFolder folder;
  const Video video = Film(16, 16, 2);
  for (const char* name : {"a.avi", "a", "mp4", "a.png", ".mp4"}) {
    EXPECT_FALSE(IsVideoPath(name)) << name;
    ExpectError(ErrorCode::kInvalidArgument, "expected a film's extension: .mp4 or .webp",
                [&] { WriteVideo(folder / name, video); });
  }
  EXPECT_EQ(folder.NumFiles(), 0u);
  WriteVideo(folder / "a.MP4", video);
  EXPECT_TRUE(ReadBytes(folder / "a.MP4") == EncodeMp4(video, {}));
}

TEST(Video, NamesThePathThatCannotBeWritten) {
  const TemporaryFolder folder;
  const Video video = Film(16, 16, 2);
  ExpectError(ErrorCode::kIo, "none/a.mp4: cannot create: No such file",
              [&] { WriteVideo(folder / "none/a.mp4", video); });
  std::filesystem::create_symlink("/dev/full", folder / "full.mp4");
  ExpectError(ErrorCode::kIo, "/full.mp4: cannot write: No space left on device",
              [&] { WriteVideo(folder / "full.mp4", video); });
  EXPECT_EQ(folder.NumFiles(), 1u);
}

}  // namespace
}  // namespace tamias
