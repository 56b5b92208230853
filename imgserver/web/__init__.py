"""HTTP on top of the service: routes, answers, and the one place where everything is put together (`app.py`)."""
