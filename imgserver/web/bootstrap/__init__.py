"""Turns settings into objects. `web/app.py` puts them together."""
