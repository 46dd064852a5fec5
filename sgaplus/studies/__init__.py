"""Studies: grids of refinements as YAML, what of them is stored, and their execution."""
