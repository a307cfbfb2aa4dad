// tamias: pictures and films from diffusion transformers, several times faster by dynamic
// column-sparse deltas. Exit status: 0 done, 1 the run failed or was interrupted, 2 the input was
// at fault.
#include <utf8proc.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "commands.h"
#include "standard_streams.h"
#include "tamias/error.h"
#include "tamias/pipeline.h"
#include "tamias/text.h"

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

// The innermost command that the arguments name, and how it is called.
const CLI::App* CommandOf(const CLI::App& app, std::string& name) {
  name = app.get_name();
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    name += " " + command->get_name();
  }
  return command;
}

// What to say of an argument that a command does not know.
std::string UnknownArgument(const CLI::App& command, const std::string& name,
                            const std::string& argument) {
  const std::string word = argument.substr(0, argument.find('='));
  const bool is_option = word.starts_with('-');
  std::vector<std::string> names;
  if (is_option) {
    for (const CLI::Option* option : command.get_options()) names.push_back(option->get_name());
  } else {
    for (const CLI::App* one : command.get_subcommands({})) names.push_back(one->get_name());
  }
  const std::vector<std::string_view> known(names.begin(), names.end());
  const std::string nearest = tamias::NearestName(word, known);
  const char* what = is_option       ? "unknown option"
                     : names.empty() ? "unexpected"
                                     : "unknown command";
  return "'" + word + "': " + what + (names.empty() ? " for `" : " of `") + name + "`" +
         (nearest.empty() ? "" : "; did you mean '" + nearest + "'?");
}

// A mistyped name is said before what is then missing.
std::string Describe(const CLI::App& app, const CLI::ParseError& error) {
  std::string name;
  const CLI::App* command = CommandOf(app, name);
  const std::vector<std::string> unknown = command->remaining();
  std::string message = error.what();
  if (!unknown.empty()) message = UnknownArgument(*command, name, unknown.front());
  return message + " (see `" + name + " --help`)";
}

// Of the library's fields whose option has another name.
constexpr std::pair<std::string_view, std::string_view> kOptionsOfFields[] = {
    {"num_frames", "frames"},
};

// A message about an argument begins with its field in the library, "min_psnr: ...": here with the
// option, where the command has it.
std::string NamedByOption(const CLI::App& command, const std::string& message) {
  std::string option = message.substr(0, message.find(':'));
  for (const auto& [field, name] : kOptionsOfFields) {
    if (option == field) option = name;
  }
  std::ranges::replace(option, '_', '-');
  option.insert(0, "--");
  if (command.get_option_no_throw(option) == nullptr) return message;
  return option + message.substr(message.find(':'));
}

// Messages about files begin with the file instead.
std::string Describe(const CLI::App& app, const tamias::Error& error) {
  const bool is_of_argument = error.code() == tamias::ErrorCode::kInvalidArgument ||
                              error.code() == tamias::ErrorCode::kOutOfMemory;
  std::string name;
  return is_of_argument ? NamedByOption(*CommandOf(app, name), error.what()) : error.what();
}

// An empty value is mostly a shell's variable that is not set; only texts may be empty.
void RefuseEmptyValues(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_items_expected_max() == 0 || option->get_type_name() == "TEXT") continue;
    option->check(
        [](const std::string& value) { return value.empty() ? "expected a value, found ''" : ""; });
  }
  for (CLI::App* command : app.get_subcommands({})) RefuseEmptyValues(*command);
}

// `output_error`: the errno value of a failure to write to standard output, which is told when it
// is flushed.
int RunCommand(CLI::App& app, int argc, char** argv, int& output_error) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {  // --help, --version
    errno = 0;
    const int status = app.exit(done);
    if (std::ferror(stdout) != 0) output_error = errno;
    return status;
  } catch (const CLI::ParseError& error) {
    std::string name;
    const CLI::App* command = CommandOf(app, name);
    if (command->remaining().empty() && command->get_require_subcommand_min() > 0 &&
        command->get_subcommands().empty()) {
      std::fputs(app.help().c_str(), stderr);  // `tamias` alone
      return kBadInput;
    }
    return Fail(Describe(app, error).c_str(), kBadInput);
  } catch (const tamias::Error& error) {
    return Fail(Describe(app, error).c_str(), ExitStatus(error.code()));
  } catch (const std::bad_alloc&) {
    return Fail("out of memory", kFailure);
  } catch (const std::system_error& error) {
    if (std::ferror(stdout) == 0) return Fail(error.what(), kFailure);
    output_error = error.code().value();
  } catch (const std::exception& error) {
    return Fail(error.what(), kFailure);
  }
  return 0;
}

// Output that is lost is a failure, said once; a reader that has gone has heard enough.
int FlushedStatus(int status, int output_error) {
  try {
    if (tamias::cli::FlushOutput(output_error) || status != 0) return status;
    return kFailure;
  } catch (const tamias::Error& error) {
    return status != 0 ? status : Fail(error.what(), ExitStatus(error.code()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  tamias::cli::PrepareProcess();
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
  tamias::cli::AddServeCommand(app);
  RefuseEmptyValues(app);
  int output_error = 0;
  const int status = RunCommand(app, argc, argv, output_error);
  return FlushedStatus(status, output_error);
}
