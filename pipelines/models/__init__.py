"""Find, load and place models: one file per family."""
