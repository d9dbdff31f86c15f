// All kernels as one source: most of what compiling takes is reading XLA's header.

#include "channel_sums.cc"
#include "convolution.cc"
#include "filter_gradient.cc"
