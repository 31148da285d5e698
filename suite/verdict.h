// The verdict on a case, three axes. The figure of merit is withheld unless all three hold.
#pragma once

#include <string>
#include <vector>

namespace longseq {

struct Verdict {
  bool valid = false;      // the output agrees with the reference, the counted traffic with the plan's
  bool converged = false;  // the stopping rule was content
  bool clean = false;      // the environment disturbed nothing
  std::vector<std::string> reasons;  // one for each breach of any axis
};

/// Whether the figure of merit may be shown.
bool holds(const Verdict& verdict);

/// "VALID CONVERGED CLEAN", a failed axis with NOT before it.
std::string axes(const Verdict& verdict);

}  // namespace longseq
