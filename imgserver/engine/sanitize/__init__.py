"""What the decoders get of a file: its image data, and metadata within bounds.

Hostile metadata can cost libvips seconds (see `exif`), and harmless faults of a file hide those that cost pixels (see
`jpeg`). Each module reads one container.
"""
