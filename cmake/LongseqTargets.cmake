# longseq_library(NAME SOURCES... [DEPENDS targets...]): one floor of the house.
# longseq_test(NAME SOURCES... DEPENDS targets... [RANKS 1 2 3]): a GoogleTest executable; with RANKS it is
#   run under mpirun once for each number of ranks and must call MPI itself (link longseq_mpi_test_main).
function(longseq_flags target)
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow)
  if(LONGSEQ_WERROR AND NOT LONGSEQ_SANITIZE)  # under sanitizers GCC warns of what it does not follow
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(LONGSEQ_SANITIZE)
    target_compile_options(${target} PUBLIC -fsanitize=address,undefined -fno-sanitize-recover=undefined
      -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=address,undefined)
  endif()
endfunction()

function(longseq_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  longseq_flags(${name})
  target_link_libraries(${name} PUBLIC ${ARG_DEPENDS})
endfunction()

function(longseq_test name)
  if(NOT LONGSEQ_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;RANKS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  longseq_flags(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  if(ARG_RANKS)
    target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} longseq_mpi_test_main GTest::gtest)
    foreach(ranks ${ARG_RANKS})
      add_test(NAME ${name}.ranks${ranks}
               COMMAND ${MPIEXEC_EXECUTABLE} --oversubscribe --bind-to none -n ${ranks} $<TARGET_FILE:${name}>)
      set_tests_properties(${name}.ranks${ranks} PROPERTIES TIMEOUT 300 PROCESSORS 2 ENVIRONMENT
        "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMPI_MCA_rmaps_base_oversubscribe=1;OMPI_MCA_mpi_yield_when_idle=1")
    endforeach()
  else()
    target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} GTest::gtest_main)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT 1200)  # under sanitizers, on two shared cores
  endif()
endfunction()
