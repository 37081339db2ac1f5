"""Files judged without a config."""
