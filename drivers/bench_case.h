// One case from its inputs to its verdict: plan, run, repeat, verify, record.
#pragma once

#include <functional>

#include "drivers/prospect.h"
#include "results/record.h"
#include "suite/measure.h"

namespace longseq {

/// The case's record, verdict and all. `seen` is called after each counted repetition. Throws on all ranks
/// what making the inputs throws. Collective.
CaseRecord run_case(const Launch& launch, const Prospect& prospect,
                    const std::function<void(const Measurement&)>& seen);

}  // namespace longseq
