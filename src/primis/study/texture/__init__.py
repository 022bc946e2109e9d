"""Texture of restored images: the paper's Fig. 8."""
