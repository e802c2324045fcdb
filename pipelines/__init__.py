"""The denoising: recipes, models, and the one loop that every picture comes from.

Never imports gradio or studio. Modules that need no torch (`recipe`, `samplers`, `models.find`) do not
import it, so that a page can be served while torch is still loading.
"""
