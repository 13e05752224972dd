"""`slidestudy init`: a configuration and its tables for a folder of slides."""
