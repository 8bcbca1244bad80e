"""Other people's wire formats, each in a folder of its own behind the seam in `base.py`."""
