# CUDA: whether it is built, for which GPUs, and how. TAMIAS_CUDA: AUTO (with nvcc 12.4 or later),
# ON (required) or OFF. A library built with CUDA still runs on machines without a GPU or a driver: the
# runtime is linked statically, and cuda::DeviceCount() is 0 there.
if(TAMIAS_SANITIZE OR TAMIAS_BUILD_FUZZERS)
  set(cuda_default OFF)
else()
  set(cuda_default AUTO)
endif()
set(TAMIAS_CUDA ${cuda_default} CACHE STRING "GPU kernels: AUTO, ON or OFF")
set_property(CACHE TAMIAS_CUDA PROPERTY STRINGS AUTO ON OFF)
# 80 with its PTX runs on every GPU since the A100. "80;86;89;90;100;120" spares newer ones the
# compilation at the first launch. 90a stands for the kernels that only the H100 and its like run
# (*_sm90a.cu): they are compiled for nothing else, and the other kernels not for it.
set(TAMIAS_CUDA_ARCHITECTURES "80;90a" CACHE STRING "Compute capabilities to build GPU kernels for")

set(TAMIAS_WITH_CUDA OFF)
if(TAMIAS_CUDA STREQUAL "AUTO" OR TAMIAS_CUDA)
  set(quiet)
  if(TAMIAS_CUDA STREQUAL "AUTO")
    set(quiet QUIET)
  endif()
  find_package(CUDAToolkit 12.4 ${quiet})
  if(CUDAToolkit_FOUND AND TARGET CUDA::cudart_static)
    set(TAMIAS_WITH_CUDA ON)
  elseif(NOT TAMIAS_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "TAMIAS_CUDA is ON, but no CUDA toolkit 12.4 or later was found")
  endif()
endif()

# cublasLt.h: of the toolkit, or of the PyPI package nvidia-cublas (scripts/setup). The library itself is
# loaded at run time.
if(TAMIAS_WITH_CUDA)
  file(GLOB python_includes
       ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/cu${CUDAToolkit_VERSION_MAJOR}/include
       ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/cublas/include)
  find_path(TAMIAS_CUBLASLT_INCLUDE cublasLt.h HINTS ${CUDAToolkit_INCLUDE_DIRS} PATHS ${python_includes})
endif()

if(TAMIAS_WITH_CUDA)
  set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE} CACHE FILEPATH "nvcc")
  set(CMAKE_CUDA_ARCHITECTURES ${TAMIAS_CUDA_ARCHITECTURES})
  if(NOT TAMIAS_CUDA_ARCHITECTURES STREQUAL "90a")
    list(REMOVE_ITEM CMAKE_CUDA_ARCHITECTURES 90a)
  endif()
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc 12 has C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  # fmt 9 takes nvcc for a compiler without constexpr and then fails to compile in C++20.
  add_compile_definitions("$<$<COMPILE_LANGUAGE:CUDA>:FMT_USE_CONSTEXPR=1>")
  # Kernels call constexpr functions of the host: tile schedules, CounterRandom.
  add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>")
  message(STATUS "CUDA ${CUDAToolkit_VERSION}: kernels for ${TAMIAS_CUDA_ARCHITECTURES}")
else()
  message(STATUS "CUDA: not built")
endif()
