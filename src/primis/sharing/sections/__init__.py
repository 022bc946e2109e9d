"""What a bundle seals whole besides the code (docs/format.md, sections 4 and 6).

Each section has a budget that geometry and settings dictate, so that its size tells nothing.
"""
