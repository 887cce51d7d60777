"""Brings a shop's own data into the store: files in, checked rows out, nothing lost silently."""

from jobs.importing.columns import ColumnMap
from jobs.importing.importer import Importer, PartReport
from jobs.importing.parts import ImportOptions, Kind

__all__ = ["ColumnMap", "ImportOptions", "Importer", "Kind", "PartReport"]
