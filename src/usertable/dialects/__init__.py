"""Wire formats of other platforms, each in its own folder, with the common interface in `base.py`."""
