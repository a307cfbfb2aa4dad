// A project of its own that uses an installed Tamias.
#include <tamias/pipeline.h>
#include <cstdio>

int main(int argc, char** argv) {
  const tamias::Pipeline pipeline(argc > 1 ? argv[1] : "models/demo-flux");
  std::printf("tamias %s: %s\n", tamias::Version().c_str(), pipeline.info().family.c_str());
}
