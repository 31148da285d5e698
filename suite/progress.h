// One line that tells how far a sweep is, rewritten in place. Only rank 0 has it, only on a terminal.
#pragma once

#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

namespace longseq {

class Progress {
 public:
  /// Shows nothing at all unless `shown`.
  Progress(std::FILE* stream, bool shown) : stream_(stream), shown_(shown) {}

  /// Case number k, from 1, of n begins.
  void begin_case(int k, int n, std::string_view label);

  /// So many repetitions are done; median in seconds and its interval's half width as a fraction of it.
  void repetition(int done, double median, std::optional<double> half_width);

  /// Wipes the line, so that whatever is printed next starts at the margin.
  void clear();

 private:
  void show(std::string_view line);

  std::FILE* stream_;
  bool shown_;
  std::string case_;
};

/// Whether this rank should show progress on stderr: rank 0, and `mode` "on", or "auto" and stderr is a
/// terminal. (Under mpirun stderr is a pipe even on a terminal: a script that knows better says "on".)
bool progress_wanted(int rank, std::string_view mode);

}  // namespace longseq
