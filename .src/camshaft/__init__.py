"""camshaft: from image-level tags to segmentation masks and a segmentation network."""

__version__ = "0.1.0"
