"""How fast the refinement is: against the plain loop, and against what the device could do."""
