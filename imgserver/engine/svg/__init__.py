"""SVG: read here, judged here, and written again for librsvg, so that it draws nothing that was not judged.

`parser.py` reads the XML (any encoding, internal entities only), `natural_size.py` finds the size by the rules of CSS,
`embedded.py` judges images in data URLs, `drawing.py` draws at any size. The text that librsvg gets is UTF-8 without
DOCTYPE, entities, processing instructions, scripts, and references to other files.
"""

from imgserver.engine.svg.drawing import Drawing, open_drawing

__all__ = ["Drawing", "open_drawing"]
