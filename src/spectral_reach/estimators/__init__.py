"""Room 3: estimators of chi_net = Tr(J J^T) and of the noise-free gradient norm."""
