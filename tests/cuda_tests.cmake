# The tests of GPU kernels and of the engine on a GPU, tests/*/cuda/*_test.cc, in two programs from the
# same sources:
#   cuda_emulation_test  kernels compiled for the CPU against tests/cuda_emulator: needs no CUDA at all.
#                        They define everything that the library has in *.cu or without_*.cc, so that
#                        the linker takes none of those from its archive and the whole engine in this
#                        program runs on the emulated device, which has those for compute capability
#                        9.0a alone (*_sm90a.cu) as well.
#                        Left out under sanitizers: neither follows a program that changes stacks by
#                        longjmp (address: false stack errors; thread: one clock for all fibers).
#                        With the Python package, python_emulated/ in the build tree is that package over
#                        the same kernels, whose GPU is the emulated one.
#   cuda_device_test     kernels as the library has them, on the GPU; built here, run by tools/gpu_check.
set(TAMIAS_TEST_ROOT ${PROJECT_SOURCE_DIR} CACHE STRING
    "Where the GPU tests find tests/data and models; '.' in an archive of tools/gpu_check")
file(GLOB cuda_tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*/cuda/*_test.cc)
# Emulated alone: a machine with a GPU may lack the server's packages.
set(serve_cuda_tests ${cuda_tests})
list(FILTER serve_cuda_tests INCLUDE REGEX "/serve/cuda/")
list(FILTER cuda_tests EXCLUDE REGEX "/serve/cuda/")

function(tamias_add_cuda_test name)
  add_executable(${name} ${ARGN})
  tamias_set_warnings(${name})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${name} PRIVATE TAMIAS_TEST_DATA="${TAMIAS_TEST_ROOT}/tests/data"
                                             TAMIAS_SOURCE_DIR="${TAMIAS_TEST_ROOT}")
  target_link_libraries(${name} PRIVATE tamias GTest::gmock GTest::gtest_main OpenMP::OpenMP_CXX
                                        fmt::fmt nlohmann_json::nlohmann_json)
endfunction()

if(NOT TAMIAS_SANITIZE)
  file(GLOB_RECURSE kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/*.cu)
  list(APPEND kernels ${PROJECT_SOURCE_DIR}/src/ops/cuda/linear_plan.cc)
  file(GLOB emulator CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda_emulator/*.cc)
  set_source_files_properties(${kernels} PROPERTIES LANGUAGE CXX)
  list(FILTER emulator EXCLUDE REGEX "_test[.]cc$")
  add_library(cuda_emulation OBJECT ${kernels} ${emulator})
  tamias_set_warnings(cuda_emulation)
  target_include_directories(cuda_emulation PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR})
  target_compile_definitions(cuda_emulation PRIVATE TAMIAS_CUDA_EMULATION)
  target_link_libraries(cuda_emulation PRIVATE tamias OpenMP::OpenMP_CXX fmt::fmt)
  file(GLOB emulator_tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda_emulator/*_test.cc)
  tamias_add_cuda_test(cuda_emulation_test ${cuda_tests} ${emulator_tests})
  target_compile_definitions(cuda_emulation_test PRIVATE TAMIAS_CUDA_EMULATION)
  target_link_libraries(cuda_emulation_test PRIVATE cuda_emulation)
  if(TARGET tamias-serve)
    target_sources(cuda_emulation_test PRIVATE ${serve_cuda_tests})
    target_link_libraries(cuda_emulation_test PRIVATE tamias-serve)
  endif()
  # Loops carry "#pragma unroll" for nvcc. Misaligned accesses end a launch (alignment.cc); the
  # sanitizer's library is not linked. The scheduler has no accesses for kernels, and no time.
  list(FILTER emulator EXCLUDE REGEX "/block[.]cc$")
  set_source_files_properties(${kernels} ${emulator} ${emulator_tests} PROPERTIES
                              COMPILE_OPTIONS "-Wno-unknown-pragmas;-fsanitize=alignment")
  gtest_discover_tests(cuda_emulation_test TEST_PREFIX "emulated." DISCOVERY_MODE PRE_TEST
                       PROPERTIES LABELS unit TIMEOUT 900 ENVIRONMENT OMP_WAIT_POLICY=passive)
  if(TAMIAS_BUILD_PYTHON)
    # The emulator reads the symbols of kernels.
    tamias_add_python_package(tamias-python-emulated ${PROJECT_BINARY_DIR}/python_emulated/tamias NOSTRIP)
    target_link_libraries(tamias-python-emulated PRIVATE cuda_emulation)
  endif()
endif()

if(TAMIAS_WITH_CUDA AND cuda_tests)
  tamias_add_cuda_test(cuda_device_test ${cuda_tests})
endif()
