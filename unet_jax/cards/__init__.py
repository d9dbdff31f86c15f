"""Cards: what an evaluation found, with the counts from which every number comes again."""
