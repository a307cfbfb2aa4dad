// tamias: pictures and films from diffusion transformers, several times faster by dynamic
// column-sparse deltas. Exit status: 0 done, 1 the run failed or was interrupted, 2 the input was
// at fault.
#include <utf8proc.h>

#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <string_view>

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

// One line of valid UTF-8: messages may quote bytes of a broken file.
std::string Printable(std::string_view text) {
  std::string line;
  for (size_t i = 0; i < text.size();) {
    utf8proc_int32_t code_point = 0;
    const auto size = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(&text[i]),
                                       static_cast<utf8proc_ssize_t>(text.size() - i), &code_point);
    if (size > 0 && code_point >= ' ') {
      line += text.substr(i, static_cast<size_t>(size));
    } else {
      line += '?';
    }
    i += size > 0 ? static_cast<size_t>(size) : 1;
  }
  return line;
}

int Fail(const char* message, int status) {
  std::fprintf(stderr, "tamias: error: %s\n", Printable(message).c_str());
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Generates pictures and films with diffusion transformers, accelerated without training.",
      "tamias"};
  app.set_version_flag("--version", "tamias " + tamias::Version());
  app.require_subcommand(1);
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.footer("Run `tamias COMMAND --help` for the options and examples of a command.");
  tamias::cli::AddGenerateCommand(app);
  tamias::cli::AddDecodeCommand(app);
  tamias::cli::AddCompareCommand(app);
  tamias::cli::AddBenchCommand(app);
  tamias::cli::AddInspectCommand(app);
  tamias::cli::AddTuneCommand(app);
  tamias::cli::InstallInterruptHandler();

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {  // --help, --version
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    return Fail((std::string(error.what()) + " (see --help)").c_str(), kBadInput);
  } catch (const tamias::Error& error) {
    return Fail(error.what(), ExitStatus(error.code()));
  } catch (const std::bad_alloc&) {
    return Fail("out of memory", kFailure);
  } catch (const std::exception& error) {
    return Fail(error.what(), kFailure);
  }
  return 0;
}
