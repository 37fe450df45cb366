# ccache, where it is installed: Torch's headers take about ten seconds a file.
find_program(EPD_CCACHE ccache)
if(EPD_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The sloppiness is what ccache asks for before it handles precompiled headers.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${EPD_CCACHE})
endif()
