// `tamias serve`: the engine behind HTTP, with a page to look at.
#include "serve/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "command_files.h"
#include "commands.h"
#include "common_options.h"
#include "interrupt.h"
#include "number_options.h"

namespace tamias::cli {
namespace {

constexpr char kExamples[] = R"(Examples:
  tamias serve --model models/demo-flux
  tamias serve --model models/demo-flux --model models/demo-video --output-dir results --concurrent 2
  tamias serve --model FLUX.1-dev --listen 0.0.0.0:8188 --api-key-file keys.txt --max-queue 200
  tamias serve --model FLUX.1-dev --model Wan2.1-T2V-14B --max-model-memory 64GiB --dtype bf16

  curl http://127.0.0.1:8188/v1/images/generations -H 'Content-Type: application/json' \
      -d '{"prompt": "a small red heart at the center on a grey background", "response_format": "url"}')";

// Containers are given ten seconds between SIGTERM and SIGKILL.
constexpr auto kGrace = std::chrono::seconds(8);
constexpr auto kLookForSignal = std::chrono::milliseconds(50);

struct Options {
  serve::ServerOptions server;
  std::string listen = "127.0.0.1:8188";
  std::string api_key_file;
  std::string jobs;
  std::string output_folder = "tamias-serve";
  int64_t max_queue = 64;
  bool quiet = false;
};

void PrintRecovered(const serve::Service::Recovered& recovered) {
  const auto print = [](int count, const char* what) {
    if (count > 0) fmt::print("jobs of the last run {}: {}\n", what, count);
  };
  print(recovered.queued, "queued again");
  print(recovered.cancelled, "cancelled, since their clients are gone");
  print(recovered.failed, "given up after ending the server too often");
}

void Run(Options& options) {
  serve::ServerOptions& server_options = options.server;
  server_options.listen = serve::ParseListenAddress(options.listen);
  if (!options.api_key_file.empty()) server_options.api_key_file = options.api_key_file;
  server_options.output_folder = options.output_folder;
  server_options.jobs = options.jobs.empty() ? server_options.output_folder / "jobs.sqlite"
                                             : std::filesystem::path(options.jobs);
  CommandFiles files;
  for (const auto& model : server_options.models) files.AddInput("--model", model);
  files.AddInput("--api-key-file", options.api_key_file);
  files.AddOutput("--output-dir", server_options.output_folder);
  files.AddOutput("--jobs", server_options.jobs);
  server_options.max_queue = static_cast<size_t>(std::max<int64_t>(options.max_queue, 0));
  if (!options.quiet) {
    server_options.log = [](const std::string& line) {
      std::fputs(("tamias: " + line + "\n").c_str(), stderr);
    };
  }
  const RememberSignals signals;
  serve::Server server(server_options);
  PrintRecovered(server.recovered());
  serve::ListenAddress address = server_options.listen;
  address.port = server.port();
  fmt::print("serving on http://{}\n", address.Text());
  std::fflush(stdout);
  std::thread http([&] { server.Run(); });
  while (!Interrupted()) std::this_thread::sleep_for(kLookForSignal);
  fmt::print("stopping: jobs under way have {} s to finish, others wait for the next start\n",
             kGrace.count());
  std::fflush(stdout);
  server.Stop(kGrace);
  http.join();
}

}  // namespace

void AddServeCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("serve", "Serve models over HTTP, with a page to generate and compare");
  auto options = std::make_shared<Options>();
  serve::ServerOptions& server = options->server;
  command
      ->add_option("--model", server.models,
                   "Checkpoint folder in diffusers' layout; may be repeated; requests name a model "
                   "by its folder's name")
      ->required()
      ->type_name("DIR")
      ->expected(1)
      ->take_all();
  command
      ->add_option("--listen", options->listen,
                   "Where to listen; other than loopback needs --api-key-file; port 0 is any")
      ->type_name("ADDRESS:PORT")
      ->capture_default_str();
  command
      ->add_option("--api-key-file", options->api_key_file,
                   "Keys that may use the server, one a line, of at least 16 characters")
      ->type_name("FILE");
  command->add_option("--output-dir", options->output_folder, "Where pictures and films are kept")
      ->type_name("DIR")
      ->capture_default_str();
  command
      ->add_option("--jobs", options->jobs,
                   "Where jobs are kept; default: jobs.sqlite in --output-dir")
      ->type_name("FILE.sqlite");
  AddNumber(*command, "--max-queue", options->max_queue,
            "Jobs that may wait; more are told to come again (429)")
      ->type_name("N")
      ->default_str("64");
  AddNumber(*command, "--max-pixels", server.limits.max_pixels,
            "Width x height x frames of one result at most; default: four times the model's own")
      ->type_name("N");
  AddNumber(*command, "--max-steps", server.limits.max_steps, "Denoising steps at most")
      ->type_name("N")
      ->default_str("200");
  AddNumber(*command, "--concurrent", server.concurrent, "Jobs at a time, which share the CPUs")
      ->type_name("K")
      ->default_str("1");
  AddBytes(*command, "--max-model-memory", server.max_model_bytes,
           "Weights in memory at a time: models are loaded when they are needed, and the least "
           "recently used is let go for another; default: what this process may use")
      ->type_name("BYTES|8GiB");
  AddNumber(*command, "--max-requests-per-minute", server.max_requests_per_minute,
            "Requests of one key, without keys of one address; more are told to come again (429); "
            "0: any number")
      ->type_name("N")
      ->default_str("0");
  AddDeviceOption(*command, server.device);
  AddDTypeOption(*command, server.dtype);
  AddWeightDTypeOption(*command, server.weight_dtype);
  command->add_flag("--quiet", options->quiet, "No line for each job");
  command->footer(kExamples);
  command->callback([options] { Run(*options); });
}

}  // namespace tamias::cli
