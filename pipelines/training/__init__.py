"""Makes the embedded model again, from the data pack to the shipped Stable Diffusion folder.

The stages, in order: `pack` (pictures and captions), `autoencoder`, `diffusion`, `export`.
"""
