// The commands of `tamias`: each registers itself with its options, help and examples; its callback
// does the work and throws tamias::Error when it cannot.
#pragma once

#include <CLI/CLI.hpp>

namespace tamias::cli {

void AddGenerateCommand(CLI::App& app);
void AddDecodeCommand(CLI::App& app);
void AddCompareCommand(CLI::App& app);
void AddBenchCommand(CLI::App& app);
void AddInspectCommand(CLI::App& app);
void AddTuneCommand(CLI::App& app);
void AddServeCommand(CLI::App& app);

}  // namespace tamias::cli
