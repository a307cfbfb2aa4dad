# tamias_add_python_package(<target> <folder> [NOSTRIP]): the Python package in a folder of the build tree: the module
# tamias._tamias in C++ and, as links, the package's own files and the profiles. It targets the stable ABI of CPython
# 3.10, with nanobind's backend from PyPI, so that one wheel serves every later version.
macro(tamias_find_python)
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
  execute_process(COMMAND ${Python_EXECUTABLE} -m nanobind --cmake_dir
                  OUTPUT_VARIABLE nanobind_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  find_package(nanobind 3.1 CONFIG REQUIRED)
endmacro()

function(tamias_add_python_package target folder)
  tamias_find_python()
  set(source ${PROJECT_SOURCE_DIR}/python)
  file(GLOB sources CONFIGURE_DEPENDS ${source}/src/*.cc)
  nanobind_add_module(${target} ${ARGN} BACKEND_MODULE nanobind_backend NOMINSIZE NB_SUPPRESS_WARNINGS ${sources})
  tamias_set_warnings(${target})
  # Exported symbols of the library would meet those of other copies in the process.
  target_link_options(${target} PRIVATE -Wl,--exclude-libs,ALL)
  target_link_libraries(${target} PRIVATE tamias)
  set_target_properties(${target} PROPERTIES OUTPUT_NAME _tamias LIBRARY_OUTPUT_DIRECTORY ${folder})
  file(GLOB_RECURSE files CONFIGURE_DEPENDS RELATIVE ${source}/tamias ${source}/tamias/*.py ${source}/tamias/py.typed)
  foreach(file ${files})
    get_filename_component(subfolder ${folder}/${file} DIRECTORY)
    file(MAKE_DIRECTORY ${subfolder})
    file(CREATE_LINK ${source}/tamias/${file} ${folder}/${file} SYMBOLIC)
  endforeach()
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/configs ${folder}/configs SYMBOLIC)
endfunction()
