// longseq data: list, inspect and make datasets.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <stdexcept>

#include "datasets/describe.h"
#include "datasets/make.h"
#include "drivers/commands.h"
#include "drivers/inputs.h"
#include "drivers/problem.h"
#include "suite/command_line.h"

namespace longseq {
namespace {

void list(const std::filesystem::path& data_dir) {
  fmt::print("{:<10} {:<8} {:>10} {:>12}  {}\n", "name", "format", "vocabulary", "bytes", "what it is");
  for (const CorpusStatus& status : list_corpora(data_dir)) {
    const CorpusRow& row = *status.corpus;
    fmt::print("{:<10} {:<8} {:>10} {:>12}  {}\n", row.name, row.format, row.vocabulary,
               status.bytes ? fmt::format("{}", *status.bytes) : "not made", row.description);
  }
  fmt::print("in {}; `longseq data make NAME` makes one. Any file will do too: PATH or PATH:FORMAT.\n",
             data_dir.string());
}

void info(const std::string& name, const std::filesystem::path& data_dir) {
  const CorpusInfo corpus = corpus_info(name, data_dir);
  fmt::print(
      "name             {}\ntokens           {}\nvocabulary       {}\ndistinct tokens  {}\nbytes            "
      "{}\n"
      "entropy          {:.4f} bits per token (unigrams)\nfirst tokens     {}\n",
      corpus.name, corpus.tokens, corpus.vocabulary, corpus.distinct_tokens, corpus.bytes,
      corpus.entropy_bits, fmt::join(corpus.first_tokens, " "));
}

const Command kCommand{
    .name = "data",
    .summary =
        "ACTION is `list`, `info NAME` or `make NAME`; NAME is one of the list's, or for info any file.",
    .options = {{"data-dir", "DIR", "where datasets lie (default: $LONGSEQ_DATA, else ./data)"}},
    .operands = {"ACTION", "NAME"},
    .takes_cases = false,
};

}  // namespace

int run_data(Arguments arguments) {
  const CommandLine line = parse_command_line(kCommand, arguments);
  if (line.help) {
    fmt::print("{}", help_text(kCommand, built_choices()));
    return 0;
  }
  const std::filesystem::path data_dir =
      line.has("data-dir") ? std::filesystem::path(line.at("data-dir")) : default_data_dir();
  const std::string action = line.operands.empty() ? "list" : line.operands[0];
  if (action == "list" && line.operands.size() < 2) {
    list(data_dir);
    return 0;
  }
  if (action != "info" && action != "make") {
    throw std::invalid_argument(fmt::format("data action is '{}'; expected list, info NAME or make NAME",
                                            fmt::join(line.operands, " ")));
  }
  if (line.operands.size() < 2) {
    throw std::invalid_argument(
        fmt::format("data {} has no name; expected one of {}", action, corpus_names()));
  }
  if (action == "info") {
    info(line.operands[1], data_dir);
  } else {
    fmt::print("{}\n", make_corpus(line.operands[1], data_dir).happened);
  }
  return 0;
}

}  // namespace longseq
