#!/usr/bin/env bash
# Makes this machine ready to build, run and analyse longseq: system packages, then a Python environment in
# .venv. Safe to call before everything else: when nothing is missing it is done in a second.
set -euo pipefail

usage() {
  cat <<'END'
Usage: scripts/setup.sh [--no-packages] [--no-python] [--peers] [--slurm] [--help]

  --no-packages  leave the system alone; what is missing is for CMake to say
  --no-python    make no Python environment
  --peers        also install scripts/requirements-peers.txt (PyTorch, for scripts/peers.py) into the environment:
                 about 5 GB, since PyPI's wheel for Linux requires the CUDA libraries; a PyTorch that is there
                 already, such as one of https://download.pytorch.org/whl/cpu, is kept
  --slurm        also install Slurm's daemons, for scripts/cluster/try_slurm.sh

On Debian and Ubuntu, as root or with passwordless sudo, what is missing is installed with apt-get. Elsewhere
the script names what is missing and ends with status 1. PYTHON=... chooses the interpreter for .venv.
END
}

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
packages=yes python_environment=yes peers=no slurm=no
for argument in "$@"; do
  case $argument in
    --no-packages) packages=no ;;
    --no-python) python_environment=no ;;
    --peers) peers=yes ;;
    --slurm) slurm=yes ;;
    --help) usage; exit 0 ;;
    *) echo "setup.sh: unknown option '$argument'; see scripts/setup.sh --help" >&2; exit 2 ;;
  esac
done

# need | how its presence is shown | Debian package(s) | Spack and conda-forge name
#   command X    X is on the PATH
#   library P H  pkg-config knows P, or the compiler finds the header H (a module may set only search paths)
#   module P     pkg-config knows P: CMake asks nobody else (another BLAS's cblas.h would not do)
#   data X       a Debian package with data; other systems do without (datasets can come from a path or a URL)
needs='
C++20 compiler|command c++|g++|gcc
CMake|command cmake|cmake|cmake
Ninja|command ninja|ninja-build|ninja
pkg-config|command pkg-config|pkg-config|pkgconf
ccache|comfort ccache|ccache|ccache
MPI compiler|command mpicc|libopenmpi-dev|openmpi
MPI launcher|command mpirun|openmpi-bin|openmpi
oneTBB|library tbb tbb/version.h|libtbb-dev|intel-tbb
parallel HDF5|library hdf5-mpi hdf5.h|libhdf5-openmpi-dev|hdf5+mpi
HDF5 tools|comfort h5dump|hdf5-tools|hdf5
Google Benchmark|library benchmark benchmark/benchmark.h|libbenchmark-dev|benchmark
Boost.Program_options|library boost-none boost/program_options.hpp|libboost-program-options-dev|boost
Boost.Math|library boost-none boost/math/distributions/binomial.hpp|libboost-dev|boost
Google Highway|module libhwy|libhwy-dev|highway
CBLAS (OpenBLAS)|module openblas|libopenblas-serial-dev|openblas
hwloc|module hwloc|libhwloc-dev|hwloc
fmt|library fmt fmt/format.h|libfmt-dev|fmt
GoogleTest|library gtest gtest/gtest.h|libgtest-dev|googletest
zlib|library zlib zlib.h|zlib1g-dev|zlib
iproute2|comfort ip|iproute2|iproute2
English text|data bible-kjv|bible-kjv|
genome|data bowtie-examples|bowtie-examples|
'
[[ $slurm == no ]] || needs+='
MUNGE|command munged|munge|munge
Slurm controller|command slurmctld|slurmctld|slurm
Slurm node daemon|command slurmd|slurmd|slurm
Slurm commands|command sbatch|slurm-client|slurm
'

has_command() { command -v "$1" >/dev/null 2>&1; }
is_debian() { has_command dpkg-query && has_command apt-get; }

has_header() {
  has_command c++ || return 1
  # CMAKE_PREFIX_PATH is how modules and Spack name what CMake will find.
  local prefix prefixes include=()
  IFS=':;' read -ra prefixes <<<"${CMAKE_PREFIX_PATH:-}:${HDF5_ROOT:-}:${CONDA_PREFIX:-}"
  for prefix in "${prefixes[@]}"; do
    [[ -z $prefix ]] || include+=("-I$prefix/include")
  done
  printf '#if !__has_include(<%s>)\n#error absent\n#endif\n' "$1" |
    c++ -std=c++20 "${include[@]}" -x c++ -fsyntax-only - >/dev/null 2>&1
}

is_present() {
  case $1 in
    command) has_command "$2" ;;
    library) { has_command pkg-config && pkg-config --exists "$2"; } || has_header "$3" ;;
    module) has_command pkg-config && pkg-config --exists "$2" ;;
    comfort) has_command "$2" || ! is_debian ;;
    data) ! is_debian || [[ $(dpkg-query -W -f '${db:Status-Status}' "$2" 2>/dev/null) == installed ]] ;;
  esac
}

missing_names=() missing_packages=() missing_elsewhere=()
find_missing() {
  local name probe package elsewhere words
  while IFS='|' read -r name probe package elsewhere; do
    [[ -n $name ]] || continue
    read -ra words <<<"$probe"
    is_present "${words[@]}" && continue
    missing_names+=("$name")
    missing_packages+=("$package")
    missing_elsewhere+=("$elsewhere")
  done <<<"$needs"
}

# The python3 that can make an environment: the first on the PATH that has venv and ensurepip.
find_python() {
  local candidate
  while IFS= read -r candidate; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
      echo "$candidate"
      return 0
    fi
  done < <(if [[ -n ${PYTHON:-} ]]; then type -aP "$PYTHON"; else type -aP python3; fi)
  return 1
}

as_root() { if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi; }
may_be_root() { ((EUID == 0)) || { has_command sudo && sudo -n true 2>/dev/null; }; }

install_missing() {
  echo "setup: missing: $(printf '%s, ' "${missing_names[@]}" | sed 's/, $//')"
  if ! is_debian; then
    cat >&2 <<END
setup: this is not Debian or Ubuntu, so nothing was installed. Any of these gets what is missing:
  module load  ...   (the site's modules: 'module avail'; MPI and parallel HDF5 should be the site's own)
  spack install ${missing_elsewhere[*]}   then: spack load ...
  conda install -c conda-forge ${missing_elsewhere[*]/hdf5+mpi/"hdf5=*=mpi_openmpi*"}
Then call this again; with --no-packages it leaves the search to CMake (CMAKE_PREFIX_PATH, HDF5_ROOT).
END
    exit 1
  fi
  if ! may_be_root; then
    echo "setup: installing needs root or passwordless sudo; have someone run this, or load modules:" >&2
    echo "  apt-get install ${missing_packages[*]}" >&2
    exit 1
  fi
  echo "setup: apt-get install ${missing_packages[*]}"
  local log
  log=$(mktemp)
  # Slim images leave out documentation, where the genome lies.
  if ! { as_root apt-get update -q &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
      -o Dpkg::Options::=--path-include='/usr/share/doc/bowtie/examples/genomes/*' \
      "${missing_packages[@]}"; } </dev/null >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "setup: apt-get failed; the lines above are the end of its output ($log)" >&2
    exit 1
  fi
  rm -f "$log"
}

make_python_environment() {
  local requirements=$repository/scripts/requirements.txt venv=$repository/.venv stamp python
  stamp=$venv/requirements.installed
  # The stamp is written last, so that an interrupted installation is made anew.
  if ! { cmp -s "$requirements" "$stamp" && "$venv/bin/python" -c '' 2>/dev/null; }; then
    if ! python=$(find_python); then
      echo "setup: no python3 (3.9 or newer) with venv and ensurepip on the PATH; on Debian install" \
        "python3-venv, elsewhere load a Python module or set PYTHON=..." >&2
      exit 1
    fi
    echo "setup: making the Python environment .venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$stamp"
  fi
  if [[ $peers == yes ]]; then
    "$venv/bin/python" -m pip show --quiet torch 2>/dev/null || echo "setup: installing PyTorch, about 5 GB"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      -r "$repository/scripts/requirements-peers.txt"
  fi
}

if [[ $packages == yes ]]; then
  find_missing
  if [[ $python_environment == yes ]] && is_debian && ! find_python >/dev/null; then
    missing_names+=("Python environments")
    missing_packages+=(python3-venv)
    missing_elsewhere+=(python)
  fi
  ((${#missing_names[@]} == 0)) || install_missing
fi
[[ $python_environment == no ]] || make_python_environment
