"""Weight files of other frameworks and releases: reading, reporting, writing; knows no model."""
