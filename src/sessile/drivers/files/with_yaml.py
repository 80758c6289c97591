"""`YamlStorage` where its library is installed: importing this says what is missing, as with other databases."""

from . import yaml_format as yaml_format
from .storage import YamlStorage

__all__ = ["YamlStorage"]
