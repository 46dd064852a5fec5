"""What stored rows say: arms of a study in words, paired comparisons, Bjøntegaard deltas, verdicts."""
