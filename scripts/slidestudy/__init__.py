"""slidestudy: from whole-slide images of several cohorts to validated and explained models."""

__version__ = "0.1.0"
