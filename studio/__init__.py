"""What artists see and what is kept: jobs, queue, artists, gallery, provenance, settings, HTTP."""
