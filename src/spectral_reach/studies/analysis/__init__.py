"""What the runs of a study say: frontiers, late averages, rank correlation."""
