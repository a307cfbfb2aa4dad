// tamias: pictures from diffusion transformers, several times faster by dynamic column-sparse
// deltas. Exit status: 0 done, 1 the run failed or was interrupted, 2 the input was at fault.
#include <cstdio>
#include <exception>
#include <new>

#include "commands.h"
#include "interrupt.h"
#include "tamias/pipeline.h"

namespace {

constexpr int kFailure = 1;
constexpr int kBadInput = 2;

int ExitStatus(tamias::ErrorCode code) {
  switch (code) {
    case tamias::ErrorCode::kInvalidArgument:
    case tamias::ErrorCode::kInvalidFile:
    case tamias::ErrorCode::kNotFound:
    case tamias::ErrorCode::kUnsupported:
    case tamias::ErrorCode::kOutOfMemory:  // of the plan: the request is too large for the machine
      return kBadInput;
    default:
      return kFailure;
  }
}

int Fail(const char* message, int status) {
  std::fprintf(stderr, "tamias: error: %s\n", message);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Generates pictures with diffusion transformers, accelerated without training.",
               "tamias"};
  app.set_version_flag("--version", "tamias " + tamias::Version());
  app.require_subcommand(1);
  app.footer("Run `tamias COMMAND --help` for the options and examples of a command.");
  tamias::cli::AddGenerateCommand(app);
  tamias::cli::AddCompareCommand(app);
  tamias::cli::AddBenchCommand(app);
  tamias::cli::AddInspectCommand(app);
  tamias::cli::InstallInterruptHandler();

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {  // --help, --version
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "tamias: error: %s\n", error.what());
    std::fprintf(stderr, "Run with --help for the options.\n");
    return kBadInput;
  } catch (const tamias::Error& error) {
    return Fail(error.what(), ExitStatus(error.code()));
  } catch (const std::bad_alloc&) {
    return Fail("out of memory", kFailure);
  } catch (const std::exception& error) {
    return Fail(error.what(), kFailure);
  }
  return 0;
}
