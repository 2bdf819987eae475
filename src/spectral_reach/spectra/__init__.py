"""The spectrum behind chi_pos: kernels that fit as matrices, and those that are known by their products alone."""
