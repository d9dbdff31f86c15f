"""A trained model as files that run without this package; `targets.EXPORTERS` has one a format."""
