// longseq: benchmarks of attention over long sequences on clusters. A thin main: find the subcommand, start
// MPI if it wants it, and end every rank together whatever happens.
#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "drivers/commands.h"
#include "drivers/ending.h"
#include "suite/code_version.h"
#include "suite/spelling.h"

namespace longseq {
namespace {

std::string usage() {
  std::string text =
      "longseq measures attention over long sequences, sharded over MPI ranks.\n\n"
      "Usage: [mpirun -n P] longseq COMMAND [OPTIONS]\n\nCommands:\n";
  for (const Subcommand& command : kSubcommands)
    text += fmt::format("  {:<10} {}\n", command.name, command.summary);
  text += "\n`longseq COMMAND --help` explains a command; `longseq --version` names this build.\n";
  return text;
}

const Subcommand& find_subcommand(const std::string& name) {
  std::vector<std::string> names;
  for (const Subcommand& command : kSubcommands) {
    if (command.name == name) return command;
    names.emplace_back(command.name);
  }
  throw std::invalid_argument(fmt::format("unknown command '{}'; expected {}; hint: did you mean {}?", name,
                                          any_of(names), nearest(name, names)));
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    std::fputs(usage().c_str(), arguments.empty() ? stderr : stdout);
    return arguments.empty() ? 2 : 0;
  }
  if (arguments[0] == "--version") {
    fmt::print("longseq {}\n", describe(code_version()));
    return 0;
  }
  const Subcommand& command = find_subcommand(arguments[0]);
  const Arguments rest = Arguments(arguments).subspan(1);
  return command.uses_mpi ? run_with_mpi([&] { return command.run(rest); })
                          : run_alone([&] { return command.run(rest); });
}

}  // namespace
}  // namespace longseq

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return longseq::run_alone([&] { return longseq::run(arguments); });
}
