// A project of its own that uses an installed Tamias: consumer MODEL FILM.mp4
#include <tamias/pipeline.h>

#include <cstdio>

int main(int argc, char** argv) {
  const tamias::Pipeline pipeline(argc > 1 ? argv[1] : "models/demo-flux");
  std::printf("tamias %s: %s\n", tamias::Version().c_str(), pipeline.info().family.c_str());
  const tamias::Image grey{16, 16, std::vector<uint8_t>(16 * 16 * 3, 128)};
  if (argc > 2) tamias::WriteVideo(argv[2], {8, {grey, grey}});
}
