"""The experiment config: strict models and YAML in and out."""
